// SPDX-License-Identifier: Apache-2.0
#include "session_keeper.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <set>
#include <utility>

#include "aiolos/core/json.h"
#include "aiolos/core/posix.h"
#include "log.h"

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view kRecord = "session";
constexpr std::string_view kDescriptor = "fd";
/// A guest can make QEMU send messages, and the service manager has others to serve, too.
constexpr auto kPause = 20ms;
constexpr off_t kLargestRecord = off_t{1} << 20;

Json to_json(const KeptSession& session) {
  Json messages = Json::array();
  for (const auto& [key, entry] : session.record.entries()) {
    const auto* const bytes = reinterpret_cast<const std::uint8_t*>(entry.message.payload.data());
    Json message = {{"request", entry.message.header.request},
                    {"payload", Json::binary({bytes, bytes + entry.message.header.size})}};
    if (SessionRecord::waits(key)) message["flags"] = entry.message.header.flags;
    if (const auto name = session.names.find(entry.serial); name != session.names.end()) message["fd"] = name->second;
    messages.push_back(std::move(message));
  }
  return {{"disk", session.disk}, {"socket", session.socket_name}, {"messages", std::move(messages)}};
}

std::optional<Json> read_record(int file) {
  struct stat status {};
  if (::fstat(file, &status) != 0 || status.st_size > kLargestRecord) return std::nullopt;
  std::vector<std::uint8_t> bytes(static_cast<std::size_t>(status.st_size));
  if (::pread(file, bytes.data(), bytes.size(), 0) != status.st_size) return std::nullopt;
  Json record = Json::from_cbor(bytes, true, /*allow_exceptions=*/false);
  if (!record.is_object()) return std::nullopt;
  return record;
}

/// @return whether the message makes sense, and its descriptor is there.
bool restore_message(KeptSession& session, const Json& entry, DescriptorStore& store) {
  const auto& payload = entry.at("payload").get_binary();
  Message message;
  if (payload.size() > message.payload.size()) return false;
  message.header = {entry.at("request").get<std::uint32_t>(), kVersion, 0};
  message.append(payload.data(), payload.size());
  const std::string name = entry.value("fd", "");
  if (!name.empty()) {
    message.fds.push_back(store.use(name));
    if (!message.fds.back()) return false;
    session.names.emplace(session.record.next_serial(), name);
  }
  const auto flags = entry.find("flags");
  if (flags == entry.end()) return session.record.note(std::move(message));
  message.header.flags = flags->get<std::uint32_t>();
  session.record.defer(std::move(message));
  return true;
}

/// @return whether the record makes sense, and all that it names is there.
bool restore(KeptSession& session, const Json& record, DescriptorStore& store) try {
  session.disk = record.at("disk");
  session.socket_name = record.at("socket");
  session.socket = store.use(session.socket_name);
  if (!session.socket) return false;
  for (const Json& entry : record.at("messages"))
    if (!restore_message(session, entry, store)) return false;
  return true;
} catch (const Json::exception& error) {
  log_line(LogLevel::warning, "service manager",
           fmt::format("it kept a session that cannot be read: {}", error.what()));
  return false;
}

}  // namespace

void KeptSession::discard(DescriptorStore& store) {
  if (socket) ::shutdown(socket.get(), SHUT_RDWR);  // the service manager has it open, too
  socket.reset();
  withdraw(store);
}

void KeptSession::withdraw(DescriptorStore& store) {
  for (const auto& [serial, kept] : std::exchange(names, {})) store.release(kept);
  store.release(std::exchange(socket_name, {}));
  store.release(std::exchange(name, {}));
}

std::vector<KeptSession> take_kept_sessions(DescriptorStore& store) {
  std::vector<KeptSession> sessions;
  std::set<std::string> sockets;
  const auto records = store.names(kRecord);
  // The latest first: a process may have ended before it let the one before go.
  for (auto each = records.rbegin(); each != records.rend(); ++each) {
    KeptSession session;
    session.name = each->second;
    const UniqueFd file = store.use(session.name);
    const auto record = read_record(file.get());
    if (record && sockets.contains(record->value("socket", ""))) {
      store.release(session.name);
    } else if (record && restore(session, *record, store)) {
      sockets.insert(session.socket_name);
      sessions.push_back(std::move(session));
    } else {
      session.discard(store);
    }
  }
  store.release_unused();
  return sessions;
}

// --- SessionKeeper ------------------------------------------------------------------------------------------------

SessionKeeper::SessionKeeper(DescriptorStore& store, std::string disk, int socket) : store_(store), socket_(socket) {
  kept_.disk = std::move(disk);
}

SessionKeeper::SessionKeeper(DescriptorStore& store, KeptSession kept, int socket)
    : store_(store), kept_(std::move(kept)), socket_(socket) {}

/// A ring that begins without an inflight region is no ring for the next process.
void SessionKeeper::note(Message message) {
  changed_ |= kept_.record.note(std::move(message));
  if (!kept_.record.resumable() && !kept_.name.empty()) kept_.withdraw(store_);
}

void SessionKeeper::defer(Message message) {
  kept_.record.defer(std::move(message));
  changed_ = true;
  save();
}

void SessionKeeper::answered() {
  kept_.record.answered();
  changed_ = true;
}

void SessionKeeper::save(Time now) {
  if (!changed_ || now - last_ < kPause) return;
  last_ = now;
  save();
}

/// What the record names is kept before it, and what it does not name any more goes after it.
void SessionKeeper::save() {
  if (!changed_ || !kept_.record.resumable()) return;
  changed_ = false;
  if (kept_.socket_name.empty()) kept_.socket_name = store_.put(socket_, kDescriptor);
  std::map<std::uint64_t, std::string> before = std::exchange(kept_.names, {});
  for (const auto& [key, entry] : kept_.record.entries()) {
    if (entry.message.fds.empty()) continue;
    const auto known = before.extract(entry.serial);
    kept_.names.emplace(entry.serial,
                        known ? known.mapped() : store_.put(entry.message.fds.front().get(), kDescriptor));
  }
  if (!save_record()) return kept_.names.merge(before);  // the last record still names them
  for (const auto& [serial, name] : before) store_.release(name);
}

/// A new file each time, so that one that was kept is whole.
bool SessionKeeper::save_record() {
  const std::vector<std::uint8_t> bytes = Json::to_cbor(to_json(kept_));
  const UniqueFd file(::memfd_create("aiolos-session", MFD_CLOEXEC));
  if (!file || !write_all(file.get(), {reinterpret_cast<const char*>(bytes.data()), bytes.size()})) {
    log_line(LogLevel::warning, kept_.disk, "its session cannot be kept: " + errno_text(errno));
    return false;
  }
  const std::string before = std::exchange(kept_.name, store_.put(file.get(), kRecord));
  if (!before.empty()) store_.release(before);
  return true;
}

void SessionKeeper::forget() { kept_.discard(store_); }

}  // namespace aiolos::engine
