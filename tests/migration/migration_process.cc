// SPDX-License-Identifier: Apache-2.0
// host/'s migrations, driven by a test.
//
//   migration_process URI
//
// Each line of standard input is a JSON request with an "id"; each is answered by a line, {"id": .., "result": ..} or
// {"id": .., "error": {"kind", "message", "next"}}, when it is done: requests run side by side, since a migration is
// watched and steered while it runs.
//
//   {"verb": "migrate", "domain": UUID, "destination": URI, "xml": .., "persistent_xml": .., "settings": {..}}
//   {"verb": "migratable-xml" | "persistent-xml" | "progress" | "hold" | "post-copy" | "abort", "domain": UUID}
//   {"verb": "downtime-limit", "domain": UUID, "ms": N}     {"verb": "bandwidth", "domain": UUID, "mib_s": N}
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "aiolos/core/json.h"
#include "aiolos/host/migrations.h"

namespace aiolos {
namespace {

MigrationSettings settings_from(const Json& json) {
  MigrationSettings settings;
  if (json.contains("downtime_limit_ms")) settings.downtime_limit_ms = json["downtime_limit_ms"];
  if (json.contains("bandwidth_mib_s")) settings.bandwidth_mib_s = json["bandwidth_mib_s"];
  settings.downtime_steps = json.value("downtime_steps", settings.downtime_steps);
  settings.connections = json.value("connections", settings.connections);
  settings.compression = json.value("compression", settings.compression);
  settings.auto_converge = json.value("auto_converge", settings.auto_converge);
  if (json.contains("auto_converge_initial")) settings.auto_converge_initial = json["auto_converge_initial"];
  if (json.contains("auto_converge_increment")) settings.auto_converge_increment = json["auto_converge_increment"];
  settings.post_copy = json.value("post_copy", settings.post_copy);
  settings.tls = json.value("tls", settings.tls);
  settings.zero_copy = json.value("zero_copy", settings.zero_copy);
  settings.persistent = json.value("persistent", settings.persistent);
  settings.unsafe = json.value("unsafe", settings.unsafe);
  settings.uri = json.value("uri", settings.uri);
  return settings;
}

Json shown(const MigrationResult& result) {
  return {{"total_ms", result.total.count()},
          {"downtime_ms", result.downtime_ms ? Json(*result.downtime_ms) : Json()},
          {"iterations", result.iterations}};
}

Json shown(const std::optional<MigrationProgress>& progress) {
  if (!progress) return nullptr;
  return {{"elapsed_ms", progress->elapsed.count()},
          {"remaining", progress->remaining_bytes},
          {"total", progress->total_bytes},
          {"bandwidth", progress->bandwidth},
          {"dirty_rate", progress->dirty_rate},
          {"iterations", progress->iterations},
          {"downtime_ms", progress->downtime_ms ? Json(*progress->downtime_ms) : Json()}};
}

Json shown(const std::string& text) { return text; }
Json shown(const std::optional<std::string>& text) { return text ? Json(*text) : Json(); }

Json failed(const Error& error) {
  return {{"error", {{"kind", to_string(error.kind)}, {"message", error.message}, {"next", error.next}}}};
}

template <typename T>
Json answer_of(const Result<T>& result) {
  return result ? Json{{"result", shown(*result)}} : failed(result.error());
}

Json answer_of(const Result<void>& result) { return result ? Json{{"result", nullptr}} : failed(result.error()); }

Json perform(Migrations& migrations, const Json& request) {
  const std::string verb = request.at("verb");
  const std::string domain = request.at("domain");
  if (verb == "migrate")
    return answer_of(migrations.migrate({.domain = domain,
                                         .destination = request.at("destination"),
                                         .xml = request.value("xml", ""),
                                         .persistent_xml = request.value("persistent_xml", ""),
                                         .settings = settings_from(request.value("settings", Json::object()))}));
  if (verb == "migratable-xml") return answer_of(migrations.migratable_xml(domain));
  if (verb == "persistent-xml") return answer_of(migrations.persistent_xml(domain));
  if (verb == "progress") return answer_of(migrations.progress(domain));
  if (verb == "hold") return answer_of(migrations.hold(domain));
  if (verb == "post-copy") return answer_of(migrations.start_post_copy(domain));
  if (verb == "abort") return answer_of(migrations.abort(domain));
  if (verb == "downtime-limit")
    return answer_of(migrations.set_downtime_limit(domain, std::chrono::milliseconds(request.at("ms"))));
  if (verb == "bandwidth") return answer_of(migrations.set_bandwidth(domain, request.at("mib_s")));
  throw std::invalid_argument("no such verb: " + verb);
}

void serve(Migrations& migrations) {
  std::mutex output;
  std::vector<std::jthread> running;
  for (std::string line; std::getline(std::cin, line);)
    running.emplace_back([&migrations, &output, request = Json::parse(line)] {
      Json answer = perform(migrations, request);
      answer["id"] = request.at("id");
      const std::lock_guard lock(output);
      std::cout << answer.dump() << std::endl;
    });
}

}  // namespace
}  // namespace aiolos

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: migration_process URI\n";
    return 2;
  }
  aiolos::LibvirtOptions options;
  options.uri = argv[1];
  const auto migrations = aiolos::make_migrations(aiolos::make_libvirt_connection(options));
  aiolos::serve(*migrations);
  return 0;
}
