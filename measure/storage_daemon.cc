// SPDX-License-Identifier: Apache-2.0
#include "storage_daemon.h"

#include <fmt/format.h>
#include <unistd.h>

#include "aiolos/core/json.h"

namespace aiolos::measure {
namespace {

constexpr std::chrono::seconds kStart{20};
constexpr std::chrono::milliseconds kLook{5};

// As JSON, in which a path may hold commas.
void add(std::vector<std::string>& argv, const char* option, const Json& value) {
  argv.emplace_back(option);
  argv.push_back(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void add_export(std::vector<std::string>& argv, const std::string& node, const std::string& socket, bool writable) {
  add(argv, "--export",
      {{"type", "vhost-user-blk"},
       {"id", "export-" + node},
       {"node-name", node},
       {"writable", writable},
       {"addr", {{"type", "unix"}, {"path", socket}}}});
}

/// One node for the file and, as QEMU has it, one for the format on top.
std::string add_image(std::vector<std::string>& argv, const DaemonDisk& disk, AioMode mode, std::size_t index) {
  const std::string file = fmt::format("file{}", index);
  add(argv, "--blockdev",
      {{"driver", disk.block_device ? "host_device" : "file"},
       {"node-name", file},
       {"filename", disk.path},
       {"read-only", !disk.writable},
       {"aio", to_string(mode)},
       {"cache", {{"direct", true}}}});
  const std::string format = fmt::format("disk{}", index);
  add(argv, "--blockdev",
      {{"driver", disk.format},
       {"node-name", format},
       {"file", file},
       {"read-only", !disk.writable},
       {"cache", {{"direct", true}}}});
  return format;
}

}  // namespace

std::vector<std::string> daemon_command(const DaemonOptions& options) {
  std::vector<std::string> argv{"qemu-storage-daemon"};
  for (std::size_t i = 0; i < options.disks.size(); ++i)
    add_export(argv, add_image(argv, options.disks[i], options.mode, i), options.disks[i].socket,
               options.disks[i].writable);
  if (options.null_socket) {
    add(argv, "--blockdev",
        {{"driver", "null-co"}, {"node-name", "nothing"}, {"size", 1 << 30}, {"read-zeroes", true}});
    add_export(argv, "nothing", *options.null_socket, /*writable=*/false);
  }
  return argv;
}

Result<std::unique_ptr<BackgroundProcess>> start_daemon(const DaemonOptions& options, const TemporaryFolder& folder,
                                                        const Stop& stop) {
  // It writes the file once all exports listen, which is documented: qemu-storage-daemon(1), --pidfile.
  const std::string ready = folder / "ready";
  ::unlink(ready.c_str());
  std::vector<std::string> argv = daemon_command(options);
  argv.insert(argv.end(), {"--pidfile", ready});
  auto daemon = BackgroundProcess::start(argv, folder / "daemon");
  if (!daemon) return daemon;
  const auto until = std::chrono::steady_clock::now() + kStart;
  while (::access(ready.c_str(), F_OK) != 0) {
    if ((*daemon)->wait(kLook))
      return fail(ErrorKind::storage,
                  fmt::format("qemu-storage-daemon does not serve with aio={}: {}", to_string(options.mode),
                              last_line((*daemon)->output())),
                  "see what it says of the image: whether it is in use, or its storage refuses O_DIRECT");
    if (stop()) return stopped();
    if (std::chrono::steady_clock::now() > until)
      return fail(ErrorKind::retry, fmt::format("qemu-storage-daemon does not serve within {} s", kStart.count()),
                  "check that the storage answers, then try again");
  }
  return daemon;
}

}  // namespace aiolos::measure
