// SPDX-License-Identifier: Apache-2.0
#include "front_end.h"

#include <fmt/format.h>
#include <linux/virtio_config.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <numeric>

#include "aiolos/core/posix.h"

namespace aiolos::engine {
namespace {

constexpr int kAnswerTime = 20'000;  // ms

std::uint16_t load(std::uint16_t& shared) { return std::atomic_ref(shared).load(std::memory_order_acquire); }
void store(std::uint16_t& shared, std::uint16_t value) {
  std::atomic_ref(shared).store(value, std::memory_order_release);
}
void fence() { std::atomic_thread_fence(std::memory_order_seq_cst); }

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

// --- DriverRing ---------------------------------------------------------------------------------------------------

DriverRing::DriverRing(std::byte* descriptors, std::byte* available, std::byte* used, unsigned size, bool event_index)
    : descriptors_(reinterpret_cast<vring_desc*>(descriptors)),
      available_(reinterpret_cast<vring_avail*>(available)),
      used_(reinterpret_cast<vring_used*>(used)),
      size_(size),
      event_index_(event_index),
      free_(size) {
  std::iota(free_.rbegin(), free_.rend(), 0);
}

std::optional<std::uint16_t> DriverRing::add(std::span<const GuestBuffer> buffers) {
  if (free_.size() < buffers.size()) return std::nullopt;
  std::uint16_t next = 0;
  for (std::size_t i = buffers.size(); i-- > 0;) {
    const std::uint16_t index = free_.back();
    free_.pop_back();
    const bool last = i + 1 == buffers.size();
    descriptors_[index].addr = buffers[i].address;
    descriptors_[index].len = buffers[i].length;
    descriptors_[index].flags =
        static_cast<std::uint16_t>((buffers[i].writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
    descriptors_[index].next = next;
    next = index;
  }
  add_head(next);
  return next;
}

std::optional<std::uint16_t> DriverRing::add_indirect(std::span<const GuestBuffer> buffers, std::uint64_t table,
                                                      std::byte* memory) {
  if (free_.empty()) return std::nullopt;
  auto* const entries = reinterpret_cast<vring_desc*>(memory);
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    entries[i].addr = buffers[i].address;
    entries[i].len = buffers[i].length;
    entries[i].flags =
        static_cast<std::uint16_t>((buffers[i].writable ? VRING_DESC_F_WRITE : 0) | (last ? 0 : VRING_DESC_F_NEXT));
    entries[i].next = static_cast<std::uint16_t>(i + 1);
  }
  const std::uint16_t head = free_.back();
  free_.pop_back();
  descriptors_[head].addr = table;
  descriptors_[head].len = static_cast<std::uint32_t>(buffers.size() * sizeof(vring_desc));
  descriptors_[head].flags = VRING_DESC_F_INDIRECT;
  add_head(head);
  return head;
}

void DriverRing::add_head(std::uint16_t head) {
  available_->ring[next_available_ % size_] = head;
  store(available_->idx, ++next_available_);
}

bool DriverRing::wants_kick() {
  fence();
  const std::uint16_t before = std::exchange(kicked_, next_available_);
  if (!event_index_) return (load(used_->flags) & VRING_USED_F_NO_NOTIFY) == 0;
  auto* const end = reinterpret_cast<std::byte*>(used_) + offsetof(vring_used, ring) + size_ * sizeof(vring_used_elem);
  const std::uint16_t event = load(*reinterpret_cast<std::uint16_t*>(end));
  return static_cast<std::uint16_t>(next_available_ - event - 1) < static_cast<std::uint16_t>(next_available_ - before);
}

std::optional<vring_used_elem> DriverRing::take_used() {
  if (load(used_->idx) == next_used_) return std::nullopt;
  const vring_used_elem element = used_->ring[next_used_++ % size_];
  // The chain's descriptors are free again.
  for (std::uint32_t index = element.id; index < size_;) {
    const vring_desc& descriptor = descriptors_[index];
    free_.push_back(static_cast<std::uint16_t>(index));
    index = (descriptor.flags & VRING_DESC_F_NEXT) != 0 ? descriptor.next : size_;
  }
  return element;
}

bool DriverRing::arm() {
  if (event_index_) store(available_->ring[size_], next_used_);
  fence();
  return load(used_->idx) != next_used_;
}

// --- FrontEnd -----------------------------------------------------------------------------------------------------

Result<std::unique_ptr<FrontEnd>> FrontEnd::connect(const std::string& socket, const FrontEndOptions& options) {
  std::unique_ptr<FrontEnd> made(new FrontEnd(socket, options));
  if (auto done = made->make_memory(); !done) return tl::unexpected(done.error());
  if (auto done = made->reconnect(); !done) return tl::unexpected(done.error());
  const unsigned size = options.queue_size;
  for (unsigned i = 0; i < options.queues; ++i) {
    const std::uint64_t descriptors = made->allocate(size * sizeof(vring_desc));
    const std::uint64_t available = made->allocate(sizeof(vring_avail) + (size + 1) * sizeof(std::uint16_t));
    const std::uint64_t used =
        made->allocate(sizeof(vring_used) + size * sizeof(vring_used_elem) + sizeof(std::uint16_t));
    const bool event_index = (made->features_ & (1ULL << VIRTIO_RING_F_EVENT_IDX)) != 0;
    made->queues_.push_back({descriptors, available, used,
                             DriverRing(made->at(descriptors), made->at(available), made->at(used), size, event_index),
                             UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
                             UniqueFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK))});
  }
  return made;
}

Result<void> FrontEnd::make_memory() {
  memory_fd_.reset(::memfd_create("front-end", MFD_CLOEXEC));
  if (!memory_fd_ || ::ftruncate(memory_fd_.get(), static_cast<off_t>(options_.memory)) != 0)
    return fail(ErrorKind::retry, "no memory for a front end: " + errno_text(errno));
  auto mapping = SharedMapping::map(memory_fd_.get(), 0, options_.memory);
  if (!mapping) return tl::unexpected(mapping.error());
  memory_ = std::move(*mapping);
  return {};
}

Result<void> FrontEnd::reconnect() {
  for (Queue& queue : queues_) queue.base = load(queue.ring.used()->idx);
  if (auto done = connect_socket(); !done) return done;
  return negotiate();
}

Result<void> FrontEnd::connect_socket() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socket_.copy(address.sun_path, sizeof(address.sun_path) - 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
    return fail(ErrorKind::retry, fmt::format("cannot connect to '{}': {}", socket_, errno_text(errno)));
  channel_ = std::make_unique<MessageChannel>(std::move(fd));
  return {};
}

Result<void> FrontEnd::negotiate() {
  const auto offered = call(Request::get_features);
  if (!offered) return tl::unexpected(offered.error());
  features_ = offered->as<std::uint64_t>() & ~(kFeatureLogAll | options_.without);
  if (!options_.event_index) features_ &= ~(1ULL << VIRTIO_RING_F_EVENT_IDX);
  const auto protocol = call(Request::get_protocol_features);
  if (!protocol) return tl::unexpected(protocol.error());
  const std::uint64_t wanted = kProtocolMultiqueue | kProtocolReplyAck | kProtocolConfig | kProtocolBackendReq |
                               kProtocolLogShmfd | kProtocolConfigureMemSlots |
                               (options_.inflight ? kProtocolInflightShmfd : 0);
  const std::uint64_t both = protocol->as<std::uint64_t>() & wanted;
  // Before REPLY_ACK is agreed, nothing acknowledges.
  Message message;
  message.header = {static_cast<std::uint32_t>(Request::set_protocol_features), kVersion, 0};
  message.append(&both, sizeof(both));
  if (auto sent = channel_->send(message); !sent) return sent;
  options_.inflight = (both & kProtocolInflightShmfd) != 0;
  if (auto done = tell(Request::set_owner); !done) return done;
  if ((both & kProtocolBackendReq) != 0) {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
      return fail(ErrorKind::retry, "no socket pair");
    backend_channel_.reset(pair[0]);
    const UniqueFd theirs(pair[1]);
    if (auto done = tell(Request::set_backend_req_fd, {}, theirs.get()); !done) return done;
  }
  return tell(Request::set_features, bytes_of(features_));
}

Result<Message> FrontEnd::receive() {
  for (;;) {
    auto message = channel_->receive();
    if (!message) return tl::unexpected(message.error());
    if (*message) return std::move(**message);
    pollfd poll{channel_->fd(), POLLIN, 0};
    if (::poll(&poll, 1, kAnswerTime) <= 0) return fail(ErrorKind::retry, "the back end does not answer");
  }
}

Result<Message> FrontEnd::call(Request request, std::span<const std::byte> payload, int fd) {
  Message message;
  message.header = {static_cast<std::uint32_t>(request), kVersion, 0};
  message.append(payload.data(), payload.size());
  if (fd >= 0) message.fds.emplace_back(::dup(fd));
  if (auto sent = channel_->send(message); !sent) return tl::unexpected(sent.error());
  return receive();
}

Result<void> FrontEnd::tell(Request request, std::span<const std::byte> payload, int fd) {
  Message message;
  message.header = {static_cast<std::uint32_t>(request), kVersion | kNeedReply, 0};
  message.append(payload.data(), payload.size());
  if (fd >= 0) message.fds.emplace_back(::dup(fd));
  if (auto sent = channel_->send(message); !sent) return sent;
  const auto answer = receive();
  if (!answer) return tl::unexpected(answer.error());
  if (answer->header.size > 0 && answer->as<std::uint64_t>() != 0)
    return fail(ErrorKind::bad_input, fmt::format("the back end refused request {}", message.header.request));
  return {};
}

Result<virtio_blk_config> FrontEnd::config() {
  // No more of it than older back ends have, which give nothing to who asks for more.
  constexpr std::uint32_t kSize = offsetof(virtio_blk_config, max_secure_erase_sectors);
  std::array<std::byte, sizeof(ConfigHeader) + kSize> payload{};
  const ConfigHeader wanted{0, kSize, 0};
  std::memcpy(payload.data(), &wanted, sizeof(wanted));
  const auto answer = call(Request::get_config, payload);
  if (!answer) return tl::unexpected(answer.error());
  if (answer->header.size != payload.size()) return fail(ErrorKind::bad_input, "the back end gave no configuration");
  virtio_blk_config config{};
  std::memcpy(&config, answer->payload.data() + sizeof(ConfigHeader), kSize);
  return config;
}

MemoryRegion FrontEnd::region() const {
  return {kGuestBase, memory_.size(), reinterpret_cast<std::uint64_t>(memory_.data()), 0};
}

VringAddress FrontEnd::addresses(unsigned queue) const {
  const Queue& q = queues_[queue];
  const auto user = [&](std::uint64_t address) { return reinterpret_cast<std::uint64_t>(at(address)); };
  return {queue, 0, user(q.descriptors), user(q.used), user(q.available), q.used};
}

Result<void> FrontEnd::set_inflight() {
  if (!options_.inflight) return {};
  if (!inflight_fd_) {
    inflight_.queues = static_cast<std::uint16_t>(options_.queues);
    inflight_.queue_size = static_cast<std::uint16_t>(options_.queue_size);
    auto made = call(Request::get_inflight_fd, bytes_of(inflight_));
    if (!made) return tl::unexpected(made.error());
    if (made->fds.empty()) return fail(ErrorKind::bad_input, "no inflight region came");
    inflight_ = made->as<InflightDescription>();
    inflight_fd_ = std::move(made->fds[0]);
  }
  return tell(Request::set_inflight_fd, bytes_of(inflight_), inflight_fd_.get());
}

Result<void> FrontEnd::start() {
  // One table with one region: what every back end understands.
  Message table;
  table.header = {static_cast<std::uint32_t>(Request::set_mem_table), kVersion | kNeedReply, 0};
  const MemTableHeader header{1, 0};
  const MemoryRegion only = region();
  table.append(&header, sizeof(header));
  table.append(&only, sizeof(only));
  table.fds.emplace_back(::dup(memory_fd_.get()));
  if (auto sent = channel_->send(table); !sent) return sent;
  if (auto answer = receive(); !answer) return tl::unexpected(answer.error());
  if (auto done = set_inflight(); !done) return done;
  for (unsigned i = 0; i < queues_.size(); ++i) {
    const Queue& q = queues_[i];
    const std::uint64_t index = i;
    const Result<void> steps[] = {
        tell(Request::set_vring_num, bytes_of(VringState{i, options_.queue_size})),
        tell(Request::set_vring_base, bytes_of(VringState{i, q.base})),
        tell(Request::set_vring_addr, bytes_of(addresses(i))),
        tell(Request::set_vring_call, bytes_of(index), q.call.get()),
        tell(Request::set_vring_kick, bytes_of(index), q.kick.get()),
        tell(Request::set_vring_enable, bytes_of(VringState{i, 1})),
    };
    for (const auto& step : steps)
      if (!step) return step;
  }
  return {};
}

Result<std::uint16_t> FrontEnd::stop(unsigned queue) {
  if (auto done = tell(Request::set_vring_enable, bytes_of(VringState{queue, 0})); !done)
    return tl::unexpected(done.error());
  const auto answer = call(Request::get_vring_base, bytes_of(VringState{queue, 0}));
  if (!answer) return tl::unexpected(answer.error());
  return queues_[queue].base = static_cast<std::uint16_t>(answer->as<VringState>().number);
}

std::uint64_t FrontEnd::allocate(std::uint64_t size, std::uint64_t alignment) {
  allocated_ = (allocated_ + alignment - 1) / alignment * alignment;
  const std::uint64_t address = kGuestBase + allocated_;
  allocated_ += size;
  if (allocated_ > memory_.size()) throw std::bad_alloc();
  return address;
}

void FrontEnd::kick(unsigned queue) {
  if (queues_[queue].ring.wants_kick()) ::eventfd_write(queues_[queue].kick.get(), 1);
}

bool FrontEnd::wait(unsigned queue, std::chrono::milliseconds most) {
  if (queues_[queue].ring.arm()) return true;
  pollfd poll{queues_[queue].call.get(), POLLIN, 0};
  if (::poll(&poll, 1, static_cast<int>(most.count())) <= 0) return false;
  eventfd_t count = 0;
  ::eventfd_read(poll.fd, &count);
  return true;
}

// --- BlockDriver --------------------------------------------------------------------------------------------------

BlockDriver::BlockDriver(FrontEnd& front_end, unsigned queue, unsigned depth, std::uint32_t buffer_size)
    : front_end_(front_end), queue_(queue), buffer_size_(buffer_size), slot_of_head_(SplitRing::kLargestSize) {
  for (unsigned i = 0; i < depth; ++i) {
    const std::uint64_t header = front_end.allocate(sizeof(virtio_blk_outhdr) + 1, 64);
    slots_.push_back({header, front_end.allocate(buffer_size), header + sizeof(virtio_blk_outhdr)});
    free_.push_back(depth - 1 - i);
  }
}

std::optional<unsigned> BlockDriver::free_slot() const {
  return free_.empty() ? std::nullopt : std::optional(free_.back());
}

std::span<std::byte> BlockDriver::buffer(unsigned slot) const {
  return {front_end_.at(slots_[slot].data), buffer_size_};
}

bool BlockDriver::start(unsigned slot, std::uint32_t type, std::uint64_t sector, std::uint32_t bytes) {
  Slot& place = slots_[slot];
  *front_end_.at<virtio_blk_outhdr>(place.header) = {type, 0, sector};
  *front_end_.at(place.status) = std::byte{0xff};
  const bool reads = type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
  const GuestBuffer header{place.header, sizeof(virtio_blk_outhdr), false};
  const GuestBuffer status{place.status, 1, true};
  const GuestBuffer all[] = {header, {place.data, bytes, reads}, status};
  const GuestBuffer bare[] = {header, status};
  const auto head = bytes > 0 ? front_end_.ring(queue_).add(all) : front_end_.ring(queue_).add(bare);
  if (!head) return false;
  slot_of_head_[*head] = slot;
  if (free_.back() == slot)
    free_.pop_back();
  else
    std::erase(free_, slot);
  return true;
}

std::optional<BlockDriver::Completion> BlockDriver::poll() {
  const auto used = front_end_.ring(queue_).take_used();
  if (!used || used->id >= slot_of_head_.size()) return std::nullopt;
  const unsigned slot = slot_of_head_[used->id];
  free_.push_back(slot);
  return Completion{slot, std::to_integer<std::uint8_t>(*front_end_.at(slots_[slot].status))};
}

std::optional<BlockDriver::Completion> BlockDriver::wait(std::chrono::milliseconds most) {
  const auto end = std::chrono::steady_clock::now() + most;
  for (;;) {
    if (auto done = poll()) return done;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) return std::nullopt;
    front_end_.wait(queue_, left);
  }
}

std::uint8_t BlockDriver::run(std::uint32_t type, std::uint64_t sector, std::uint32_t bytes) {
  const auto slot = free_slot();
  if (!slot || !start(*slot, type, sector, bytes)) return 255;
  kick();
  const auto done = wait();
  return done ? done->status : 255;
}

}  // namespace aiolos::engine
