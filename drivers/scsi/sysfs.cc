// SPDX-License-Identifier: Apache-2.0
#include "scsi/sysfs.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>

#include "scsi/complaint.h"

namespace aiolos::scsi {
namespace {

std::string trimmed(const std::string& text) {
  constexpr std::string_view kSpace = " \t\n";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

}  // namespace

bool Sysfs::exists(std::string_view relative) const {
  std::error_code ignored;
  return std::filesystem::exists(path(relative), ignored);
}

std::optional<std::string> Sysfs::attribute(std::string_view relative) const {
  std::ifstream file(path(relative));
  if (!file) return std::nullopt;
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) return std::nullopt;
  return trimmed(text);
}

std::vector<std::string> Sysfs::entries(std::string_view folder) const {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry(path(folder), error);
  for (; !error && entry != std::filesystem::directory_iterator(); entry.increment(error))
    names.push_back(entry->path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::optional<std::string> Sysfs::resolve(std::string_view relative) const {
  std::error_code error;
  const std::filesystem::path target = std::filesystem::canonical(path(relative), error);
  if (error) return std::nullopt;
  return target.string();
}

Result<void> Sysfs::write(sdk::Call& call, std::string_view relative, std::string_view value,
                          std::chrono::milliseconds timeout) const {
  const std::string attribute = path(relative);
  AIOLOS_TRY(const CommandResult done, call.run(Command{{"tee", attribute}, std::string(value), timeout}));
  if (done.status == 0) return {};
  return sdk::fail(ErrorKind::storage,
                   "the kernel refused '" + std::string(value) + "' in " + attribute + ": " + complaint(done),
                   "look at the kernel's log for the reason");
}

bool wait_until(std::chrono::milliseconds timeout, const std::function<bool()>& answer) {
  constexpr std::chrono::milliseconds kInterval{50};
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (!answer()) {
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kInterval);
  }
  return true;
}

}  // namespace aiolos::scsi
