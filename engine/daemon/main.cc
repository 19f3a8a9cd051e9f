// SPDX-License-Identifier: Apache-2.0
// aiolos-engine: serves disks to QEMU over vhost-user-blk until SIGTERM.
#include <fmt/format.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <memory>

#include "admin_socket.h"
#include "descriptor_store.h"
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "settings.h"

namespace aiolos::engine {
namespace {

using namespace std::chrono_literals;

/// The command line over the configuration file.
Result<Settings> read_settings(const std::string& config, const Settings& given,
                               const std::vector<std::string>& disks) {
  Settings settings;
  if (!config.empty()) {
    auto loaded = load_settings(config);
    if (!loaded) return loaded;
    settings = std::move(*loaded);
  }
  if (!given.admin.empty()) settings.admin = given.admin;
  if (!given.metrics.empty()) settings.metrics = given.metrics;
  if (!given.state.empty()) settings.state = given.state;
  for (const std::string& text : disks) {
    auto disk = parse_disk(text);
    if (!disk) return tl::unexpected(disk.error());
    settings.disks.push_back(std::move(*disk));
  }
  return settings;
}

/// Serves the disks of the settings and those that an earlier process kept. One that cannot be served is logged, and
/// the others are served all the same. @param done becomes true when no disk is missing any more; outlives the service.
void add_disks(Service& service, const Settings& settings, bool& done) {
  // Held by each disk that is not there yet.
  const std::shared_ptr<bool> all(&done, [](bool* flag) { *flag = true; });
  const auto add = [&](const DiskSettings& disk, bool keep) {
    service.add(disk, keep, [name = disk.name, all](const Result<Json>& added) {
      if (!added) log_line(LogLevel::error, name, describe(added.error()) + "; " + added.error().next);
    });
  };
  for (const DiskSettings& disk : settings.disks) add(disk, false);
  const auto kept = service.kept_disks();
  if (!kept)
    log_line(LogLevel::error, "state", describe(kept.error()));
  else
    for (const DiskSettings& disk : *kept) add(disk, true);
  service.discard_sessions();
}

Result<void> serve(const Settings& settings) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread is made, which inherit it
  const UniqueFd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));

  Poller control;
  bool stopping = false;
  bool all_added = false;
  control.add(signal_fd.get(), EPOLLIN, [&] { stopping = true; });
  auto kept = take_kept_descriptors();
  Service service(settings, control,
                  DescriptorStore::is_possible() ? std::make_unique<DescriptorStore>(std::move(kept)) : nullptr);
  std::unique_ptr<MetricsServer> metrics;
  if (!settings.metrics.empty()) {
    auto started = MetricsServer::start(settings.metrics, service);
    if (!started) return tl::unexpected(started.error());
    metrics = std::move(*started);
  }
  UniqueFd listener;
  if (!settings.admin.empty()) {
    auto made = listen_at(settings.admin);
    if (!made) return tl::unexpected(made.error());
    listener = std::move(*made);
  }
  add_disks(service, settings, all_added);
  while (!stopping && !all_added) control.wait(1000ms);
  // Nobody is told that a disk is not served which is only not served yet.
  std::unique_ptr<AdminSocket> admin;
  if (listener) admin = std::make_unique<AdminSocket>(std::move(listener), control, service);
  ::sd_notify(0, "READY=1");
  while (!stopping) control.wait(1000ms);
  ::sd_notify(0, "STOPPING=1");
  return {};
}

int run(int argc, char** argv) {
  CLI::App app("Serves disks to QEMU over vhost-user-blk until SIGTERM.", "aiolos-engine");
  std::string config;
  Settings given;
  std::vector<std::string> disks;
  app.add_option("--config", config,
                 "YAML file with admin, metrics, state, reactors, capacity, drain_target_ms, socket_group and disks");
  app.add_option("--admin", given.admin, "path of the admin socket: one JSON request a line");
  app.add_option("--metrics", given.metrics, "address for Prometheus, such as 127.0.0.1:9464");
  app.add_option("--state", given.state, "file that keeps the disks which the admin socket added, for a restart");
  app.add_option("--disk", disks,
                 "path=FILE,socket=SOCK[,aio=io_uring|native|threads][,group=VM][,readonly=on][,direct=off][,queues=N]"
                 "[,weight=N][,serial=S][,name=NAME]; may be repeated");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const auto settings = read_settings(config, given, disks);
  const Result<void> served = settings ? serve(*settings) : tl::unexpected(settings.error());
  if (served) return 0;
  std::cerr << "aiolos-engine: " << describe(served.error()) << "\n" << served.error().next << "\n";
  return exit_status(served.error().kind);
}

}  // namespace
}  // namespace aiolos::engine

int main(int argc, char** argv) { return aiolos::engine::run(argc, argv); }
