// SPDX-License-Identifier: Apache-2.0
#include "session.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/virtio_config.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "aiolos/core/posix.h"

namespace aiolos::engine {
namespace {

constexpr std::uint64_t kProtocolFeatures = kProtocolMultiqueue | kProtocolLogShmfd | kProtocolReplyAck |
                                            kProtocolBackendReq | kProtocolConfig | kProtocolInflightShmfd |
                                            kProtocolConfigureMemSlots;

tl::unexpected<Error> refuse(std::string what) {
  return fail(ErrorKind::bad_input, std::move(what),
              "the front end's vhost-user messages are wrong: use a QEMU that is supported");
}

Message reply_to(const Message& message) {
  Message reply;
  reply.header = {message.header.request, kVersion | kReply, 0};
  return reply;
}

Message reply_number(const Message& message, std::uint64_t value) {
  Message reply = reply_to(message);
  reply.append(&value, sizeof(value));
  return reply;
}

/// Bytes of payload that a request must have; nullopt for one that is not known.
std::optional<std::size_t> payload_of(Request request) {
  switch (request) {
    case Request::get_features:
    case Request::set_owner:
    case Request::reset_owner:
    case Request::get_protocol_features:
    case Request::get_queue_num:
    case Request::set_log_fd:
    case Request::set_backend_req_fd:
    case Request::get_max_mem_slots:
      return 0;
    case Request::set_features:
    case Request::set_protocol_features:
    case Request::set_vring_kick:
    case Request::set_vring_call:
    case Request::set_vring_err:
      return sizeof(std::uint64_t);
    case Request::set_vring_num:
    case Request::set_vring_base:
    case Request::get_vring_base:
    case Request::set_vring_enable:
      return sizeof(VringState);
    case Request::set_vring_addr:
      return sizeof(VringAddress);
    case Request::set_mem_table:
      return sizeof(MemTableHeader);
    case Request::add_mem_reg:
    case Request::rem_mem_reg:
      return sizeof(SingleRegion);
    case Request::set_log_base:
      return sizeof(LogBase);
    case Request::get_config:
    case Request::set_config:
      return sizeof(ConfigHeader);
    case Request::get_inflight_fd:
    case Request::set_inflight_fd:
      return kLeastInflightDescription;
  }
  return std::nullopt;
}

UniqueFd first_fd(Message& message) { return message.fds.empty() ? UniqueFd() : std::move(message.fds.front()); }

}  // namespace

std::uint64_t vhost_features() { return kFeatureLogAll | kFeatureProtocolFeatures; }

Session::Session(SessionDisk& disk) : disk_(disk), rings_(disk.queues()) {}

Session::~Session() {
  for (SplitRing& ring : rings_)
    if (ring.kick) disk_.kick_changed(ring, -1);
}

unsigned Session::in_flight() const {
  unsigned count = 0;
  for (const SplitRing& ring : rings_) count += ring.in_flight();
  return count;
}

Result<Session::Outcome> Session::handle(Message& message) {
  auto outcome = dispatch(message);
  const bool wants_reply = message.need_reply() && (protocol_features_ & kProtocolReplyAck) != 0;
  if (!outcome) {
    if (!wants_reply) return outcome;
    return reply_number(message, 1);
  }
  if (wants_reply && std::holds_alternative<NoReply>(*outcome)) return reply_number(message, 0);
  return outcome;
}

Result<Session::Outcome> Session::dispatch(Message& message) {
  const auto payload = payload_of(message.request());
  if (!payload) return refuse(fmt::format("vhost-user request {} is not known", message.header.request));
  if (message.header.size < *payload)
    return refuse(fmt::format("vhost-user request {} came with {} bytes", message.header.request, message.header.size));
  switch (message.request()) {
    case Request::get_features:
      return reply_number(message, disk_.features() | vhost_features());
    case Request::set_features:
      return set_features(message.as<std::uint64_t>());
    case Request::get_protocol_features:
      return reply_number(message, kProtocolFeatures);
    case Request::set_protocol_features:
      protocol_features_ = message.as<std::uint64_t>() & kProtocolFeatures;
      return NoReply{};
    case Request::get_queue_num:
      return reply_number(message, disk_.queues());
    case Request::get_max_mem_slots:
      return reply_number(message, GuestMemory::kMostRegions);
    case Request::set_mem_table:
      return set_mem_table(message);
    case Request::add_mem_reg:
    case Request::rem_mem_reg:
      return change_memory(message);
    case Request::set_log_base:
      return set_log_base(message);
    case Request::set_vring_num:
    case Request::set_vring_base:
    case Request::set_vring_addr:
    case Request::set_vring_enable:
      return set_ring(message);
    case Request::set_vring_kick:
    case Request::set_vring_call:
    case Request::set_vring_err:
      return set_vring_fd(message);
    case Request::get_vring_base:
      return get_vring_base(message);
    case Request::get_config:
      return get_config(message);
    case Request::set_config:
      return set_config(message);
    case Request::get_inflight_fd:
      return get_inflight(message);
    case Request::set_inflight_fd:
      return set_inflight(message);
    case Request::set_backend_req_fd:
      backend_channel_ = first_fd(message);
      return NoReply{};
    case Request::set_owner:
    case Request::reset_owner:
    case Request::set_log_fd:  // for errors of logging, of which there are none
      return NoReply{};
  }
  return refuse("unreachable");
}

Result<Session::Outcome> Session::set_features(std::uint64_t features) {
  if (const std::uint64_t strange = features & ~(disk_.features() | vhost_features()); strange != 0)
    return refuse(fmt::format("features {:#x} were not offered", strange));
  features_ = features;
  // Without protocol features there is no message to enable a ring.
  if ((features & kFeatureProtocolFeatures) == 0)
    for (SplitRing& ring : rings_) ring.enabled = true;
  disk_.features_changed(features);
  return NoReply{};
}

// --- memory -------------------------------------------------------------------------------------------------------

/// Requests in flight use memory that is about to go, so they end first; nothing new is taken meanwhile.
bool Session::drain_all() {
  const bool busy =
      std::any_of(rings_.begin(), rings_.end(), [](const SplitRing& ring) { return ring.in_flight() > 0; });
  draining_ = busy;
  return !busy;
}

Result<Session::Outcome> Session::set_mem_table(Message& message) {
  const auto count = message.as<MemTableHeader>().regions;
  if (count > kMemTableRegions || message.fds.size() != count ||
      message.header.size < sizeof(MemTableHeader) + count * sizeof(MemoryRegion))
    return refuse(fmt::format("a memory table of {} regions with {} descriptors", count, message.fds.size()));
  if (!drain_all()) return Deferred{};
  memory_.clear();
  for (std::size_t i = 0; i < count; ++i) {
    MemoryRegion region;
    std::memcpy(&region, message.payload.data() + sizeof(MemTableHeader) + i * sizeof(region), sizeof(region));
    if (auto added = memory_.add(region, message.fds[i]); !added) {
      (void)memory_changed();
      return tl::unexpected(added.error());
    }
  }
  if (auto changed = memory_changed(); !changed) return tl::unexpected(changed.error());
  return NoReply{};
}

Result<Session::Outcome> Session::change_memory(Message& message) {
  const MemoryRegion region = message.as<SingleRegion>().region;
  if (message.request() == Request::add_mem_reg) {
    if (auto added = memory_.add(region, first_fd(message)); !added) return tl::unexpected(added.error());
    return NoReply{};
  }
  if (!drain_all()) return Deferred{};
  if (auto removed = memory_.remove(region); !removed) return tl::unexpected(removed.error());
  if (auto changed = memory_changed(); !changed) return tl::unexpected(changed.error());
  return NoReply{};
}

/// The rings that run are looked up again, also after an error, so that none keeps an address that is gone.
Result<void> Session::memory_changed() {
  Result<void> result;
  for (SplitRing& ring : rings_) {
    if (!ring.started()) continue;
    if (auto found = ring.resolve(memory_); !found)
      result = found;
    else
      disk_.ring_ready(ring);
  }
  return result;
}

Result<Session::Outcome> Session::set_log_base(Message& message) {
  const auto log = message.as<LogBase>();
  auto mapping = SharedMapping::map(first_fd(message).get(), log.offset, log.size);
  if (!mapping) return tl::unexpected(mapping.error());
  log_.emplace(std::move(*mapping));
  return reply_to(message);
}

// --- rings --------------------------------------------------------------------------------------------------------

Result<SplitRing*> Session::ring(std::uint64_t index) {
  if (index >= rings_.size()) return refuse(fmt::format("ring {} of {}", index, rings_.size()));
  return &rings_[index];
}

Result<Session::Outcome> Session::set_ring(const Message& message) {
  const auto state = message.as<VringState>();
  auto found = ring(state.index);
  if (!found) return tl::unexpected(found.error());
  SplitRing& ring = **found;
  Result<void> done;
  switch (message.request()) {
    case Request::set_vring_num:
      done = ring.set_size(state.number);
      break;
    case Request::set_vring_base:
      done = ring.set_base(state.number);
      break;
    case Request::set_vring_addr:
      ring.set_addresses(message.as<VringAddress>());
      if (ring.started()) done = ring.resolve(memory_);
      break;
    default:
      if (ring.started() && ring.enabled && state.number == 0) disk_.ring_stopping();
      ring.enabled = state.number != 0;
      if (ring.enabled) disk_.ring_ready(ring);
  }
  if (!done) return tl::unexpected(done.error());
  return NoReply{};
}

Result<Session::Outcome> Session::set_vring_fd(Message& message) {
  const auto value = message.as<std::uint64_t>();
  auto found = ring(value & kVringIndexMask);
  if (!found) return tl::unexpected(found.error());
  SplitRing& ring = **found;
  UniqueFd fd = (value & kVringNoFd) == 0 ? first_fd(message) : UniqueFd();
  if (fd) ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);  // nobody can make this thread wait by filling it
  if (message.request() == Request::set_vring_call) {
    ring.call = std::move(fd);
    // While this message was on its way a completion may have been told through the descriptor before, to which QEMU
    // does not listen any more where the guest masks and unmasks an interrupt. One that was for nothing does no harm.
    if (ring.started() && ring.call) ::eventfd_write(ring.call.get(), 1);
    return NoReply{};
  }
  if (message.request() == Request::set_vring_err) {
    ring.error = std::move(fd);
    return NoReply{};
  }
  if (!fd) return refuse("a ring without a kick descriptor, which would have to be polled");
  disk_.kick_changed(ring, fd.get());
  ring.kick = std::move(fd);
  if (auto started = start(ring); !started) return tl::unexpected(started.error());
  return NoReply{};
}

/// A ring starts when it gets its kick descriptor. The driver may have put requests there long before.
Result<void> Session::start(SplitRing& ring) {
  if (!ring.started())
    if (auto started = ring.start(memory_, (features_ & (1ULL << VIRTIO_RING_F_EVENT_IDX)) != 0); !started)
      return started;
  disk_.ring_ready(ring);
  return {};
}

/// The front end takes the ring away: after this answer the guest's memory is not touched for it any more.
Result<Session::Outcome> Session::get_vring_base(const Message& message) {
  const auto state = message.as<VringState>();
  auto found = ring(state.index);
  if (!found) return tl::unexpected(found.error());
  SplitRing& ring = **found;
  if (ring.started()) disk_.ring_stopping();
  ring.drain();
  if (ring.started() && !ring.drained()) return Deferred{};
  ring.stop();
  disk_.kick_changed(ring, -1);
  ring.kick.reset();
  Message reply = reply_to(message);
  const VringState base{state.index, ring.base()};
  reply.append(&base, sizeof(base));
  return reply;
}

// --- configuration ------------------------------------------------------------------------------------------------

Result<Session::Outcome> Session::get_config(const Message& message) const {
  const auto wanted = message.as<ConfigHeader>();
  if (wanted.offset > kConfigSpace || wanted.size > kConfigSpace - wanted.offset ||
      message.header.size < sizeof(wanted) + wanted.size)
    return refuse(fmt::format("{} bytes of configuration at {}", wanted.size, wanted.offset));
  std::array<std::byte, kConfigSpace> space{};
  std::ranges::copy(disk_.config(), space.begin());
  Message reply = reply_to(message);
  reply.append(&wanted, sizeof(wanted));
  reply.append(space.data() + wanted.offset, wanted.size);
  return reply;
}

Result<Session::Outcome> Session::set_config(const Message& message) {
  const auto given = message.as<ConfigHeader>();
  if (given.size > kConfigSpace || message.header.size < sizeof(given) + given.size)
    return refuse(fmt::format("{} bytes of configuration to set", given.size));
  const std::span bytes(message.payload.data() + sizeof(given), given.size);
  if (auto written = disk_.write_config(given.offset, bytes); !written) return tl::unexpected(written.error());
  return NoReply{};
}

// --- inflight region ----------------------------------------------------------------------------------------------

Result<Session::Outcome> Session::get_inflight(const Message& message) {
  const auto wanted = message.as<InflightDescription>();
  if (wanted.queues > rings_.size() || wanted.queue_size > SplitRing::kLargestSize)
    return refuse(fmt::format("an inflight region for {} rings of {}", wanted.queues, wanted.queue_size));
  InflightDescription made{wanted.queues * InflightRing::bytes(wanted.queue_size), 0, wanted.queues, wanted.queue_size,
                           0};
  UniqueFd memory(::memfd_create("aiolos-inflight", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory || ::ftruncate(memory.get(), static_cast<off_t>(made.size)) != 0)
    return fail(ErrorKind::retry, "cannot make an inflight region: " + errno_text(errno), "free some memory");
  Message reply = reply_to(message);
  reply.append(&made, sizeof(made));
  reply.fds.push_back(std::move(memory));
  return reply;
}

Result<Session::Outcome> Session::set_inflight(Message& message) {
  const auto given = message.as<InflightDescription>();
  const std::size_t each = InflightRing::bytes(given.queue_size);
  if (given.queues > rings_.size() || given.queue_size > SplitRing::kLargestSize || given.size < given.queues * each ||
      given.offset % 64 != 0)
    return refuse(
        fmt::format("an inflight region of {} bytes for {} rings of {}", given.size, given.queues, given.queue_size));
  if (std::any_of(rings_.begin(), rings_.end(), [](const SplitRing& ring) { return ring.started(); }))
    return refuse("an inflight region for rings that run already");
  auto mapping = SharedMapping::map(first_fd(message).get(), given.offset, given.size);
  if (!mapping) return tl::unexpected(mapping.error());
  inflight_ = std::move(*mapping);
  for (std::size_t i = 0; i < rings_.size(); ++i)
    rings_[i].set_inflight(i < given.queues ? InflightRing(inflight_.data() + i * each, given.queue_size)
                                            : InflightRing());
  return NoReply{};
}

}  // namespace aiolos::engine
