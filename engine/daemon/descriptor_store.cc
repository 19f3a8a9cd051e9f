// SPDX-License-Identifier: Apache-2.0
#include "descriptor_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <utility>

#include "log.h"

namespace aiolos::engine {
namespace {

UniqueFd another(int fd) { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }

/// Whether two descriptors are of one open file, as systemd compares them.
bool is_same(int one, int other) {
  const pid_t self = ::getpid();
  return ::syscall(SYS_kcmp, self, self, KCMP_FILE, one, other) == 0;
}

std::string prefix_of(std::string_view kind) { return fmt::format("aiolos-{}-", kind); }

/// The number at the end of a name of ours.
std::optional<std::uint64_t> number_of(std::string_view name) {
  if (!name.starts_with("aiolos-")) return std::nullopt;
  const std::string_view digits = name.substr(name.rfind('-') + 1);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

void remove(const std::string& name) { ::sd_notify(0, fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name).c_str()); }

}  // namespace

std::vector<NamedDescriptor> take_kept_descriptors() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(/*unset_environment=*/1, &names);
  std::vector<NamedDescriptor> kept;
  for (int i = 0; i < count; ++i) {
    kept.push_back({names[i], UniqueFd(SD_LISTEN_FDS_START + i)});
    std::free(names[i]);
  }
  std::free(names);
  return kept;
}

DescriptorStore::DescriptorStore(std::vector<NamedDescriptor> kept) {
  for (auto& [name, fd] : kept) {
    const auto number = number_of(name);
    if (!number) continue;  // not of this program
    next_number_ = std::max(next_number_, *number + 1);
    kept_[name].fd = std::move(fd);
  }
}

bool DescriptorStore::is_possible() {
  if (std::getenv("NOTIFY_SOCKET") == nullptr) return false;
  if (is_same(STDERR_FILENO, STDERR_FILENO)) return true;
  log_line(LogLevel::warning, "service manager",
           "kcmp(2) is refused, so it keeps no connections, and guests notice a restart: allow it (SystemCallFilter=, "
           "CONFIG_KCMP)");
  return false;
}

std::string DescriptorStore::put(int fd, std::string_view kind) {
  const std::lock_guard lock(mutex_);
  const auto known =
      std::find_if(kept_.begin(), kept_.end(), [&](const auto& each) { return is_same(each.second.fd.get(), fd); });
  if (known != kept_.end()) {
    ++known->second.users;
    return known->first;
  }
  std::string name = fmt::format("{}{}", prefix_of(kind), next_number_++);
  const int told = ::sd_pid_notify_with_fds(0, 0, fmt::format("FDSTORE=1\nFDNAME={}", name).c_str(), &fd, 1);
  if (told < 0) log_line(LogLevel::warning, "service manager", "it keeps no descriptor: " + errno_text(-told));
  kept_[name] = {another(fd), 1};
  return name;
}

UniqueFd DescriptorStore::use(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = kept_.find(name);
  if (found == kept_.end()) return {};
  ++found->second.users;
  return another(found->second.fd.get());
}

void DescriptorStore::release(const std::string& name) {
  const std::lock_guard lock(mutex_);
  const auto found = kept_.find(name);
  if (found == kept_.end() || --found->second.users > 0) return;
  remove(name);
  kept_.erase(found);
}

void DescriptorStore::release_unused() {
  const std::lock_guard lock(mutex_);
  std::erase_if(kept_, [](const auto& each) {
    if (each.second.users == 0) remove(each.first);
    return each.second.users == 0;
  });
}

std::map<std::uint64_t, std::string> DescriptorStore::names(std::string_view kind) const {
  const std::lock_guard lock(mutex_);
  const std::string prefix = prefix_of(kind);
  std::map<std::uint64_t, std::string> found;
  for (const auto& [name, kept] : kept_)
    if (name.starts_with(prefix))
      if (const auto number = number_of(name)) found[*number] = name;
  return found;
}

}  // namespace aiolos::engine
