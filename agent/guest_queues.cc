// SPDX-License-Identifier: Apache-2.0
#include "guest_queues.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "aiolos/core/base64.h"

namespace aiolos {
namespace {

using namespace std::chrono_literals;

constexpr auto kAnswer = 5s;
constexpr auto kAllAnswers = 30s;
// A name, a serial number or a count: what is longer is none of them.
constexpr unsigned kMostBytes = 256;
constexpr std::size_t kSerialBytes = 20;

/// It becomes a part of a path in the guest.
bool is_device_name(const std::string& name) {
  return !name.empty() && name.size() < 32 &&
         std::all_of(name.begin(), name.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); });
}

std::string without_space(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '\0')) text.pop_back();
  return text;
}

tl::unexpected<Error> no_sense(const std::string& what) {
  return fail(ErrorKind::refused, fmt::format("the guest's agent says nothing that makes sense of {}", what),
              "see the agent's own log");
}

std::string path_of(const std::string& device, const char* attribute) {
  return fmt::format("/sys/block/{}/{}", device, attribute);
}

}  // namespace

std::string seen_serial(const std::string& serial) { return serial.substr(0, kSerialBytes); }

GuestQueues::GuestQueues(GuestAgent& agent, Clock& clock, std::string domain)
    : agent_(agent), clock_(clock), domain_(std::move(domain)), deadline_(clock.now() + kAllAnswers) {}

Result<Json> GuestQueues::ask(const std::string& command, const Json& arguments) {
  if (!silent_ && clock_.now() >= deadline_)
    silent_ =
        Error{ErrorKind::retry,
              fmt::format("the agent of guest '{}' has not answered all within {} s", domain_, kAllAnswers.count()),
              "see what keeps it busy in the guest",
              {}};
  if (silent_) return tl::unexpected(*silent_);
  auto answer = agent_.ask(domain_, command, arguments, kAnswer);
  if (!answer && answer.error().kind != ErrorKind::refused) silent_ = answer.error();
  return answer;
}

Result<std::string> GuestQueues::read_file(const std::string& path) {
  const auto handle = ask("guest-file-open", {{"path", path}, {"mode", "r"}});
  if (!handle) return tl::unexpected(handle.error());
  const auto read = ask("guest-file-read", {{"handle", *handle}, {"count", kMostBytes}});
  const auto closed = ask("guest-file-close", {{"handle", *handle}});
  if (!read) return tl::unexpected(read.error());
  if (!closed) return tl::unexpected(closed.error());
  const auto content = read->find("buf-b64");
  const auto bytes =
      content != read->end() && content->is_string() ? base64_decode(content->get<std::string>()) : std::nullopt;
  if (!bytes) return no_sense(path);
  return without_space(*bytes);
}

Result<void> GuestQueues::write_file(const std::string& path, const std::string& text) {
  const auto handle = ask("guest-file-open", {{"path", path}, {"mode", "r+"}});  // "w" would make one where none is
  if (!handle) return tl::unexpected(handle.error());
  const auto written = ask("guest-file-write", {{"handle", *handle}, {"buf-b64", base64_encode(text)}});
  const auto flushed = ask("guest-file-flush", {{"handle", *handle}});  // the kernel's refusal comes here
  const auto closed = ask("guest-file-close", {{"handle", *handle}});
  for (const auto* const step : {&written, &flushed, &closed})
    if (!*step) return tl::unexpected(step->error());
  return {};
}

Result<std::map<std::string, std::string>> GuestQueues::disks() {
  const auto listed = ask("guest-get-disks", Json::object());
  if (!listed) return tl::unexpected(listed.error());
  if (!listed->is_array()) return no_sense("its disks");
  std::map<std::string, std::string> found;
  for (const Json& disk : *listed) {
    const std::string name = disk.is_object() && disk.contains("name") && disk["name"].is_string()
                                 ? disk["name"].get<std::string>()
                                 : std::string();
    if (!name.starts_with("/dev/vd") || !is_device_name(name.substr(5))) continue;
    if (disk.value("partition", Json()) == Json(true)) continue;
    const std::string device = name.substr(5);
    const auto number = serial(device);
    if (!number && silent_) return tl::unexpected(number.error());
    if (number && !number->empty()) found[*number] = device;
  }
  return found;
}

Result<std::string> GuestQueues::serial(const std::string& device) {
  if (!is_device_name(device)) return no_sense("a disk's name");
  return read_file(path_of(device, "serial"));
}

Result<unsigned> GuestQueues::depth(const std::string& device) {
  if (!is_device_name(device)) return no_sense("a disk's name");
  const auto text = read_file(path_of(device, "queue/nr_requests"));
  if (!text) return tl::unexpected(text.error());
  unsigned depth = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), depth);
  if (error != std::errc() || end != text->data() + text->size() || depth == 0) return no_sense("nr_requests");
  return depth;
}

Result<unsigned> GuestQueues::queues(const std::string& device, unsigned most) {
  if (!is_device_name(device)) return no_sense("a disk's name");
  unsigned found = 1;
  while (found < most && read_file(fmt::format("/sys/block/{}/mq/{}/nr_tags", device, found))) ++found;
  if (silent_) return tl::unexpected(*silent_);
  return found;
}

Result<void> GuestQueues::set_depth(const std::string& device, unsigned depth) {
  if (!is_device_name(device)) return no_sense("a disk's name");
  return write_file(path_of(device, "queue/nr_requests"), std::to_string(depth));
}

}  // namespace aiolos
