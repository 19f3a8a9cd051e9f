// SPDX-License-Identifier: Apache-2.0
// The `aiolos` command: arguments in, a flow of agent/, its result printed.
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include "aiolos/agent/agent.h"
#include "batch.h"
#include "input.h"
#include "measure.h"
#include "migrate.h"
#include "render.h"
#include "xml_reformat.h"

namespace aiolos::cli {
namespace {

struct Options {
  std::string config;
  std::string uri;
  bool json = false;
  bool verbose = false;
  std::string connection;
  std::string disk;
  std::string domain;
  std::string target;
  bool batch = false;
  bool dry_run = false;
  bool force = false;
  bool apply = false;
  std::string size;
  std::string specs;
  std::vector<std::string> files;
  MeasureOptions measure;
  MigrateOptions migrate;
};

/// Whether all of it got out is looked at once, at the end.
void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void complain(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stderr); }

void print_json(const Json& value) {
  // Text from outside (libvirt, commands) that is no UTF-8 must not cost the answer.
  print(value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<Config> configuration(const Options& options) {
  auto config = find_config(options.config);
  if (config && !options.uri.empty()) config->libvirt.uri = options.uri;
  return config;
}

Result<std::unique_ptr<Agent>> open_agent(const Options& options) {
  auto config = configuration(options);
  if (!config) return tl::unexpected(config.error());
  Agent::Options agent;
  agent.config = std::move(*config);
  const LogLevel least = options.verbose ? LogLevel::debug : LogLevel::warning;
  agent.log = [least](LogLevel level, std::string_view message) {
    if (level >= least) complain(fmt::format("aiolos: {}\n", message));
  };
  return Agent::open(std::move(agent));
}

/// connection_info and disk_info as the command line names them.
struct VolumeInput {
  Json connection_info;
  Json disk_info;
};

Result<VolumeInput> read_volume(const Options& options) {
  if (options.connection.empty() || options.disk.empty())
    return fail(ErrorKind::bad_input, "a volume needs --connection FILE and --disk FILE", "see --help");
  auto connection = read_json(options.connection);
  if (!connection) return tl::unexpected(connection.error());
  auto disk = read_json(options.disk);
  if (!disk) return tl::unexpected(disk.error());
  return VolumeInput{std::move(*connection), std::move(*disk)};
}

Result<void> print_explanation(const Options& options, const Explanation& explanation) {
  if (options.json)
    print_json(to_json(explanation));
  else
    print(render(explanation));
  return {};
}

Result<void> drivers(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto list = (*agent)->drivers();
  if (options.json)
    print_json({{"drivers", to_json(list)}});
  else
    print(render(list));
  return {};
}

Result<void> host(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto facts = (*agent)->host();
  if (!facts) return tl::unexpected(facts.error());
  const auto budget = (*agent)->aio_budget();
  if (!budget) return tl::unexpected(budget.error());
  if (options.json) {
    Json answer = to_json(*facts);
    answer["aio"] = to_json(*budget);
    print_json(answer);
  } else {
    print(render(*facts) + render(*budget));
  }
  return {};
}

Result<void> disk_xml(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  if (options.batch) return run_batch(**agent, STDIN_FILENO, STDOUT_FILENO);
  const auto volume = read_volume(options);
  if (!volume) return tl::unexpected(volume.error());
  const auto xml = (*agent)->disk_xml(volume->connection_info, volume->disk_info);
  if (!xml) return tl::unexpected(xml.error());
  if (options.json)
    print_json({{"xml", *xml}});
  else
    print(*xml);
  return {};
}

Result<void> explain(const Options& options) {
  const auto volume = read_volume(options);
  if (!volume) return tl::unexpected(volume.error());
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto explanation = (*agent)->explain(volume->connection_info, volume->disk_info);
  if (!explanation) return tl::unexpected(explanation.error());
  return print_explanation(options, *explanation);
}

Result<void> attach(const Options& options) {
  const auto volume = read_volume(options);
  if (!volume) return tl::unexpected(volume.error());
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto explanation =
      (*agent)->attach(options.domain, volume->connection_info, volume->disk_info, options.dry_run);
  if (!explanation) return tl::unexpected(explanation.error());
  return print_explanation(options, *explanation);
}

Result<void> detach(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  if (const auto done = (*agent)->detach(options.domain, options.target, options.force); !done) return done;
  if (options.json)
    print_json(Json::object());
  else
    print(fmt::format("detached {} from {}\n", options.target, options.domain));
  return {};
}

/// A size as the command line gives it: decimal digits and nothing else, up to what off_t holds.
Result<std::uint64_t> parse_size(const std::string& text) {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  std::int64_t size = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, size);
  if (error != std::errc() || rest != end || size <= 0)
    return fail(ErrorKind::bad_input, fmt::format("--size: '{}' is no size", text),
                fmt::format("give the size in bytes, a multiple of 512 up to {}", kLargest));
  return static_cast<std::uint64_t>(size);
}

Result<void> extend(const Options& options) {
  const auto wanted = parse_size(options.size);
  if (!wanted) return tl::unexpected(wanted.error());
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto size = (*agent)->extend(options.domain, options.target, *wanted);
  if (!size) return tl::unexpected(size.error());
  if (options.json)
    print_json({{"size", *size}});
  else
    print(fmt::format("{} of {} has {} bytes now\n", options.target, options.domain, *size));
  return {};
}

Result<void> qos(const Options& options) {
  const auto specs = read_json(options.specs);
  if (!specs) return tl::unexpected(specs.error());
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  if (const auto done = (*agent)->set_qos(options.domain, options.target, *specs); !done) return done;
  if (options.json)
    print_json(Json::object());
  else
    print(fmt::format("{} of {} has the new limits\n", options.target, options.domain));
  return {};
}

Result<void> plan(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto report = (*agent)->plan(options.domain, options.apply);
  if (!report) return tl::unexpected(report.error());
  if (options.json)
    print_json(to_json(*report));
  else
    print(render(*report));
  return {};
}

Result<void> measure(const Options& options) {
  const auto config = find_config(options.config);
  if (!config) return tl::unexpected(config.error());
  const auto answer = measure(options.measure, config->state.dir, [&options] { return open_agent(options); });
  if (!answer) return tl::unexpected(answer.error());
  if (options.json)
    print_json(answer->json);
  else
    print(answer->text);
  return {};
}

Result<void> migrate(const Options& options) {
  const auto config = configuration(options);
  if (!config) return tl::unexpected(config.error());
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto report = migrate(options.migrate, *config, **agent);
  if (!report) return tl::unexpected(report.error());
  if (options.json)
    print_json(to_json(*report));
  else
    print(render(*report));
  return {};
}

Result<void> migrate_receive(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  return cli::migrate_receive(**agent, STDIN_FILENO, STDOUT_FILENO);
}

Result<void> attachments(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto list = (*agent)->attachments();
  if (!list) return tl::unexpected(list.error());
  if (options.json)
    print_json({{"attachments", to_json(*list)}});
  else
    print(render(*list));
  return {};
}

Result<void> reconcile(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto entries = (*agent)->reconcile();
  if (!entries) return tl::unexpected(entries.error());
  if (options.json)
    print_json({{"reconciled", to_json(*entries)}});
  else
    print(render(*entries));
  return all_settled(*entries);
}

Result<void> xml_reformat(const Options& options) {
  // It uses no setting; but a configuration that is named and cannot be used is an error of every command.
  if (!options.config.empty())
    if (const auto config = find_config(options.config); !config) return tl::unexpected(config.error());
  Json documents = Json::array();
  for (const std::string& file : options.files) {
    const auto done = reformat(file);
    if (!done) return tl::unexpected(done.error());
    for (const std::string& unknown : done->unknown) complain(fmt::format("aiolos: kept as it is: {}\n", unknown));
    if (options.json)
      documents.push_back({{"file", file}, {"xml", done->xml}, {"unknown", done->unknown}});
    else
      print(done->xml);
  }
  if (options.json) print_json({{"documents", std::move(documents)}});
  return {};
}

/// Reports an error as the contract says: text on standard error, with --json also {"error": ..} on standard output.
int report(bool json, const Error& error) {
  if (json) print_json(to_json(error));
  complain(render(error));
  return exit_status(error.kind);
}

using Run = Result<void> (*)(const Options&);

/// A subcommand with the options that every command takes.
CLI::App* add_command(CLI::App& parent, const char* name, const char* summary, Options& options) {
  CLI::App* command = parent.add_subcommand(name, summary);
  command->add_option("--config", options.config, "Configuration file (/etc/aiolos/aiolos.yaml if that exists)");
  command->add_flag("--json", options.json, "Print JSON");
  command->add_flag("-v,--verbose", options.verbose, "Log what is done, on standard error");
  return command;
}

void add_volume(CLI::App* command, Options& options) {
  command->add_option("--connection", options.connection, "connection_info as a JSON file; '-' is standard input");
  command->add_option("--disk", options.disk, "disk_info as a JSON file; '-' is standard input");
}

void add_hypervisor(CLI::App* command, Options& options) {
  command->add_option("--uri", options.uri, "libvirt connection, instead of the configuration's");
}

void add_disk(CLI::App* command, Options& options) {
  command->add_option("--domain", options.domain, "Name or UUID of the guest")->required();
  command->add_option("--target", options.target, "The disk, as the guest's XML names it: vdb")->required();
}

/// Declares the commands; `run` becomes that of the one that was given.
void declare(CLI::App& app, Options& options, Run& run) {
  const auto runs = [&run](CLI::App* command, Run what) { command->callback([&run, what] { run = what; }); };

  runs(add_command(app, "drivers", "List the plugins found", options), drivers);

  CLI::App* command = add_command(app, "host", "Show kernel, libvirt, QEMU, io_uring and the AIO budget", options);
  add_hypervisor(command, options);
  runs(command, host);

  command =
      add_command(app, "disk-xml", "Print the XML of a volume that is connected already; touches nothing", options);
  add_volume(command, options);
  add_hypervisor(command, options);
  command->add_flag("--batch", options.batch, "Read JSON lines {connection_info, disk_info}, print a JSON line each")
      ->excludes(command->get_option("--connection"))
      ->excludes(command->get_option("--disk"));
  runs(command, disk_xml);

  command = add_command(app, "explain", "Show the AIO mode with its evidence; probes, but changes nothing", options);
  add_volume(command, options);
  add_hypervisor(command, options);
  runs(command, explain);

  CLI::App* xml = app.add_subcommand("xml", "Work on <disk> documents");
  xml->require_subcommand(1);
  command = add_command(*xml, "reformat", "Read <disk> documents and write them again from the model", options);
  command->add_option("FILE", options.files, "Documents; '-' is standard input")->required();
  runs(command, xml_reformat);

  command = add_command(app, "attach", "Connect a volume and attach it to a running guest", options);
  command->add_option("--domain", options.domain, "Name or UUID of the guest")->required();
  add_volume(command, options);
  add_hypervisor(command, options);
  command->add_flag("--dry-run", options.dry_run, "Decide and check, but change nothing");
  runs(command, attach);

  command = add_command(app, "detach", "Take a disk from a guest and disconnect its volume", options);
  add_disk(command, options);
  add_hypervisor(command, options);
  command->add_flag("--force", options.force, "Also a disk that Aiolos did not attach, or data that can't be flushed");
  runs(command, detach);

  command = add_command(app, "extend", "Let the guest see a volume's new size", options);
  add_disk(command, options);
  add_hypervisor(command, options);
  command->add_option("--size", options.size, "The size in bytes, a multiple of 512")->required();
  runs(command, extend);

  command = add_command(app, "qos", "Replace the limits of an attached disk", options);
  add_disk(command, options);
  add_hypervisor(command, options);
  command
      ->add_option("--specs", options.specs,
                   "qos_specs as a JSON file: {\"read_iops_sec\": 500}; '-' is standard input")
      ->required();
  runs(command, qos);

  command = add_command(app, "plan", "Show how a guest's AIO engines and queues should be sized, and why", options);
  command->add_option("--domain", options.domain, "Name or UUID of the guest")->required();
  add_hypervisor(command, options);
  command->add_flag("--apply", options.apply, "Change what can be changed while the guest runs");
  runs(command, plan);

  command = add_command(app, "migrate", "Move a running guest with its volumes to another host", options);
  add_migrate_options(command, options.migrate);
  add_hypervisor(command, options);
  runs(command, migrate);

  command = add_command(app, "migrate-receive", "Answer an aiolos migrate that moves a guest to this host", options);
  add_hypervisor(command, options);
  runs(command, migrate_receive);

  command = add_command(app, "measure", "Compare AIO modes on this storage with QEMU's own block layer", options);
  add_measure_options(command, options.measure);
  runs(command, measure);

  runs(add_command(app, "attachments", "List the volumes that the journal holds, and why", options), attachments);

  command = add_command(app, "reconcile", "Finish or undo what a crash left of the volumes in the journal", options);
  add_hypervisor(command, options);
  runs(command, reconcile);
}

/// Parses the arguments and runs the command that they name; gives the exit status.
int run_command(int argc, char** argv) {
  CLI::App app("Attaches volumes to libvirt/QEMU guests with the I/O settings that fit", "aiolos");
  Options options;
  Run run = nullptr;
  app.set_version_flag("--version", fmt::format("aiolos {}", library_version()));
  app.require_subcommand(1);
  declare(app, options, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help and --version
    // Arguments that could not be parsed set no option, so --json is looked for here.
    const bool json = std::find(argv, argv + argc, std::string_view("--json")) != argv + argc;
    return report(json, Error{ErrorKind::bad_input, error.what(), "see aiolos --help, or --help of the command", {}});
  }
  try {
    const auto done = run(options);
    return done ? 0 : report(options.json, done.error());
  } catch (const std::exception& error) {
    return report(options.json,
                  Error{ErrorKind::bug, fmt::format("unexpected exception: {}", error.what()), "report this", {}});
  }
}

int main(int argc, char** argv) {
  const int status = run_command(argc, argv);
  // Some of it may have failed earlier, when a buffer was full.
  const bool failed_before = std::ferror(stdout) != 0;
  if (std::fflush(stdout) == 0 && !failed_before) return status;
  const int unwritten = report(/*json=*/false, Error{ErrorKind::storage,
                                                     "cannot write to standard output",
                                                     "check where it goes: whether that is full, or closed",
                                                     {}});
  return status != 0 ? status : unwritten;
}

}  // namespace
}  // namespace aiolos::cli

int main(int argc, char** argv) { return aiolos::cli::main(argc, argv); }
