// SPDX-License-Identifier: Apache-2.0
// The `aiolos` command: arguments in, a flow of agent/, its result printed.
#include <unistd.h>

#include <cstdio>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "aiolos/agent/agent.h"
#include "batch.h"
#include "input.h"
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
  std::uint64_t size = 0;
  std::vector<std::string> files;
};

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void print_json(const Json& value) {
  // Text from outside (libvirt, commands) that is no UTF-8 must not cost the answer.
  print(value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<std::unique_ptr<Agent>> open_agent(const Options& options) {
  auto config = find_config(options.config);
  if (!config) return tl::unexpected(config.error());
  if (!options.uri.empty()) config->libvirt.uri = options.uri;
  Agent::Options agent;
  agent.config = std::move(*config);
  const LogLevel least = options.verbose ? LogLevel::debug : LogLevel::warning;
  agent.log = [least](LogLevel level, std::string_view message) {
    if (level >= least) fmt::print(stderr, "aiolos: {}\n", message);
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
  if (options.json)
    print_json(to_json(*facts));
  else
    print(render(*facts));
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

Result<void> extend(const Options& options) {
  const auto agent = open_agent(options);
  if (!agent) return tl::unexpected(agent.error());
  const auto size = (*agent)->extend(options.domain, options.target, options.size);
  if (!size) return tl::unexpected(size.error());
  if (options.json)
    print_json({{"size", *size}});
  else
    print(fmt::format("{} of {} has {} bytes now\n", options.target, options.domain, *size));
  return {};
}

Result<void> xml_reformat(const Options& options) {
  Json documents = Json::array();
  for (const std::string& file : options.files) {
    const auto done = reformat(file);
    if (!done) return tl::unexpected(done.error());
    for (const std::string& unknown : done->unknown) fmt::print(stderr, "aiolos: kept as it is: {}\n", unknown);
    if (options.json)
      documents.push_back({{"file", file}, {"xml", done->xml}, {"unknown", done->unknown}});
    else
      print(done->xml);
  }
  if (options.json) print_json({{"documents", std::move(documents)}});
  return {};
}

/// Reports an error as the contract says: text on standard error, with --json also {"error": ..} on standard output.
int report(const Options& options, const Error& error) {
  if (options.json) print_json(to_json(error));
  const std::string text = render(error);
  std::fwrite(text.data(), 1, text.size(), stderr);
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

  command = add_command(app, "disk-xml", "Print the XML of a volume that is connected already; touches nothing",
                        options);
  add_volume(command, options);
  add_hypervisor(command, options);
  command->add_flag("--batch", options.batch, "Read JSON lines {connection_info, disk_info}, print a JSON line each");
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
}

int main(int argc, char** argv) {
  CLI::App app("Attaches volumes to libvirt/QEMU guests with the I/O settings that fit", "aiolos");
  Options options;
  Run run = nullptr;
  app.set_version_flag("--version", fmt::format("aiolos {}", library_version()));
  app.require_subcommand(1);
  declare(app, options, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    // CLI11's own statuses are above 100; ours for wrong usage is 2, and help is no error.
    return app.exit(error) == 0 ? 0 : exit_status(ErrorKind::bad_input);
  }
  const auto done = run(options);
  const int status = done ? 0 : report(options, done.error());
  if (std::fflush(stdout) != 0)
    return report(options, Error{ErrorKind::bad_input, "cannot write to standard output", "check where it goes", {}});
  return status;
}

}  // namespace
}  // namespace aiolos::cli

int main(int argc, char** argv) { return aiolos::cli::main(argc, argv); }
