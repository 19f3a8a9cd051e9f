// SPDX-License-Identifier: Apache-2.0
#include "migrate.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include "aiolos/core/posix.h"
#include "aiolos/host/line_process.h"
#include "input.h"
#include "outside.h"
#include "progress.h"

namespace aiolos::cli {
namespace {

using namespace std::chrono_literals;

// Connecting volumes there takes as long as it takes a slow array; any other answer is libvirt's.
constexpr auto kAnswerTimeout = std::chrono::minutes(10);
// How long a guest may still come after the source has gone: its libvirt was asked, and nobody can say how far it is.
constexpr auto kMayStillCome = 30s;
constexpr auto kLookAgain = 500ms;

/// A time with its unit, in milliseconds.
CLI::Validator as_time() {
  return CLI::AsNumberWithUnit(
      std::map<std::string, double>{{"us", 0.001}, {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}},
      CLI::AsNumberWithUnit::UNIT_REQUIRED, "TIME");
}

/// [user@]host[:port] of a libvirt URI; empty for one of this host.
std::string authority_of(const std::string& uri) {
  const auto begin = uri.find("://");
  if (begin == std::string::npos) return {};
  const std::string rest = uri.substr(begin + 3);
  return rest.substr(0, rest.find_first_of("/?"));
}

/// [user@]host and port of it; an IPv6 address stands in brackets, which ssh does not want.
std::pair<std::string, std::string> host_and_port(const std::string& authority) {
  const auto open = authority.find('[');
  const auto close = authority.find(']');
  const bool is_ipv6 = open != std::string::npos && close != std::string::npos && open < close;
  const auto colon = authority.find(':', is_ipv6 ? close : 0);
  const std::string port = colon == std::string::npos ? std::string() : authority.substr(colon + 1);
  if (!is_ipv6) return {authority.substr(0, colon), port};
  return {authority.substr(0, open) + authority.substr(open + 1, close - open - 1), port};
}

/// What starts the other side: as it was given, else over ssh to the destination's host.
Result<std::vector<std::string>> peer_command(const std::string& given, const std::string& to) {
  if (!given.empty()) return CLI::detail::split_up(given);
  const auto [host, port] = host_and_port(authority_of(to));
  if (host.empty())
    return fail(ErrorKind::bad_input, fmt::format("'{}' names no host, on which aiolos could be asked", to),
                "say how to start it there: --peer \"ssh HOST aiolos migrate-receive\"");
  // A host that is gone is known in half a minute, and not by TCP's own two hours.
  std::vector<std::string> command{"ssh", "-oBatchMode=yes", "-oConnectTimeout=15", "-oServerAliveInterval=5",
                                   "-oServerAliveCountMax=6"};
  if (!port.empty() && to.find("+ssh") != std::string::npos) command.insert(command.end(), {"-p", port});
  command.insert(command.end(), {"--", host, "aiolos", "migrate-receive"});
  return command;
}

template <typename T>
T whole(double value) {
  return static_cast<T>(std::llround(value));
}

/// The configuration's, with what the command line says in its place.
MigrationSettings settings_of(const MigrateOptions& options, const Config& config) {
  MigrationSettings settings = config.migration.settings;
  if (options.downtime_limit_ms)
    settings.downtime_limit_ms = std::max<std::uint64_t>(1, whole<std::uint64_t>(*options.downtime_limit_ms));
  if (options.bandwidth) settings.bandwidth_mib_s = options.bandwidth;
  if (options.parallel) settings.connections = *options.parallel;
  if (!options.compress.empty()) settings.compression = options.compress;
  if (!options.migrate_uri.empty()) settings.uri = options.migrate_uri;
  settings.auto_converge = settings.auto_converge || options.auto_converge;
  settings.post_copy = settings.post_copy || options.post_copy || options.post_copy_after_ms;
  settings.tls = settings.tls || options.tls;
  settings.unsafe = settings.unsafe || options.unsafe;
  return settings;
}

Result<MigrationRequest> request_of(const MigrateOptions& options, const Config& config) {
  MigrationRequest request;
  request.domain = options.domain;
  request.destination = options.to;
  request.dry_run = options.dry_run;
  request.settings = settings_of(options, config);
  request.max_drain = config.migration.max_drain;
  request.post_copy_after = config.migration.post_copy_after;
  request.deadline = config.migration.deadline;
  request.ask_qemu = config.migration.ask_qemu;
  request.raise_pools = config.migration.raise_pools;
  request.guest_agent = config.migration.guest_agent;
  if (options.max_drain_ms)
    request.max_drain = std::chrono::microseconds(whole<std::int64_t>(*options.max_drain_ms * 1000));
  if (options.post_copy_after_ms)
    request.post_copy_after =
        std::chrono::seconds(static_cast<std::int64_t>(std::ceil(*options.post_copy_after_ms / 1000)));
  if (options.deadline_ms)
    request.deadline =
        std::chrono::seconds(std::max<std::int64_t>(1, whole<std::int64_t>(*options.deadline_ms / 1000)));
  if (options.connections.empty()) return request;
  auto connections = read_json(options.connections);
  if (!connections) return tl::unexpected(connections.error());
  request.connections = std::move(*connections);
  return request;
}

/// Speaks to the other side.
AskPeer ask_through(LineProcess& process) {
  return [&process](const Json& request) -> Result<Json> {
    const auto answer = process.ask(request.dump(), kAnswerTimeout);
    if (!answer) return tl::unexpected(answer.error());
    return parse_json(*answer, "the destination's answer");
  };
}

double mib_of(std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

double milliseconds_of(std::chrono::microseconds time) { return static_cast<double>(time.count()) / 1000; }

/// "copying: 310 MiB of 1024 MiB left, 12.5 MiB/s changed, drain 3.1 ms, downtime 45 ms, 4 s left"; what is not known
/// is left out.
std::string progress_text(const MigrationStatus& status) {
  std::string text(to_string(status.phase));
  const MigrationProgress& seen = status.progress;
  if (seen.total_bytes > 0)
    text += fmt::format(": {:.0f} MiB of {:.0f} MiB left, {:.1f} MiB/s changed", mib_of(seen.remaining_bytes),
                        mib_of(seen.total_bytes), mib_of(seen.dirty_rate));
  if (status.drain) text += fmt::format(", drain {:.1f} ms", milliseconds_of(*status.drain));
  if (status.downtime) text += fmt::format(", downtime {:.0f} ms", milliseconds_of(*status.downtime));
  if (status.left) text += fmt::format(", {} s left", status.left->count());
  return text;
}

Result<MigrationReport> run(const MigrationRequest& request, const std::vector<std::string>& command, Agent& agent) {
  const auto process = LineProcess::start(command);
  if (!process) return tl::unexpected(process.error());
  const auto peer = remote_peer(ask_through(**process));
  ProgressLine line(STDERR_FILENO);
  return agent.migrate(request, *peer,
                       {[&line](const MigrationStatus& status) { line.show(progress_text(status)); },
                        [] { return measure::SignalWatch::seen() != 0; }});
}

/// Reads lines as they come.
class Lines {
 public:
  explicit Lines(int fd) : fd_(fd) {}

  /// Without its end; nullopt at the end of the input, and when a signal is to end us.
  std::optional<std::string> next() {
    for (char part[4096];;) {
      if (const auto end = read_.find('\n'); end != std::string::npos) {
        std::string line = read_.substr(0, end);
        read_.erase(0, end + 1);
        return line;
      }
      const ssize_t got = ::read(fd_, part, sizeof(part));
      if (got < 0 && errno == EINTR && measure::SignalWatch::seen() == 0) continue;
      if (got <= 0) return std::nullopt;
      read_.append(part, static_cast<std::size_t>(got));
    }
  }

 private:
  const int fd_;
  std::string read_;
};

/// How far the source has come.
struct Conversation {
  bool begun = false;  ///< Its libvirt has been asked.
  bool over = false;   ///< All is settled.

  void heard(const Json& request, const Json& answer) {
    if (!answer.contains("ok")) return;
    const std::string command = request.value("command", "");
    begun = begun || command == "begin";
    over = over || command == "arrived" || command == "cancel";
  }
};

/// The source has gone without a word. A guest that comes keeps what it has.
Result<void> settle_alone(MigrationPeer& peer, bool begun) {
  const auto until = std::chrono::steady_clock::now() + kMayStillCome;
  while (begun && std::chrono::steady_clock::now() < until) {
    const auto here = peer.has_guest();
    if (here && *here)
      return fail(ErrorKind::retry, "the source of the migration is gone, and the guest is here or on its way",
                  "run aiolos reconcile on both hosts when it is known where it runs");
    std::this_thread::sleep_for(kLookAgain);
  }
  return peer.cancel();
}

std::string milliseconds_text(const std::optional<std::chrono::microseconds>& time) {
  return time ? fmt::format("{:.1f} ms", milliseconds_of(*time)) : std::string("not known");
}

std::string mode_text(const std::optional<AioMode>& mode) { return mode ? std::string(to_string(*mode)) : "none set"; }

}  // namespace

void add_migrate_options(CLI::App* command, MigrateOptions& options) {
  command->add_option("--domain", options.domain, "Name or UUID of the guest")->required();
  command
      ->add_option("--to", options.to, "The destination's libvirt, as this host's reaches it: qemu+ssh://HOST/system")
      ->required();
  command->add_option("--peer", options.peer,
                      "The command that answers for the destination (ssh HOST aiolos migrate-receive)");
  command->add_option("--connections", options.connections,
                      "JSON file {\"vdb\": {\"connection_info\": .., \"disk_info\": ..}} for volumes with secrets, or "
                      "with another one there; '-' is standard input");
  command->add_option("--migrate-uri", options.migrate_uri,
                      "Where the memory goes: tcp://10.0.0.2 (libvirt asks there)");
  command->add_option("--max-drain", options.max_drain_ms, "No switchover while a drain would take longer: 20ms")
      ->transform(as_time());
  command->add_option("--deadline", options.deadline_ms, "When it is given up: 10m")->transform(as_time());
  command->add_option("--downtime-limit", options.downtime_limit_ms, "How long the guest may stand still: 300ms")
      ->transform(as_time());
  command->add_option("--bandwidth", options.bandwidth, "MiB/s at most")->check(CLI::Range(1U, 1'000'000U));
  command->add_option("--parallel", options.parallel, "Connections (1)")->check(CLI::Range(1, 255));
  command->add_option("--compress", options.compress, "Of xbzrle,mt,zlib,zstd, as libvirt knows them")->delimiter(',');
  command->add_flag("--auto-converge", options.auto_converge, "Slow a guest down that changes memory too fast");
  command->add_flag("--post-copy", options.post_copy, "Allow that memory follows the guest; virsh migrate-postcopy begins it, or:");
  command->add_option("--post-copy-after", options.post_copy_after_ms, "Begin it after that time: 2m; allows it")
      ->transform(as_time());
  command->add_flag("--tls", options.tls, "Encrypt the memory on its way");
  command->add_flag("--unsafe", options.unsafe, "Also with disks that libvirt does not know to be shared");
  command->add_flag("--dry-run", options.dry_run, "Decide and check on both hosts, but change nothing");
}

Result<MigrationReport> migrate(const MigrateOptions& options, const Config& config, Agent& agent) {
  const auto request = request_of(options, config);
  if (!request) return tl::unexpected(request.error());
  const auto command = peer_command(options.peer.empty() ? config.migration.peer : options.peer, options.to);
  if (!command) return tl::unexpected(command.error());
  int signal = 0;
  auto report = [&] {
    const measure::SignalWatch watch;
    auto done = run(*request, *command, agent);
    signal = measure::SignalWatch::seen();
    return done;
  }();
  if (signal != 0 && !report) {
    write_all(STDERR_FILENO, fmt::format("aiolos: {}\n", describe(report.error())));
    ::raise(signal);  // its usual action now, so that our caller sees what ended us
  }
  return report;
}

Result<void> migrate_receive(Agent& agent, int input_fd, int output_fd) {
  const measure::SignalWatch watch;
  ::signal(SIGPIPE, SIG_IGN);  // a source that has gone is settled, and not died of
  const auto peer = agent.arrival();
  Lines lines(input_fd);
  Conversation said;
  while (!said.over) {
    const auto line = lines.next();
    if (!line) return settle_alone(*peer, said.begun);
    const auto request = parse_json(*line, "request");
    const Json answer = request ? answer_peer(*peer, *request) : to_json(request.error());
    if (request) said.heard(*request, answer);
    // A source that does not listen any more is gone: the next line will not come.
    write_all(output_fd, answer.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  }
  return {};
}

std::string render(const MigrationReport& report) {
  std::string text = fmt::format("{} ({}) {} {}\n", report.domain, report.domain_uuid,
                                 report.dry_run ? "could move to" : "moved to", report.destination);
  if (!report.dry_run)
    text += fmt::format("total {:.1f} s, {} passes; downtime {}, predicted {}\n",
                        static_cast<double>(report.result.total.count()) / 1000, report.result.iterations,
                        report.result.downtime_ms ? fmt::format("{} ms", *report.result.downtime_ms) : "not known",
                        milliseconds_text(report.downtime_predicted));
  for (const MovedDisk& disk : report.disks) {
    text += fmt::format("{} ({}): {} -> {}", disk.target, disk.engine ? "aiolos-engine" : "QEMU",
                        disk.engine ? std::string("its engine's") : mode_text(disk.before), mode_text(disk.after));
    if (!report.dry_run)
      text += fmt::format("; drain {}, predicted {}{}", milliseconds_text(disk.drain),
                          milliseconds_text(disk.drain_predicted),
                          disk.drain_bound ? ", bound " + milliseconds_text(disk.drain_bound) : std::string());
    else if (disk.drain_predicted)
      text += fmt::format("; a drain would take {} now", milliseconds_text(disk.drain_predicted));
    text += '\n';
    if (disk.outlook) text += fmt::format("  its drain is {}\n", describe(*disk.outlook));
    if (disk.outlook)
      for (const std::string& help : disk.outlook->helps) text += fmt::format("  what would help: {}\n", help);
    for (const std::string& note : disk.notes) text += fmt::format("  {}\n", note);
  }
  for (const std::string& note : report.notes) text += fmt::format("Note: {}\n", note);
  return text;
}

}  // namespace aiolos::cli
