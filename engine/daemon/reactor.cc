// SPDX-License-Identifier: Apache-2.0
#include "reactor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;
using std::chrono::steady_clock;

/// How often the budget is shared out anew while there is work.
constexpr std::chrono::milliseconds kBalance{100};
/// Completions that are shown to their guests before the others are worked on, so that the guests wake up meanwhile.
constexpr std::size_t kFirstShown = 8;
/// Turns without looking at sockets, timers and other threads' tasks, while the disks have work all the time.
constexpr unsigned kBusyTurns = 64;
/// How often a guest is looked at whose disks are being stopped.
constexpr std::chrono::milliseconds kQuiesceTick{5};

std::string group_key(const DiskSettings& settings) {
  return settings.group.empty() ? "disk " + settings.name : "group " + settings.group;
}

}  // namespace

Reactor::Reactor(unsigned capacity, DescriptorStore* store)
    : capacity_(capacity), store_(store), thread_([this] { run(); }) {}

Reactor::~Reactor() {
  poller_.post([this] {
    stopping_ = true;
    for (const auto& disk : disks_) disk->leave();
  });
  thread_.join();
}

void Reactor::add(DiskSettings settings, Image image, DiskSocket socket, Added added,
                  std::optional<DiskGroup::Duration> drain_target, std::optional<KeptSession> kept) {
  // A std::function has to be copyable, so what can only be moved goes by a pointer.
  struct Parts {
    Image image;
    DiskSocket socket;
    std::optional<KeptSession> kept;
  };
  auto parts = std::make_shared<Parts>(Parts{std::move(image), std::move(socket), std::move(kept)});
  poller_.post([this, settings = std::move(settings), parts, added = std::move(added), drain_target] {
    auto share = share_of(settings.aio);
    const auto held = share ? (*share)->engine->hold(parts->socket.lock.get()) : tl::unexpected(share.error());
    if (!held) {
      if (parts->kept) parts->kept->discard(*store_);
      return added(tl::unexpected(held.error()));
    }
    disks_.push_back(std::make_unique<ServedDisk>(settings, std::move(parts->image), std::move(parts->socket), poller_,
                                                  **share, group_of(settings, drain_target), store_));
    if (parts->kept) disks_.back()->resume(std::move(*parts->kept));
    added(disks_.back()->statistics());
  });
}

void Reactor::remove(std::string name, Removed removed) {
  poller_.post([this, name = std::move(name), removed = std::move(removed)] {
    ServedDisk* const disk = find(name);
    if (!disk) return removed();
    disk->close();
    closing_.emplace_back(disk, removed);
  });
}

void Reactor::resize(std::string name, std::function<void(Result<std::uint64_t>)> done) {
  poller_.post([this, name = std::move(name), done = std::move(done)] {
    ServedDisk* const disk = find(name);
    done(disk ? disk->resize()
              : fail(ErrorKind::bad_input, fmt::format("no disk is called '{}'", name), "see the command list"));
  });
}

void Reactor::clamp(std::string group, std::optional<unsigned> most) {
  poller_.post([this, group = std::move(group), most] {
    for (const auto& disk : disks_)
      if (disk->settings().group == group) disk->share().budget.clamp(disk->budget_id(), most);
  });
}

void Reactor::set_drain_target(std::string group, std::optional<DiskGroup::Duration> target) {
  poller_.post([this, group = std::move(group), target] {
    if (const auto found = groups_.find("group " + group); found != groups_.end()) found->second.set_target(target);
  });
}

void Reactor::switchover_near(std::string group, bool near) {
  poller_.post([this, group = std::move(group), near] {
    if (const auto found = groups_.find("group " + group); found != groups_.end()) found->second.switchover_near(near);
  });
}

DiskGroup& Reactor::group_of(const DiskSettings& settings, std::optional<DiskGroup::Duration> target) {
  return groups_.try_emplace(group_key(settings), target).first->second;
}

ServedDisk* Reactor::find(const std::string& name) {
  const auto found =
      std::find_if(disks_.begin(), disks_.end(), [&](const auto& disk) { return disk->settings().name == name; });
  return found == disks_.end() ? nullptr : found->get();
}

/// Engines are made by this thread, for it alone may use them.
Result<AioShare*> Reactor::share_of(AioMode mode) {
  if (const auto known = shares_.find(mode); known != shares_.end()) return &known->second;
  auto engine = make_aio_engine(mode, 1);
  if (!engine) return tl::unexpected(engine.error());
  AioShare& share =
      shares_.emplace(std::piecewise_construct, std::tuple(mode), std::tuple(std::move(*engine), capacity_))
          .first->second;
  // Its edges only wake this thread: each turn reaps.
  poller_.add(share.engine->event_fd(), EPOLLIN | EPOLLET, [] {});
  return &share;
}

void Reactor::run() {
  balanced_ = steady_clock::now();
  unsigned busy = 0;
  bool armed = false;
  while (!stopping_ || !disks_.empty()) {
    if (turn()) {
      armed = false;
      if (++busy % kBusyTurns != 0) continue;
      poller_.wait(0ms);
    } else if (!std::exchange(armed, true) && arm()) {
      continue;  // something came while the rings were armed
    } else {
      bury_closed();
      poller_.wait(patience());
      armed = false;
    }
    const auto now = steady_clock::now();
    for (auto& [key, group] : groups_) group.tick(now);
    if (now - balanced_ >= kBalance) rebalance(now);
  }
}

std::chrono::milliseconds Reactor::patience() const {
  const auto quiesces = [](const auto& group) { return group.second.state() == DrainGroup::State::quiesce; };
  if (std::any_of(groups_.begin(), groups_.end(), quiesces)) return kQuiesceTick;
  return idle() ? 1000ms : kBalance;
}

bool Reactor::idle() const {
  const auto nothing_left = [](const auto& share) { return share.second.engine->in_flight() == 0; };
  return !stopping_ && closing_.empty() && std::all_of(shares_.begin(), shares_.end(), nothing_left);
}

/// Completes, publishes, takes, submits: in this order, so that what has become free is used at once.
bool Reactor::turn() {
  bool progress = false;
  const auto now = steady_clock::now();
  for (auto& [mode, share] : shares_) progress |= reap(share, now);
  first_disk_ = disks_.empty() ? 0 : (first_disk_ + 1) % disks_.size();
  for (std::size_t i = 0; i < disks_.size(); ++i)
    progress |= disks_[(first_disk_ + i) % disks_.size()]->take_requests(now);
  for (auto& [mode, share] : shares_) submit(share);
  publish();
  return progress;
}

bool Reactor::reap(AioShare& share, SteadyTime now) {
  std::array<IoRequest*, 128> done;
  bool any = false;
  for (const std::size_t most : {kFirstShown, done.size()}) {
    const std::size_t count = share.engine->reap(std::span(done).first(most));
    for (IoRequest* request : std::span(done).first(count)) ServedDisk::finished(*request, now);
    publish();
    any |= count > 0;
    if (count < most) break;
  }
  return any;
}

void Reactor::publish() {
  for (const auto& disk : disks_) disk->publish();
}

/// What the engine has no room for stays first in line. The budget sees to it that this is rare.
void Reactor::submit(AioShare& share) {
  if (share.batch.empty()) return;
  const std::size_t taken = share.engine->submit(share.batch);
  share.batch.erase(share.batch.begin(), share.batch.begin() + static_cast<std::ptrdiff_t>(taken));
}

bool Reactor::arm() {
  bool more = false;
  for (const auto& disk : disks_) more |= disk->arm();
  return more;
}

void Reactor::rebalance(SteadyTime now) {
  for (auto& [mode, share] : shares_) share.budget.rebalance(now - balanced_);
  balanced_ = now;
  for (const auto& disk : disks_) disk->show_limits();
}

void Reactor::bury_closed() {
  for (auto& [disk, removed] : closing_)
    if (disk->closed()) removed();
  std::erase_if(closing_, [](const auto& entry) { return entry.first->closed(); });
  std::erase_if(disks_, [](const auto& disk) { return disk->closed(); });
  std::erase_if(groups_, [](const auto& group) { return group.second.empty(); });
}

}  // namespace aiolos::engine
