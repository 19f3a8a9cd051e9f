// SPDX-License-Identifier: Apache-2.0
// What the two hosts of a migration tell each other, as JSON, both ways.
#include <fmt/format.h>

#include <array>
#include <utility>

#include "aiolos/agent/agent.h"
#include "aiolos/agent/migrate.h"

namespace aiolos {
namespace {

Json or_null(const auto& value) { return value ? Json(*value) : Json(nullptr); }

Json mode_json(const std::optional<AioMode>& mode) { return mode ? Json(to_string(*mode)) : Json(nullptr); }

Json microseconds_json(const std::optional<std::chrono::microseconds>& time) {
  return time ? Json(time->count()) : Json(nullptr);
}

Json to_json(const PlanEngine& engine) {
  return {{"id", engine.id},
          {"pool_min", or_null(engine.pool_min)},
          {"pool_max", or_null(engine.pool_max)},
          {"poll_max_ns", or_null(engine.poll_max_ns)},
          {"aio_max_batch", or_null(engine.aio_max_batch)}};
}

Json to_json(const LoweredQueue& queue) {
  return {{"target", queue.target},
          {"serial", queue.serial},
          {"device", queue.device},
          {"before", queue.before},
          {"lowered", queue.lowered}};
}

Json to_json(const MovingGuest& guest) {
  Json volumes = Json::array();
  for (const MovingVolume& volume : guest.volumes)
    volumes.push_back(
        {{"target", volume.target}, {"connection_info", volume.connection_info}, {"disk_info", volume.disk_info}});
  Json engines = Json::array();
  for (const PlanEngine& engine : guest.engines) engines.push_back(to_json(engine));
  Json queues = Json::array();
  for (const LoweredQueue& queue : guest.lowered_queues) queues.push_back(to_json(queue));
  return {{"name", guest.name},
          {"uuid", guest.uuid},
          {"xml", guest.xml},
          {"persistent_xml", or_null(guest.persistent_xml)},
          {"volumes", std::move(volumes)},
          {"engines", std::move(engines)},
          {"lowered_queues", std::move(queues)}};
}

Json to_json(const PreparedGuest& guest) {
  Json disks = Json::array();
  for (const PreparedDisk& disk : guest.disks)
    disks.push_back({{"target", disk.target},
                     {"mode", mode_json(disk.mode)},
                     {"xml", disk.xml},
                     {"reasons", disk.reasons},
                     {"notes", disk.notes}});
  return {{"xml", guest.xml}, {"persistent_xml", or_null(guest.persistent_xml)}, {"disks", std::move(disks)}};
}

/// Runs what reads a message with nlohmann's own accessors, which throw where a member is missing or of another type.
template <typename Read>
auto read_message(Read&& read) -> Result<decltype(read())> {
  try {
    return read();
  } catch (const Json::exception& mistake) {
    return fail(ErrorKind::bug,
                fmt::format("what the other host of the migration said makes no sense: {}", mistake.what()),
                "have both hosts run the same version of Aiolos");
  }
}

template <typename T>
std::optional<T> optional_at(const Json& object, const char* key) {
  const Json& value = object.at(key);
  return value.is_null() ? std::nullopt : std::optional(value.get<T>());
}

PlanEngine engine_from_json(const Json& value) {
  return {value.at("id").get<unsigned>(), optional_at<unsigned>(value, "pool_min"),
          optional_at<unsigned>(value, "pool_max"), optional_at<std::uint64_t>(value, "poll_max_ns"),
          optional_at<std::uint64_t>(value, "aio_max_batch")};
}

Result<MovingGuest> moving_guest_from_json(const Json& value) {
  return read_message([&] {
    MovingGuest guest{value.at("name"),
                      value.at("uuid"),
                      value.at("xml"),
                      optional_at<std::string>(value, "persistent_xml"),
                      {},
                      {},
                      {}};
    for (const Json& volume : value.at("volumes"))
      guest.volumes.push_back({volume.at("target"), volume.at("connection_info"), volume.at("disk_info")});
    for (const Json& engine : value.at("engines")) guest.engines.push_back(engine_from_json(engine));
    for (const Json& queue : value.at("lowered_queues"))
      guest.lowered_queues.push_back({queue.at("target"), queue.at("serial"), queue.at("device"),
                                      queue.at("before").get<unsigned>(), queue.at("lowered").get<unsigned>()});
    return guest;
  });
}

Result<PreparedGuest> prepared_guest_from_json(const Json& value) {
  return read_message([&] {
    PreparedGuest guest{value.at("xml"), optional_at<std::string>(value, "persistent_xml"), {}};
    for (const Json& disk : value.at("disks")) {
      const auto mode = optional_at<std::string>(disk, "mode");
      guest.disks.push_back({disk.at("target"), mode ? aio_mode_from_string(*mode) : std::nullopt, disk.at("xml"),
                             disk.at("reasons").get<std::vector<std::string>>(),
                             disk.at("notes").get<std::vector<std::string>>()});
    }
    return guest;
  });
}

class RemotePeer final : public MigrationPeer {
 public:
  explicit RemotePeer(AskPeer ask) : ask_(std::move(ask)) {}

  Result<PreparedGuest> prepare(const MovingGuest& guest, bool rehearse) override {
    return ask({{"command", "prepare"}, {"guest", to_json(guest)}, {"rehearse", rehearse}})
        .and_then(prepared_guest_from_json);
  }
  Result<void> begin() override {
    return ask({{"command", "begin"}}).map([](const Json&) {});
  }
  Result<bool> has_guest() override {
    return ask({{"command", "has_guest"}}).and_then([](const Json& answer) {
      return read_message([&] { return answer.at("has_guest").get<bool>(); });
    });
  }
  Result<std::vector<std::string>> arrived() override {
    return ask({{"command", "arrived"}}).and_then([](const Json& answer) {
      return read_message([&] { return answer.at("notes").get<std::vector<std::string>>(); });
    });
  }
  Result<void> cancel() override {
    return ask({{"command", "cancel"}}).map([](const Json&) {});
  }

 private:
  /// What is in the answer's "ok".
  Result<Json> ask(const Json& request) const {
    const auto answer = ask_(request);
    if (!answer) return tl::unexpected(answer.error());
    if (answer->is_object() && answer->contains("ok")) return answer->at("ok");
    const auto error = read_message([&] {
      const Json& told = answer->at("error");
      return Error{error_kind_from_string(told.at("kind").get<std::string>()), told.at("message"), told.at("next"),
                   told.value("where", "")};
    });
    return tl::unexpected(error ? *error : error.error());
  }

  const AskPeer ask_;
};

Result<Json> prepare(MigrationPeer& peer, const Json& request) {
  const auto guest = read_message([&] { return request.at("guest"); }).and_then(moving_guest_from_json);
  if (!guest) return tl::unexpected(guest.error());
  return peer.prepare(*guest, request.value("rehearse", false)).map([](const PreparedGuest& prepared) {
    return to_json(prepared);
  });
}

Result<Json> begin(MigrationPeer& peer, const Json&) {
  return peer.begin().map([] { return Json::object(); });
}

Result<Json> has_guest(MigrationPeer& peer, const Json&) {
  return peer.has_guest().map([](bool here) { return Json{{"has_guest", here}}; });
}

Result<Json> arrived(MigrationPeer& peer, const Json&) {
  return peer.arrived().map([](const std::vector<std::string>& notes) { return Json{{"notes", notes}}; });
}

Result<Json> cancel(MigrationPeer& peer, const Json&) {
  return peer.cancel().map([] { return Json::object(); });
}

struct Verb {
  std::string_view name;
  Result<Json> (*run)(MigrationPeer&, const Json&);
};

constexpr std::array kVerbs{Verb{"prepare", prepare}, Verb{"begin", begin}, Verb{"has_guest", has_guest},
                            Verb{"arrived", arrived}, Verb{"cancel", cancel}};

}  // namespace

std::unique_ptr<MigrationPeer> remote_peer(AskPeer ask) { return std::make_unique<RemotePeer>(std::move(ask)); }

Json answer_peer(MigrationPeer& peer, const Json& request) {
  const std::string command = request.is_object() ? request.value("command", "") : std::string();
  for (const Verb& verb : kVerbs)
    if (verb.name == command) {
      const auto answer = verb.run(peer, request);
      return answer ? Json{{"ok", *answer}} : to_json(answer.error());
    }
  return to_json(Error{ErrorKind::bad_input,
                       fmt::format("unknown request '{}'", command),
                       "have both hosts run the same version of Aiolos",
                       {}});
}

std::string_view to_string(MigrationStatus::Phase phase) {
  switch (phase) {
    case MigrationStatus::Phase::preparing:
      return "preparing";
    case MigrationStatus::Phase::copying:
      return "copying";
    case MigrationStatus::Phase::held:
      return "held";
    case MigrationStatus::Phase::switching_over:
      return "switching over";
    case MigrationStatus::Phase::post_copy:
      return "post-copy";
    case MigrationStatus::Phase::settling:
      return "settling";
  }
  return {};
}

Json to_json(const MigrationReport& report) {
  Json disks = Json::array();
  for (const MovedDisk& disk : report.disks)
    disks.push_back({{"target", disk.target},
                     {"data_plane", disk.engine ? "engine" : "qemu"},
                     {"mode", {{"before", mode_json(disk.before)}, {"after", mode_json(disk.after)}}},
                     {"drain_us", microseconds_json(disk.drain)},
                     {"drain_predicted_us", microseconds_json(disk.drain_predicted)},
                     {"drain_bound_us", microseconds_json(disk.drain_bound)},
                     {"drain_outlook", disk.outlook ? to_json(*disk.outlook) : Json(nullptr)},
                     {"notes", disk.notes}});
  return {{"domain", report.domain},
          {"uuid", report.domain_uuid},
          {"destination", report.destination},
          {"dry_run", report.dry_run},
          {"total_ms", report.result.total.count()},
          {"iterations", report.result.iterations},
          {"downtime_ms", or_null(report.result.downtime_ms)},
          {"downtime_predicted_us", microseconds_json(report.downtime_predicted)},
          {"disks", std::move(disks)},
          {"notes", report.notes}};
}

}  // namespace aiolos
