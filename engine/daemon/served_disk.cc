// SPDX-License-Identifier: Apache-2.0
#include "served_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/virtio_config.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "aiolos/core/posix.h"
#include "log.h"
#include "small_file.h"

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;

/// Requests that one ring may take in one turn, so that no ring keeps the others waiting.
constexpr unsigned kTurn = 32;
constexpr std::size_t kZeroes = 1U << 20;

constexpr const char* kLockSuffix = ".lock";
constexpr std::chrono::nanoseconds kLockTick = 10ms;

constexpr std::uint64_t bit(unsigned number) { return 1ULL << number; }

/// Zeroes to write where the storage cannot make them by itself.
iovec zeroes() {
  static void* const page = [] {
    void* memory = std::aligned_alloc(4096, kZeroes);
    if (memory) std::memset(memory, 0, kZeroes);
    return memory;
  }();
  return {page, page ? kZeroes : 0};
}

}  // namespace

/// A request between its ring and its answer.
struct ServedDisk::Task : IoRequest {
  ServedDisk* disk = nullptr;
  SplitRing* ring = nullptr;
  std::uint16_t head = 0;
  DrainGovernor::Ticket ticket;
  SteadyTime began{};
  DescriptorChain chain;
  BlockRequest block;
  std::unique_ptr<std::byte, decltype(&std::free)> bounced{nullptr, &std::free};
  std::vector<iovec> instead;  ///< Buffers other than the guest's.
};

void AioShare::fit_engine() {
  if (budget.limit() == engine->limit()) return;
  if (auto fitted = engine->set_limit(budget.limit()); !fitted)
    log_line(LogLevel::warning, "AIO engine",
             describe(fitted.error()) + ": it stays at " + std::to_string(engine->limit()));
}

Result<UniqueFd> listen_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path))
    return fail(ErrorKind::bad_input,
                fmt::format("a socket's path has 1 to {} bytes: '{}'", sizeof(address.sun_path) - 1, path),
                "use a shorter path");
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);

  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket)
    return fail(ErrorKind::retry, "cannot make a socket: " + errno_text(errno), "raise the limit of open files");
  if (::connect(socket.get(), generic, sizeof(address)) == 0 || errno == EAGAIN)
    return fail(ErrorKind::retry, fmt::format("another process listens at '{}'", path),
                "end it, or use another socket");
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    if (!S_ISSOCK(status.st_mode))
      return fail(ErrorKind::bad_input, fmt::format("'{}' is there, and no socket", path),
                  "use another path, or remove it");
    ::unlink(path.c_str());
  }
  socket.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket || ::bind(socket.get(), generic, sizeof(address)) != 0 || ::listen(socket.get(), 4) != 0)
    return tl::unexpected(storage_error("listen at", path, errno));
  return socket;
}

Result<DiskSocket> open_socket(const std::string& path) {
  auto listener = listen_at(path);
  if (!listener) return tl::unexpected(listener.error());
  const std::string lock = path + kLockSuffix;
  UniqueFd file(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return tl::unexpected(storage_error("open", lock, errno));
  return DiskSocket{std::move(*listener), std::move(file)};
}

void remove_socket(const std::string& path) {
  ::unlink(path.c_str());
  ::unlink((path + kLockSuffix).c_str());
}

ServedDisk::ServedDisk(DiskSettings settings, Image image, DiskSocket socket, Poller& poller, AioShare& share,
                       DiskGroup& group, DescriptorStore* store)
    : settings_(std::move(settings)),
      image_(std::move(image)),
      socket_(std::move(socket)),
      poller_(poller),
      share_(share),
      group_(group),
      store_(store),
      budget_id_(share.budget.add(0, settings_.weight)) {
  config_.capacity = image_.size() >> kSectorShift;
  config_.seg_max = 126;  // two descriptors of a ring of 128 are the header's and the status'
  config_.blk_size = image_.block_size();
  config_.wce = 1;
  config_.num_queues = static_cast<std::uint16_t>(settings_.queues);
  config_.max_discard_sectors = config_.max_write_zeroes_sectors = kLargestZeroes >> kSectorShift;
  config_.max_discard_seg = config_.max_write_zeroes_seg = 1;
  config_.discard_sector_alignment = image_.block_size() >> kSectorShift;
  config_.write_zeroes_may_unmap = 1;
  share_.engine->remember(image_.fd());
  group_.add(governor_);
  open_when_free();
}

ServedDisk::~ServedDisk() {
  if (lock_timer_) poller_.remove(lock_timer_.get());
  poller_.remove(socket_.listener.get());
  if (channel_) poller_.remove(channel_->fd());
  session_.reset();
  group_.remove(governor_);
  share_.engine->forget(image_.fd());
  share_.engine->forget(socket_.lock.get());
  share_.budget.remove(budget_id_);
}

// --- the front end's connection -----------------------------------------------------------------------------------

/// Looks again and again: the process that has the lock has ended, and nobody tells when its last request does.
void ServedDisk::open_when_free() {
  if (::flock(socket_.lock.get(), LOCK_EX | LOCK_NB) == 0) return open();
  if (lock_timer_) return;
  log_line(LogLevel::info, settings_.name, "waits for requests of an earlier process");
  const itimerspec often{{0, kLockTick.count()}, {0, kLockTick.count()}};
  lock_timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  ::timerfd_settime(lock_timer_.get(), 0, &often, nullptr);
  poller_.add(lock_timer_.get(), EPOLLIN, [this] {
    std::uint64_t ticks = 0;
    (void)::read(lock_timer_.get(), &ticks, sizeof(ticks));
    open_when_free();
  });
}

void ServedDisk::open() {
  if (lock_timer_) poller_.remove(lock_timer_.get());
  lock_timer_.reset();
  poller_.add(socket_.listener.get(), EPOLLIN, [this] { accept(); });
  if (auto kept = std::exchange(kept_, std::nullopt)) resume(std::move(*kept));
}

void ServedDisk::accept() {
  UniqueFd socket(::accept4(socket_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket) return;
  // One front end at a time; the next one waits until the requests of the one before are done.
  poller_.remove(socket_.listener.get());
  channel_ = std::make_unique<MessageChannel>(std::move(socket));
  session_ = std::make_unique<Session>(*this);
  if (store_) keeper_.emplace(*store_, settings_.name, channel_->fd());
  poller_.add(channel_->fd(), EPOLLIN, [this] { receive(); });
  statistics_->connected.set(1);
  statistics_->connections.add(1);
}

void ServedDisk::resume(KeptSession kept) {
  if (lock_timer_) {
    kept_ = std::move(kept);
    return;
  }
  poller_.remove(socket_.listener.get());
  channel_ = std::make_unique<MessageChannel>(std::move(kept.socket));
  session_ = std::make_unique<Session>(*this);
  keeper_.emplace(*store_, std::move(kept), channel_->fd());
  statistics_->connected.set(1);
  statistics_->connections.add(1);
  std::optional<Message> waiting;
  for (const auto& [place, entry] : keeper_->record().entries()) {
    Message message = copy_of(entry.message);
    if (SessionRecord::waits(place))
      waiting = std::move(message);
    else if (auto done = session_->handle(message); !done)
      return disconnect(done.error());
  }
  update_slots();
  poller_.add(channel_->fd(), EPOLLIN, [this] { receive(); });
  awake_ = true;
  if (waiting) handle(*waiting);
}

void ServedDisk::receive() {
  while (channel_ && !deferred_) {
    auto message = channel_->receive();
    if (!message) return disconnect(message.error());
    if (!*message) return;
    if (!handle(**message)) return;
  }
}

/// @return false if the conversation is over, or waits.
bool ServedDisk::handle(Message& message) {
  std::optional<Message> noted;
  if (keeper_) noted = copy_of(message);  // the session takes the descriptors
  auto outcome = session_->handle(message);
  if (!outcome) {
    disconnect(outcome.error());
    return false;
  }
  if (std::holds_alternative<Session::Deferred>(*outcome)) {
    if (deferred_) return false;
    if (keeper_) keeper_->defer(std::move(*noted));
    deferred_ = std::move(message);
    poller_.remove(channel_->fd());
    return false;
  }
  if (message.request() == Request::get_vring_base) count_drain();
  update_slots();
  const auto* const reply = std::get_if<Message>(&*outcome);
  const bool refused = reply && message.need_reply() && reply->as<std::uint64_t>() != 0;
  if (keeper_) keep(std::move(*noted), reply != nullptr, refused);
  if (reply)
    if (auto sent = channel_->send(*reply); !sent) {
      disconnect(sent.error());
      return false;
    }
  return true;
}

/// What a front end has the answer to holds for the next process, too: that a ring has been taken away, or that the
/// guest's dirty pages are logged. Calls come as often as a guest masks its interrupts, so these may wait.
void ServedDisk::keep(Message message, bool answers, bool refused) {
  const Request request = message.request();
  if (deferred_) keeper_->answered();
  if (!refused || request == Request::get_vring_base) keeper_->note(std::move(message));
  if (answers && request != Request::set_vring_call) keeper_->save();
}

/// A front end takes the rings away one after another: it waits from the first one's stop until the last one's answer.
void ServedDisk::count_drain() {
  const auto runs = [](const SplitRing& ring) { return ring.started(); };
  if (!stopping_since_ || std::any_of(session_->rings().begin(), session_->rings().end(), runs)) return;
  const std::chrono::nanoseconds waited = std::chrono::steady_clock::now() - *stopping_since_;
  stopping_since_.reset();
  const auto taken = static_cast<std::uint64_t>(waited.count());
  statistics_->drains.add(1);
  statistics_->drain_last_ns.set(taken);
  statistics_->drain_most_ns.raise_to(taken);
  const auto target = group_.target();
  if (!target || waited <= *target) return;
  statistics_->drains_over_target.add(1);
  log_line(LogLevel::warning, settings_.name,
           fmt::format("its guest waited {} us for requests in flight, over its target of {} us", taken / 1000,
                       target->count() / 1000));
}

/// What the disk can have in flight follows its rings. A guest that is stopped most often goes on, so its disks keep
/// what they have as long as it is connected.
void ServedDisk::update_slots() {
  unsigned slots = 0;
  if (session_)
    for (const SplitRing& ring : session_->rings())
      if (ring.started()) slots += ring.size();
  const unsigned before = share_.budget.disk(budget_id_).slots;
  if (slots == before || (session_ && slots < before)) return;
  share_.budget.set_slots(budget_id_, slots);
  share_.fit_engine();
}

/// Tries again what waited for requests in flight, and reads on once that is answered.
void ServedDisk::go_on() {
  if (!deferred_ || !channel_) return;
  publish();
  if (!handle(*deferred_)) return;
  deferred_.reset();
  if (leaving_) return leave_if_drained();
  poller_.add(channel_->fd(), EPOLLIN, [this] { receive(); });
  awake_ = true;
  receive();
}

/// The connection is over; its requests in flight are finished first, for they use the guest's memory.
void ServedDisk::disconnect(const Error& why) {
  if (why.kind != ErrorKind::retry) log_line(LogLevel::warning, settings_.name, describe(why));
  poller_.remove(channel_->fd());
  if (keeper_) {
    ::shutdown(channel_->fd(), SHUT_RDWR);  // the service manager has it open, too
    keeper_->forget();
    keeper_.reset();
  }
  channel_.reset();
  deferred_.reset();
  stopping_since_.reset();
  for (SplitRing& ring : session_->rings()) {
    ring.drain();
    if (ring.kick) poller_.remove(ring.kick.get());
  }
  statistics_->connected.set(0);
  group_.disconnected(governor_);
  end_session_if_drained();
}

void ServedDisk::end_session_if_drained() {
  if (!session_ || channel_ || session_->in_flight() > 0) return;
  publish();
  session_.reset();
  update_slots();
  if (!closing_) poller_.add(socket_.listener.get(), EPOLLIN, [this] { accept(); });
}

void ServedDisk::close() {
  closing_ = true;
  if (lock_timer_) poller_.remove(lock_timer_.get());
  if (kept_) kept_->discard(*store_);
  kept_.reset();
  poller_.remove(socket_.listener.get());
  if (channel_) disconnect(Error{ErrorKind::retry, "the disk is removed", {}, {}});
}

/// The front end sees the connection's end, if it is one, when all its requests have been answered.
void ServedDisk::leave() {
  kept_.reset();  // the store still has it
  if (!channel_) return close();
  if (!channel_->between_messages()) return close();  // the next process could not make sense of the rest
  closing_ = leaving_ = true;
  poller_.remove(socket_.listener.get());
  poller_.remove(channel_->fd());
  for (SplitRing& ring : session_->rings()) ring.drain();
  leave_if_drained();
}

void ServedDisk::leave_if_drained() {
  if (!leaving_ || !channel_ || deferred_ || session_->in_flight() > 0) return;
  publish();
  if (keeper_) keeper_->save();
  keeper_.reset();
  session_.reset();
  channel_.reset();
}

// --- what the session asks ----------------------------------------------------------------------------------------

std::uint64_t ServedDisk::features() const {
  std::uint64_t features = bit(VIRTIO_F_VERSION_1) | bit(VIRTIO_RING_F_INDIRECT_DESC) | bit(VIRTIO_RING_F_EVENT_IDX) |
                           bit(VIRTIO_BLK_F_SEG_MAX) | bit(VIRTIO_BLK_F_BLK_SIZE) | bit(VIRTIO_BLK_F_FLUSH) |
                           bit(VIRTIO_BLK_F_CONFIG_WCE);
  if (settings_.queues > 1) features |= bit(VIRTIO_BLK_F_MQ);
  return features |
         (settings_.read_only ? bit(VIRTIO_BLK_F_RO) : bit(VIRTIO_BLK_F_DISCARD) | bit(VIRTIO_BLK_F_WRITE_ZEROES));
}

Result<void> ServedDisk::write_config(std::uint32_t offset, std::span<const std::byte> bytes) {
  if (offset != offsetof(virtio_blk_config, wce) || bytes.size() != 1 || std::to_integer<unsigned>(bytes[0]) > 1)
    return fail(ErrorKind::bad_input,
                fmt::format("{} bytes of the configuration at {} cannot be written", bytes.size(), offset),
                "only the write cache mode can");
  config_.wce = std::to_integer<std::uint8_t>(bytes[0]);
  return {};
}

/// A driver that knows neither flushes nor the cache mode takes a completed write for stable.
void ServedDisk::features_changed(std::uint64_t features) {
  group_.logging(governor_, (features & kFeatureLogAll) != 0);
  if ((features & (bit(VIRTIO_BLK_F_FLUSH) | bit(VIRTIO_BLK_F_CONFIG_WCE))) == 0) config_.wce = 0;
}

void ServedDisk::kick_changed(SplitRing& ring, int kick) {
  if (ring.kick) poller_.remove(ring.kick.get());
  if (kick < 0) return;
  // An eventfd needs no reading edge by edge: each kick is an edge.
  if (!poller_.add(kick, EPOLLIN | EPOLLET, [this] { awake_ = true; }))
    log_line(LogLevel::warning, settings_.name,
             "its kick is a descriptor that cannot be waited for: " + errno_text(errno));
}

void ServedDisk::ring_ready(SplitRing& ring) {
  if (ring.started() && ring.enabled) {
    group_.started(governor_);
    stopping_since_.reset();
  }
  awake_ = true;
}

void ServedDisk::ring_stopping() {
  const auto now = std::chrono::steady_clock::now();
  if (!stopping_since_) stopping_since_ = now;
  group_.stopping(governor_, now);
}

Result<std::uint64_t> ServedDisk::resize() {
  auto size = image_.measure();
  if (!size) return size;
  config_.capacity = *size >> kSectorShift;
  if (session_ && session_->backend_channel() >= 0) {
    const MessageHeader change{kBackendConfigChange, kVersion, 0};
    if (::send(session_->backend_channel(), &change, sizeof(change), MSG_NOSIGNAL | MSG_DONTWAIT) != sizeof(change))
      log_line(LogLevel::warning, settings_.name, "the guest could not be told of the new size: " + errno_text(errno));
  }
  return size;
}

BlockLimits ServedDisk::limits() const { return {config_.capacity, config_.blk_size, settings_.read_only}; }

bool ServedDisk::writes_through() const { return config_.wce == 0; }

// --- requests -----------------------------------------------------------------------------------------------------

bool ServedDisk::take_requests(SteadyTime now) {
  if (deferred_) go_on();
  if (keeper_) keeper_->save(now);
  governor_.tick(now);
  if (!session_ || !awake_ || session_->draining()) return false;
  std::vector<SplitRing>& rings = session_->rings();
  bool any = false;
  first_ring_ = (first_ring_ + 1) % rings.size();
  for (std::size_t i = 0; i < rings.size(); ++i) any |= take_from(rings[(first_ring_ + i) % rings.size()], now);
  return any;
}

/// Pops late: a request leaves the ring when it can be submitted, and not before.
bool ServedDisk::take_from(SplitRing& ring, SteadyTime now) {
  unsigned taken = 0;
  if (ring.has_request()) ring.disarm();
  const auto admits = [&] { return ring.resubmits() || governor_.admits(last_length_); };
  while (taken < kTurn && ring.has_request() && admits() && share_.budget.start(budget_id_)) {
    const auto head = ring.pop();
    if (!head) {
      share_.budget.finish(budget_id_, std::nullopt);
      break;
    }
    ++taken;
    begin_request(ring, *head, now);
  }
  if (ring.broken()) report_broken(ring);
  if (taken > 0) statistics_->pops.add(taken);
  return taken > 0;
}

ServedDisk::Task& ServedDisk::new_task() {
  if (free_tasks_.empty()) free_tasks_.push_back(&tasks_.emplace_back());
  Task& task = *free_tasks_.back();
  free_tasks_.pop_back();
  return task;
}

void ServedDisk::begin_request(SplitRing& ring, std::uint16_t head, SteadyTime now) {
  Task& task = new_task();
  task.disk = this;
  task.ring = &ring;
  task.head = head;
  task.began = now;
  if (!ring.read_chain(session_->memory(), head, task.chain) ||
      !parse_block_request(task.chain, limits(), task.block)) {
    task.block.status_byte = nullptr;
    return answer(task, VIRTIO_BLK_S_IOERR, std::nullopt);
  }
  switch (task.block.kind) {
    case BlockRequest::Kind::answer:
      return answer(task, task.block.status, std::nullopt);
    case BlockRequest::Kind::get_id:
      put_serial(settings_.serial, task.block);
      return answer(task, VIRTIO_BLK_S_OK, std::nullopt);
    case BlockRequest::Kind::io:
      return submit(task);
  }
}

void ServedDisk::submit(Task& task) {
  task.operation = task.block.operation;
  task.fd = image_.fd();
  task.offset = task.block.offset;
  task.length = task.block.length;
  task.buffers = task.block.data;
  task.durable = task.block.operation == Operation::write && writes_through();
  const bool transfer = task.operation == Operation::read || task.operation == Operation::write;
  if (transfer) last_length_ = task.length;
  task.ticket =
      governor_.start(transfer ? DrainGovernor::Kind::transfer : DrainGovernor::Kind::heavy, task.length, task.began);
  if (!image_.accepts(task.buffers)) bounce(task);
  share_.batch.push_back(&task);
}

/// O_DIRECT does not take the guest's buffers as they lie, so the data goes through one that it takes.
void ServedDisk::bounce(Task& task) {
  constexpr std::size_t kAlignment = 4096;
  const std::size_t size = (task.block.length + kAlignment - 1) / kAlignment * kAlignment;
  task.bounced.reset(static_cast<std::byte*>(std::aligned_alloc(kAlignment, size)));
  if (!task.bounced) return;  // the kernel then refuses the guest's buffers, which is the request's error
  if (task.operation == Operation::write) {
    std::byte* to = task.bounced.get();
    for (const iovec& buffer : task.block.data)
      to = std::copy_n(static_cast<const std::byte*>(buffer.iov_base), buffer.iov_len, to);
  }
  task.instead.assign(1, {task.bounced.get(), task.block.length});
  task.buffers = task.instead;
}

/// The storage has no way to zero or discard. Discards are advice, but zeroes have to be there.
/// @return whether writing them has been submitted.
bool ServedDisk::write_zeroes_instead(Task& task) {
  const iovec block = zeroes();
  if (block.iov_len == 0) return false;
  task.instead.clear();
  for (std::uint64_t left = task.block.length; left > 0; left -= task.instead.back().iov_len)
    task.instead.push_back({block.iov_base, std::min<std::size_t>(left, block.iov_len)});
  task.operation = Operation::write;
  task.durable = writes_through();
  task.buffers = task.instead;
  share_.batch.push_back(&task);
  return true;
}

void ServedDisk::finished(IoRequest& request, SteadyTime now) {
  auto& task = static_cast<Task&>(request);
  task.disk->finish(task, now);
}

void ServedDisk::finish(Task& task, SteadyTime now) {
  if (task.result == -EOPNOTSUPP &&
      (task.operation == Operation::discard || task.operation == Operation::write_zeroes)) {
    if (task.block.zeroes && write_zeroes_instead(task)) return;
    if (!task.block.zeroes) task.result = 0;
  }
  if (task.bounced && task.operation == Operation::read && task.result == 0) {
    const std::byte* from = task.bounced.get();
    for (const iovec& buffer : task.block.data) {
      std::copy_n(from, buffer.iov_len, static_cast<std::byte*>(buffer.iov_base));
      from += buffer.iov_len;
    }
  }
  count(task, now);
  governor_.finish(task.ticket, now);
  answer(task, block_status(task.result), now - task.began);
  if (deferred_) go_on();
  leave_if_drained();
  end_session_if_drained();
}

/// Gives the ring its request back. @param latency of the storage; nullopt where it was not asked.
void ServedDisk::answer(Task& task, std::uint8_t status, std::optional<SharedBudget::Duration> latency) {
  if (task.block.status_byte) {
    *task.block.status_byte = status;
    log_writes(task, task.block.written > 1);
  }
  task.ring->complete(task.head, task.block.status_byte ? task.block.written : 0);
  published_ = false;
  share_.budget.finish(budget_id_, latency);
  task.bounced.reset();
  free_tasks_.push_back(&task);
}

/// For a migration: what of the guest's memory this request has written.
void ServedDisk::log_writes(const Task& task, bool data_written) const {
  const DirtyLog* log = session_->log();
  if (!log) return;
  const auto mark = [&](const void* begin, std::size_t size) {
    if (const auto address = session_->memory().guest_address(begin)) log->mark(*address, size);
  };
  if (data_written)
    for (const iovec& buffer : task.block.data) mark(buffer.iov_base, buffer.iov_len);
  mark(task.block.status_byte, 1);
}

void ServedDisk::count(const Task& task, SteadyTime now) {
  OperationStatistics& figures = statistics_->of(task.block.operation);
  figures.requests.add(1);
  figures.bytes.add(task.block.length);
  if (task.result != 0) figures.errors.add(1);
  figures.latency.add(now - task.began);
  statistics_->last_completion_ns.set(static_cast<std::uint64_t>(now.time_since_epoch().count()));
}

void ServedDisk::publish() {
  if (published_ || !session_) return;
  published_ = true;
  for (SplitRing& ring : session_->rings())
    if (ring.publish(session_->log()) && ring.call) ::eventfd_write(ring.call.get(), 1);
}

bool ServedDisk::arm() {
  if (!session_ || !awake_) return false;
  show_limits();
  bool more = false;
  for (SplitRing& ring : session_->rings()) more |= ring.arm(session_->log());
  awake_ = more;
  return more;
}

void ServedDisk::show_limits() {
  const SharedBudget::Disk& budget = share_.budget.disk(budget_id_);
  statistics_->in_flight.set(budget.in_flight);
  statistics_->most_in_flight.raise_to(budget.in_flight);
  statistics_->share.set(budget.share);
  statistics_->window.set(budget.window);
  const DrainGovernor::Forecast forecast = governor_.forecast();
  statistics_->drain_state.set(static_cast<std::uint64_t>(group_.state()));
  statistics_->drain_target_ns.set(static_cast<std::uint64_t>(group_.target().value_or(0ns).count()));
  statistics_->drain_forecast_ns.set(static_cast<std::uint64_t>(forecast.drain.count()));
  statistics_->drain_bound_ns.set(group_.target() ? static_cast<std::uint64_t>(forecast.bound.count()) : 0);
}

void ServedDisk::report_broken(SplitRing& ring) {
  const std::string why = ring.take_breakage();
  if (why.empty()) return;
  statistics_->broken_rings.add(1);
  log_line(LogLevel::warning, settings_.name, "a ring of the guest is broken: " + why);
  if (ring.error) ::eventfd_write(ring.error.get(), 1);
}

}  // namespace aiolos::engine
