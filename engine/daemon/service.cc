// SPDX-License-Identifier: Apache-2.0
#include "service.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "aiolos/core/posix.h"
#include "log.h"
#include "small_file.h"

namespace aiolos::engine {
namespace {

/// The latency that a share `part` of the requests stayed below, as the histogram knows it.
std::uint64_t quantile_us(const LatencyHistogram& histogram, double part) {
  std::uint64_t all = 0;
  for (const Figure& bucket : histogram.buckets) all += bucket.get();
  auto left = static_cast<double>(all) * part;
  for (std::size_t i = 0; i < LatencyHistogram::kBuckets; ++i)
    if ((left -= static_cast<double>(histogram.buckets[i].get())) <= 0 && all > 0) return LatencyHistogram::upper_us(i);
  return 0;
}

Json report(const DiskReport& disk) {
  const DiskStatistics& figures = *disk.statistics;
  Json shown = {{"name", disk.settings.name},
                {"group", disk.settings.group},
                {"connected", figures.connected.get() != 0},
                {"connections", figures.connections.get()},
                {"pops", figures.pops.get()},
                {"in_flight", figures.in_flight.get()},
                {"most_in_flight", figures.most_in_flight.get()},
                {"share", figures.share.get()},
                {"window", figures.window.get()},
                {"broken_rings", figures.broken_rings.get()},
                {"drains",
                 {{"state", to_string(static_cast<DrainGroup::State>(figures.drain_state.get()))},
                  {"forecast_us", figures.drain_forecast_ns.get() / 1000},
                  {"bound_us", figures.drain_bound_ns.get() / 1000},
                  {"count", figures.drains.get()},
                  {"last_us", figures.drain_last_ns.get() / 1000},
                  {"most_us", figures.drain_most_ns.get() / 1000},
                  {"target_us", figures.drain_target_ns.get() / 1000},
                  {"over_target", figures.drains_over_target.get()}}},
                {"last_completion_ns", figures.last_completion_ns.get()}};
  for (const auto& [operation, name] : kOperationNames) {
    const OperationStatistics& done = disk.statistics->of(operation);
    shown[name] = {{"requests", done.requests.get()},
                   {"bytes", done.bytes.get()},
                   {"errors", done.errors.get()},
                   {"latency_p50_us", quantile_us(done.latency, 0.5)},
                   {"latency_p99_us", quantile_us(done.latency, 0.99)}};
  }
  return shown;
}

/// Lets the processes of a group connect to a socket, such as QEMU's that libvirt's daemon starts.
Result<void> admit(const std::string& group, const std::string& socket) {
  if (group.empty()) return {};
  std::array<char, 16384> texts{};
  struct group entry {};
  struct group* found = nullptr;
  if (::getgrnam_r(group.c_str(), &entry, texts.data(), texts.size(), &found) != 0 || found == nullptr)
    return fail(ErrorKind::configuration, fmt::format("there is no group '{}'", group), "correct socket_group");
  if (::chown(socket.c_str(), static_cast<uid_t>(-1), found->gr_gid) != 0 || ::chmod(socket.c_str(), 0660) != 0)
    return tl::unexpected(storage_error("give a group access to", socket, errno));
  return {};
}

/// @param milliseconds 0 for no target.
std::optional<DiskGroup::Duration> target_of(std::uint64_t milliseconds) {
  if (milliseconds == 0) return std::nullopt;
  return std::chrono::milliseconds(milliseconds);
}

}  // namespace

Json to_json(const Error& error) {
  return {{"kind", to_string(error.kind)}, {"message", describe(error)}, {"next", error.next}};
}

Service::Service(const Settings& settings, Poller& control, std::unique_ptr<DescriptorStore> store)
    : control_(control),
      state_(settings.state),
      socket_group_(settings.socket_group),
      store_(std::move(store)),
      drain_target_(target_of(settings.drain_target_ms)) {
  for (unsigned i = 0; i < settings.reactors; ++i)
    reactors_.push_back(std::make_unique<Reactor>(settings.capacity, store_.get()));
  if (store_) sessions_ = take_kept_sessions(*store_);
}

Service::~Service() = default;

std::vector<DiskReport> Service::reports() const {
  const std::lock_guard lock(mutex_);
  std::vector<DiskReport> reports;
  for (const auto& [name, entry] : disks_) reports.push_back(entry.report);
  return reports;
}

// --- disks --------------------------------------------------------------------------------------------------------

/// The disks of one VM stop together, so they are on one reactor; otherwise the one with the fewest takes it.
std::size_t Service::choose_reactor(const std::string& group) const {
  std::vector<std::size_t> load(reactors_.size());
  for (const auto& [name, entry] : disks_) {
    if (!group.empty() && entry.report.settings.group == group) return entry.reactor;
    ++load[entry.reactor];
  }
  return static_cast<std::size_t>(std::min_element(load.begin(), load.end()) - load.begin());
}

void Service::add(DiskSettings disk, bool keep, Reply reply) {
  if (disks_.count(disk.name) != 0)
    return reply(fail(ErrorKind::bad_input, fmt::format("a disk is called '{}' already", disk.name),
                      "use another name, or remove that one first"));
  auto image = Image::open(disk.path, {disk.read_only, disk.direct});
  if (!image) return reply(tl::unexpected(image.error()));
  auto socket = open_socket(disk.socket);
  if (!socket) return reply(tl::unexpected(socket.error()));
  if (auto admitted = admit(socket_group_, disk.socket); !admitted) {
    remove_socket(disk.socket);
    return reply(tl::unexpected(admitted.error()));
  }
  const std::uint64_t size = image->size();
  const std::size_t reactor = choose_reactor(disk.group);
  auto added = [this, disk, size, reactor, keep,
                reply = std::move(reply)](Result<std::shared_ptr<DiskStatistics>> result) {
    control_.post([=, this] {
      if (!result) return reply(tl::unexpected(result.error()));
      {
        const std::lock_guard lock(mutex_);
        disks_.emplace(disk.name, Entry{{disk, size, *result}, reactor, keep});
      }
      if (keep) keep_disks();
      log_line(LogLevel::info, disk.name,
               fmt::format("serves '{}' ({} bytes, {}) at '{}'", disk.path, size, to_string(disk.aio), disk.socket));
      reply(Json{{"name", disk.name}, {"size", size}});
    });
  };
  const auto target = drain_targets_.find(disk.group);
  reactors_[reactor]->add(disk, std::move(*image), std::move(*socket), std::move(added),
                          target == drain_targets_.end() ? drain_target_ : target->second, session_of(disk.name));
}

std::optional<KeptSession> Service::session_of(const std::string& disk) {
  const auto found =
      std::find_if(sessions_.begin(), sessions_.end(), [&](const auto& each) { return each.disk == disk; });
  if (found == sessions_.end()) return std::nullopt;
  std::optional<KeptSession> session = std::move(*found);
  sessions_.erase(found);
  return session;
}

void Service::discard_sessions() {
  for (KeptSession& session : sessions_) session.discard(*store_);
  sessions_.clear();
}

Result<std::vector<DiskSettings>> Service::kept_disks() const {
  std::vector<DiskSettings> kept;
  const auto text = state_.empty() ? std::nullopt : read_small_file(state_);
  if (!text) return kept;
  const auto document = parse_json(*text, state_);
  if (!document) return tl::unexpected(document.error());
  for (const Json& entry : *document) {
    auto disk = read_disk(JsonView(entry));
    if (!disk) return tl::unexpected(disk.error());
    kept.push_back(std::move(*disk));
  }
  return kept;
}

/// Written beside and renamed, so that it is whole at any moment. A restart needs it, a reboot does not.
void Service::keep_disks() const {
  if (state_.empty()) return;
  Json kept = Json::array();
  for (const auto& [name, entry] : disks_)
    if (entry.keep && !entry.leaving) kept.push_back(to_json(entry.report.settings));
  const std::string text = kept.dump(2) + "\n";
  const std::string beside = state_ + ".new";
  const UniqueFd file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!file || ::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
      std::rename(beside.c_str(), state_.c_str()) != 0)
    log_line(LogLevel::error, "state", describe(storage_error("write", state_, errno)));
}

// --- the admin socket's requests ----------------------------------------------------------------------------------

void Service::handle(const Json& request, Reply reply) {
  using Handler = void (Service::*)(const JsonView&, Reply);
  static constexpr std::array<std::pair<std::string_view, Handler>, 8> kCommands{{
      {"add-disk", &Service::add_disk},
      {"remove-disk", &Service::remove_disk},
      {"resize-disk", &Service::resize_disk},
      {"clamp", &Service::clamp},
      {"set-drain-target", &Service::set_drain_target},
      {"switchover", &Service::switchover},
      {"list", &Service::list},
      {"stats", &Service::stats},
  }};
  const JsonView view(request);
  const auto member = view.at("command");
  if (!member) return reply(tl::unexpected(member.error()));
  const auto name = member->string();
  if (!name) return reply(tl::unexpected(name.error()));
  for (const auto& [command, handler] : kCommands)
    if (command == *name) return (this->*handler)(view, std::move(reply));
  std::vector<std::string_view> names;
  for (const auto& [command, handler] : kCommands) names.push_back(command);
  reply(fail(ErrorKind::bad_input, fmt::format("no command is called '{}'", *name),
             fmt::format("use one of {}", fmt::join(names, ", "))));
}

Result<std::string> Service::known_name(const JsonView& request) const {
  const auto member = request.at("name");
  if (!member) return tl::unexpected(member.error());
  auto name = member->string();
  if (!name) return name;
  const auto found = disks_.find(*name);
  if (found == disks_.end() || found->second.leaving)
    return fail(ErrorKind::bad_input, fmt::format("no disk is called '{}'", *name), "see the command list");
  return name;
}

void Service::add_disk(const JsonView& request, Reply reply) {
  const auto member = request.at("disk");
  if (!member) return reply(tl::unexpected(member.error()));
  auto disk = read_disk(*member);
  if (!disk) return reply(tl::unexpected(disk.error()));
  add(std::move(*disk), true, std::move(reply));
}

void Service::remove_disk(const JsonView& request, Reply reply) {
  const auto name = known_name(request);
  if (!name) return reply(tl::unexpected(name.error()));
  Entry& entry = disks_.at(*name);
  entry.leaving = true;
  if (entry.keep) keep_disks();
  reactors_[entry.reactor]->remove(*name, [this, name = *name, reply = std::move(reply)] {
    control_.post([=, this] {
      const auto found = disks_.find(name);
      if (found != disks_.end()) {
        remove_socket(found->second.report.settings.socket);
        const std::lock_guard lock(mutex_);
        disks_.erase(found);
      }
      reply(Json::object());
    });
  });
}

void Service::resize_disk(const JsonView& request, Reply reply) {
  const auto name = known_name(request);
  if (!name) return reply(tl::unexpected(name.error()));
  reactors_[disks_.at(*name).reactor]->resize(
      *name, [this, name = *name, reply = std::move(reply)](Result<std::uint64_t> size) {
        control_.post([=, this] {
          if (!size) return reply(tl::unexpected(size.error()));
          if (const auto found = disks_.find(name); found != disks_.end()) {
            const std::lock_guard lock(mutex_);
            found->second.report.size = *size;
          }
          reply(Json{{"size", *size}});
        });
      });
}

void Service::clamp(const JsonView& request, Reply reply) {
  const auto group = request.find_string("group");
  const auto most = request.find_unsigned("most");
  if (!group) return reply(tl::unexpected(group.error()));
  if (!most) return reply(tl::unexpected(most.error()));
  if (!*group) return reply(fail(ErrorKind::bad_input, "clamp needs a group", "add \"group\": the VM's name"));
  if (*most == std::uint64_t{0})
    return reply(fail(ErrorKind::bad_input, "a disk cannot be clamped to 0", "use 1 or more, or null to end it"));
  const auto bound =
      *most ? std::optional(static_cast<unsigned>(std::min<std::uint64_t>(**most, kLargestLimit))) : std::nullopt;
  for (const auto& reactor : reactors_) reactor->clamp(**group, bound);
  reply(Json::object());
}

void Service::set_drain_target(const JsonView& request, Reply reply) {
  const auto group = request.find_string("group");
  const auto target = request.find_unsigned("milliseconds");
  if (!group) return reply(tl::unexpected(group.error()));
  if (!target) return reply(tl::unexpected(target.error()));
  if (!*group || !*target)
    return reply(fail(ErrorKind::bad_input, "set-drain-target needs a group and milliseconds",
                      "add both; 0 milliseconds ends it"));
  const auto duration = target_of(**target);
  drain_targets_[**group] = duration;
  for (const auto& reactor : reactors_) reactor->set_drain_target(**group, duration);
  reply(Json::object());
}

void Service::switchover(const JsonView& request, Reply reply) {
  const auto group = request.find_string("group");
  const auto near = request.find_boolean("near");
  if (!group) return reply(tl::unexpected(group.error()));
  if (!near) return reply(tl::unexpected(near.error()));
  if (!*group || !*near)
    return reply(fail(ErrorKind::bad_input, "switchover needs a group and near",
                      "add \"near\": true when the guest is about to be stopped, false when it is not any more"));
  for (const auto& reactor : reactors_) reactor->switchover_near(**group, **near);
  reply(Json::object());
}

void Service::list(const JsonView&, Reply reply) {
  Json disks = Json::array();
  for (const auto& [name, entry] : disks_) {
    Json shown = to_json(entry.report.settings);
    shown["size"] = entry.report.size;
    shown["connected"] = entry.report.statistics->connected.get() != 0;
    disks.push_back(std::move(shown));
  }
  reply(Json{{"disks", std::move(disks)}});
}

void Service::stats(const JsonView&, Reply reply) {
  Json disks = Json::array();
  for (const DiskReport& disk : reports()) disks.push_back(report(disk));
  reply(Json{{"disks", std::move(disks)}});
}

}  // namespace aiolos::engine
