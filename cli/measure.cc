// SPDX-License-Identifier: Apache-2.0
#include "measure.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include "input.h"
#include "measurement.h"
#include "progress.h"
#include "render_measurement.h"

namespace aiolos::cli {
namespace {

using measure::Operation;
using measure::Pattern;
using measure::Plan;
using measure::Report;

/// Replaces what the plan has by what the command line says, if it says something.
template <typename T>
void take(const std::vector<T>& given, std::vector<T>& target) {
  if (!given.empty()) target = given;
}

std::vector<AioMode> modes_of(const std::vector<std::string>& names) {
  std::vector<AioMode> modes;
  modes.reserve(names.size());
  for (const std::string& name : names) modes.push_back(*aio_mode_from_string(name));
  return modes;
}

Plan plan_of(const MeasureOptions& options, const std::string& state) {
  Plan plan;
  if (options.quick) {
    plan.matrix = measure::quick_matrix();
    plan.seconds = 0.25;
    plan.image_size = std::uint64_t{64} << 20;
  }
  std::vector<Operation> operations;
  for (const std::string& name : options.operations)
    operations.push_back(name == "read" ? Operation::read : Operation::write);
  std::vector<Pattern> patterns;
  for (const std::string& name : options.patterns)
    patterns.push_back(name == "random" ? Pattern::random : Pattern::sequential);
  take(operations, plan.matrix.operations);
  take(patterns, plan.matrix.patterns);
  take(options.block_sizes, plan.matrix.block_sizes);
  take(options.depths, plan.matrix.depths);
  take(options.disks, plan.matrix.disks);
  take(modes_of(options.modes), plan.modes);
  if (options.seconds > 0) plan.seconds = options.seconds;
  if (options.repetitions > 0) plan.repetitions = options.repetitions;
  plan.iothreads = options.iothreads;
  if (options.guest) plan.guest_image = options.guest_image.empty() ? state + "/guest" : options.guest_image;
  plan.decides = options.save;
  if (options.size > 0) plan.image_size = options.size;
  plan.limit = !options.no_limit;
  plan.event_loop = !options.no_event_loop;
  return plan;
}

Result<void> check(const MeasureOptions& options) {
  if (options.path.empty() == options.connection.empty())
    return fail(ErrorKind::bad_input, "what is to be measured needs one of --path PATH and --connection FILE",
                "see aiolos measure --help");
  if (options.save && options.modes.size() == 1)
    return fail(ErrorKind::bad_input, fmt::format("--save: {} alone is the fastest of nothing", options.modes.front()),
                "give --modes at least two, or leave it out");
  for (const std::uint32_t size : options.block_sizes)
    if (size == 0 || size % 512 != 0 || size > (16U << 20))
      return fail(ErrorKind::bad_input, fmt::format("--block-sizes: {} is no size of a request", size),
                  "give multiples of 512 up to 16M");
  if (options.size != 0 && options.size % (1U << 20) != 0)
    return fail(ErrorKind::bad_input, fmt::format("--size: {} is no size of an image", options.size),
                "give a multiple of 1M");
  return {};
}

/// The volume of a connection_info, which has to be connected already.
Result<measure::Volume> connected_volume(const MeasureOptions& options, const OpenAgent& open_agent) {
  const auto connection = read_json(options.connection);
  if (!connection) return tl::unexpected(connection.error());
  const auto agent = open_agent();
  if (!agent) return tl::unexpected(agent.error());
  const Json any_disk = {{"bus", "virtio"}, {"dev", "vda"}, {"type", "disk"}};
  const auto explained = (*agent)->explain(*connection, any_disk);
  if (!explained) return tl::unexpected(explained.error());
  const DiskSource& source = explained->attachment.source;
  if (source.kind == SourceKind::network)
    return fail(ErrorKind::refused,
                fmt::format("QEMU's own {} client does this volume's I/O: AIO mode has no effect", source.protocol),
                "measure volumes that are a file or a block device of this host");
  return measure::Volume{source.path, explained->attachment.format, connection->value("driver_volume_type", ""),
                         options.write};
}

Result<Report> run(const MeasureOptions& options, const std::string& state, const OpenAgent& open_agent) {
  auto storage = options.path.empty()
                     ? connected_volume(options, open_agent)
                     : measure::Volume{options.path, options.format, options.volume_type, options.write};
  if (!storage) return tl::unexpected(storage.error());
  ProgressLine line(STDERR_FILENO);
  return measure::measure_storage(
      plan_of(options, state), *std::move(storage), [] { return measure::SignalWatch::seen() != 0; },
      [&line](const measure::Progress& progress) { line.show(progress); });
}

Result<Report> run_watched(const MeasureOptions& options, const std::string& state, const OpenAgent& open_agent) {
  int signal = 0;
  auto report = [&] {
    const measure::SignalWatch watch;
    auto done = run(options, state, open_agent);
    signal = measure::SignalWatch::seen();
    return done;
  }();
  if (signal != 0) ::raise(signal);  // its usual action now, so that our caller sees what ended us
  return report;
}

}  // namespace

void add_measure_options(CLI::App* command, MeasureOptions& options) {
  command->add_option("--path", options.path,
                      "A folder, in which images are made, measured and removed; or an image or block device, which is "
                      "only read");
  command->add_option("--connection", options.connection,
                      "A volume that is connected, by its connection_info; '-' is standard input; only read");
  command->add_flag("--write", options.write, "Measure writes on --path or --connection too: ITS CONTENT IS LOST");
  command->add_option("--format", options.format, "Format of the image at --path")
      ->check(CLI::IsMember({"raw", "qcow2"}))
      ->capture_default_str();
  command->add_option("--volume-type", options.volume_type,
                      "driver_volume_type that --path stands for with --save (file; a block device: local)");
  command->add_flag("--quick", options.quick,
                    "Two depths, random, one disk, a quarter of a second each: a minute or two");
  command->add_option("--seconds", options.seconds, "How long each run lasts (1)")->check(CLI::Range(0.05, 3600.0));
  command->add_option("--repetitions", options.repetitions, "Runs of each case (3)")->check(CLI::Range(1, 100));
  command->add_option("--modes", options.modes, "Of threads,native,io_uring")
      ->delimiter(',')
      ->check(CLI::IsMember({"threads", "native", "io_uring"}));
  command->add_option("--operations", options.operations, "Of read,write")
      ->delimiter(',')
      ->check(CLI::IsMember({"read", "write"}));
  command->add_option("--patterns", options.patterns, "Of random,sequential")
      ->delimiter(',')
      ->check(CLI::IsMember({"random", "sequential"}));
  command->add_option("--block-sizes", options.block_sizes, "Bytes of a request (4k)")
      ->delimiter(',')
      ->transform(CLI::AsSizeValue(false));
  command->add_option("--depths", options.depths, "Requests in flight on each disk (1,8,64)")
      ->delimiter(',')
      ->check(CLI::Range(1, 256));
  command->add_option("--disks", options.disks, "Disks that are busy at the same time (1,4)")
      ->delimiter(',')
      ->check(CLI::Range(1, 64));
  command
      ->add_option("--iothreads", options.iothreads, "That the disks are spread over (0: QEMU's main loop serves all)")
      ->check(CLI::Range(0, 64));
  auto* const guest = command->add_flag("--guest", options.guest,
                                        "Load the disks by fio in a throw-away guest, which is booted for each run, in "
                                        "place of virtio drivers outside of one");
  command
      ->add_option("--guest-image", options.guest_image,
                   "Folder with the guest's vmlinuz and initrd, as scripts/guest-image makes it (guest, in the state "
                   "folder)")
      ->needs(guest);
  command->add_option("--size", options.size, "Of each image that is made (512M)")->transform(CLI::AsSizeValue(false));
  command->add_flag("--no-limit", options.no_limit, "Leave out what fio does on the same files without QEMU");
  command->add_flag("--no-event-loop", options.no_event_loop,
                    "Leave out how long writing blocks QEMU's event loop (of a folder only)");
  command->add_option("--html", options.html, "Also write a page with plots to this file");
  command->add_flag("--save", options.save, "Keep what is the fastest for aio: {profile: measured}");
}

Result<MeasureAnswer> measure(const MeasureOptions& options, const std::string& state, const OpenAgent& open_agent) {
  if (auto checked = check(options); !checked) return tl::unexpected(checked.error());
  // Minutes of measuring are not to end with a file that can't be written.
  if (!options.html.empty())
    if (auto checked = measure::check_page(options.html); !checked) return tl::unexpected(checked.error());
  const auto report = run_watched(options, state, open_agent);
  if (!report) return tl::unexpected(report.error());
  MeasureAnswer answer{measure::to_json(*report), render(*report)};
  if (!options.html.empty()) {
    if (auto written = measure::write_page(options.html, *report); !written) return tl::unexpected(written.error());
    answer.json["html"] = options.html;
    answer.text += fmt::format("plots: {}\n", options.html);
  }
  if (options.save) {
    auto saved = measure::save_profiles(state, *report);
    if (!saved) return tl::unexpected(saved.error());
    if (saved->empty()) answer.text += "saved: nothing, as less than two modes could be measured\n";
    for (const std::string& file : *saved) answer.text += fmt::format("saved: {}\n", file);
    answer.json["saved"] = std::move(*saved);
  }
  return answer;
}

}  // namespace aiolos::cli
