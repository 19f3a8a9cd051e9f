// SPDX-License-Identifier: Apache-2.0
// What this host's kernel says of itself: version, AIO budget, io_uring.
#include "aiolos/host/host_probe.h"

#include <fmt/format.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "aiolos/core/posix.h"
#include "small_file.h"

namespace aiolos {
namespace {

/// Tries a ring of one entry. seccomp, the sysctl and a kernel without io_uring all show here, and nowhere else alike.
int try_io_uring() {
  io_uring_params parameters{};
  const UniqueFd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 1, &parameters)));
  return ring ? 0 : errno;
}

template <typename Number>
std::optional<Number> read_number(const std::string& path) {
  const std::optional<std::string> text = read_small_file(path);
  Number value{};
  if (!text || text->empty()) return std::nullopt;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return value;
}

class KernelProbe final : public HostProbe {
 public:
  explicit KernelProbe(HostProbeOptions options) : options_(std::move(options)) {
    if (!options_.io_uring_setup) options_.io_uring_setup = try_io_uring;
  }

  Result<HostFacts> facts() override {
    HostFacts facts;
    if (const Version kernel = parse_version(release()); kernel != 0) facts.kernel = kernel;
    facts.io_uring_works = options_.io_uring_setup() == 0;
    facts.io_uring_disabled = read_number<int>(options_.proc + "/sys/kernel/io_uring_disabled");
    // The sysctl came with Linux 6.6; before it nothing could disable what works.
    if (!facts.io_uring_disabled && *facts.io_uring_works) facts.io_uring_disabled = 0;
    facts.aio_nr = read_number<std::uint64_t>(options_.proc + "/sys/fs/aio-nr");
    facts.aio_max_nr = read_number<std::uint64_t>(options_.proc + "/sys/fs/aio-max-nr");
    if (const long online = ::sysconf(_SC_NPROCESSORS_ONLN); online > 0) facts.cpus = static_cast<unsigned>(online);
    return facts;
  }

  std::optional<ProcessAio> process_aio(int pid, std::string_view argument) override {
    const std::string folder = fmt::format("{}/{}", options_.proc, pid);
    const std::optional<std::string> arguments = read_small_file(folder + "/cmdline");
    if (!arguments || arguments->find(argument) == std::string::npos) return std::nullopt;
    ProcessAio found;
    // Not a small file: a guest's QEMU has hundreds of mappings.
    std::ifstream maps(folder + "/maps");
    for (std::string line; std::getline(maps, line);) found.contexts += line.find("/[aio]") != std::string::npos;
    std::error_code gone;
    for (const auto& entry : std::filesystem::directory_iterator(folder + "/fd", gone))
      found.io_urings += std::filesystem::read_symlink(entry.path(), gone).string().ends_with("[io_uring]");
    return found;
  }

 private:
  std::string release() const {
    utsname name{};
    if (!options_.release.empty() || ::uname(&name) != 0) return options_.release;
    return name.release;
  }

  HostProbeOptions options_;
};

}  // namespace

std::unique_ptr<HostProbe> make_host_probe(HostProbeOptions options) {
  return std::make_unique<KernelProbe>(std::move(options));
}

}  // namespace aiolos
