// SPDX-License-Identifier: Apache-2.0
#include "runner.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "event_loop.h"
#include "fio.h"
#include "load_run.h"
#include "storage_daemon.h"

namespace aiolos::measure {
namespace {

/// The files that one kind of storage is measured on.
struct Subject {
  std::string name;
  std::string format;
  std::string volume_type;
  bool block_device = false;
  bool writable = true;
  bool fills_up = false;  ///< Writing allocates, so that it is another storage after the first run.
  std::vector<std::string> files;
  std::optional<ImageKind> made;  ///< By us: may be made anew.

  bool fresh_for_each_run() const { return made && !made->preallocated; }
};

/// The cases of the matrix that a subject can be measured in, and why not in the others.
std::vector<LoadCase> cases_for(const Subject& subject, const LoadMatrix& matrix, std::vector<std::string>& notes) {
  std::vector<LoadCase> cases;
  bool no_writes = false;
  bool no_filling = false;
  bool no_holes = false;
  bool one_disk = false;
  for (const LoadCase& load : cases_of(matrix)) {
    const bool writes = load.operation == Operation::write;
    if (writes && !subject.writable)
      no_writes = true;
    else if (writes && subject.fills_up)
      no_filling = true;
    else if (!writes && subject.fresh_for_each_run())
      no_holes = true;
    else if (load.disks > subject.files.size())
      one_disk = true;
    else
      cases.push_back(load);
  }
  if (no_writes) notes.emplace_back("not written: --write allows to overwrite its content");
  if (no_filling)
    notes.emplace_back("not written: it would be allocated after the first run; measure the folder that it is in");
  if (subject.fills_up) notes.emplace_back("where it is not allocated, reading asks nothing of the storage");
  if (no_holes) notes.emplace_back("not read: reading holes asks nothing of the storage");
  if (one_disk) notes.emplace_back("measured with one disk: it is one volume");
  return cases;
}

/// All runs of one case.
struct CaseRuns {
  std::map<AioMode, std::vector<RunFigures>> modes;
  std::vector<double> limit;
};

Spread spread_over(const std::vector<RunFigures>& runs, double RunFigures::*figure) {
  std::vector<double> values;
  values.reserve(runs.size());
  for (const RunFigures& run : runs) values.push_back(run.*figure);
  return spread_of(std::move(values));
}

CaseResult result_of(const LoadCase& load, const std::vector<AioMode>& modes, const CaseRuns& runs, bool in_guest) {
  CaseResult result;
  result.load = load;
  for (const AioMode mode : modes) {
    const auto found = runs.modes.find(mode);
    if (found == runs.modes.end()) continue;
    result.modes.push_back({mode, spread_over(found->second, &RunFigures::iops),
                            spread_over(found->second, &RunFigures::p50_us),
                            spread_over(found->second, &RunFigures::p99_us), in_guest});
  }
  if (!runs.limit.empty()) result.limit = spread_of(runs.limit);
  return result;
}

double load_average() {
  double average = 0;
  return ::getloadavg(&average, 1) == 1 ? average : 0;
}

class Runner {
 public:
  Runner(const Plan& plan, const Outside& outside, TemporaryFolder& work)
      : plan_(plan), outside_(outside), work_(work) {}

  Result<void> measure(const Subject& subject);
  Result<void> measure_event_loop(const std::string& folder);
  Result<void> make_images(const Subject& subject);

  /// Adds what is to be done to what the progress counts.
  void expect(unsigned steps) { progress_.all += steps; }
  unsigned steps_of(const Subject& subject) const;
  unsigned event_loop_steps() const;
  Report take_report();

 private:
  bool limit_is_measured(const Subject& subject) const { return plan_.limit && subject.format == "raw"; }
  std::string limit_engine() const { return outside_.host.io_uring_works == true ? "io_uring" : "libaio"; }
  std::string socket(std::size_t index) const { return work_ / fmt::format("disk{}", index); }
  RunOptions run_options(const Subject& subject) const { return {plan_.seconds, subject.fresh_for_each_run()}; }
  void begin(std::string what);
  void end() { ++progress_.done; }

  Result<void> observe(const Subject& subject, SubjectResult& result);
  Result<CaseResult> measure_case(const Subject& subject, const LoadCase& load, SubjectResult& result);
  Result<void> check_mode(const BackgroundProcess& qemu, AioMode mode, unsigned disks);
  Result<RunFigures> run_mode(const Subject& subject, const LoadCase& load, AioMode mode);
  Result<RunFigures> run_daemon(const Subject& subject, const LoadCase& load, AioMode mode);
  Result<RunFigures> run_guest(const Subject& subject, const LoadCase& load, AioMode mode);
  Result<double> run_limit(const Subject& subject, const LoadCase& load);
  Result<LoopFigures> run_loop(const std::string& image, AioMode mode, Neighbour neighbour, RunFigures& written);
  Result<EventLoopResult> loop_result(const std::string& image, AioMode mode, Neighbour neighbour);

  const Plan& plan_;
  const Outside& outside_;
  TemporaryFolder& work_;
  Progress progress_;
  std::map<std::string, std::vector<AioMode>> modes_;  ///< That serve a subject, by its name.
  Report report_;
};

void Runner::begin(std::string what) {
  progress_.doing = std::move(what);
  outside_.progress(progress_);
}

unsigned Runner::steps_of(const Subject& subject) const {
  std::vector<std::string> ignored;
  const std::size_t cases = cases_for(subject, plan_.matrix, ignored).size();
  const std::size_t each = plan_.modes.size() + (limit_is_measured(subject) ? 1 : 0);
  return static_cast<unsigned>(cases * each * plan_.repetitions + (subject.made ? 1 : 0));
}

unsigned Runner::event_loop_steps() const { return static_cast<unsigned>(plan_.modes.size() * 3 * plan_.repetitions); }

Result<void> Runner::make_images(const Subject& subject) {
  begin("making images: " + subject.name);
  for (const std::string& file : subject.files)
    if (auto made = make_image(*subject.made, file, plan_.image_size, work_, outside_.stop); !made) return made;
  end();
  return {};
}

Result<void> Runner::observe(const Subject& subject, SubjectResult& result) {
  const auto facts = outside_.block_devices.probe(subject.files.front(), subject.format);
  if (!facts) return tl::unexpected(facts.error());
  if (const auto storage = storage_class(subject.volume_type, *facts)) result.storage = *storage;
  if (!facts->chain.empty()) result.probes = facts->chain.front().probes;
  return {};
}

Result<RunFigures> Runner::run_mode(const Subject& subject, const LoadCase& load, AioMode mode) {
  return outside_.guest ? run_guest(subject, load, mode) : run_daemon(subject, load, mode);
}

Result<RunFigures> Runner::run_guest(const Subject& subject, const LoadCase& load, AioMode mode) {
  GuestOptions options;
  options.mode = mode;
  options.iothreads = plan_.iothreads;
  options.memory_mib = guest_memory_mib(load);
  options.control = work_ / "control";
  const bool writes = load.operation == Operation::write;
  for (unsigned i = 0; i < load.disks; ++i)
    options.disks.push_back({subject.files[i], subject.format, subject.block_device, writes});
  const auto guest = start_guest(*outside_.guest, options, work_);
  if (!guest) return tl::unexpected(guest.error());
  auto figures = load_guest(**guest, options.control, load, run_options(subject), outside_.stop);
  if (figures)
    if (auto real = check_mode(**guest, mode, load.disks); !real) return tl::unexpected(real.error());
  return figures;
}

Result<RunFigures> Runner::run_daemon(const Subject& subject, const LoadCase& load, AioMode mode) {
  DaemonOptions options;
  options.mode = mode;
  options.iothreads = plan_.iothreads;
  std::vector<std::string> sockets;
  for (unsigned i = 0; i < load.disks; ++i) {
    const bool writes = load.operation == Operation::write;
    sockets.push_back(socket(i));
    options.disks.push_back({{subject.files[i], subject.format, subject.block_device, writes}, sockets.back()});
    ::unlink(sockets.back().c_str());
  }
  const auto daemon = start_daemon(options, work_, outside_.stop);
  if (!daemon) return tl::unexpected(daemon.error());
  auto figures = run_load(sockets, load, run_options(subject), outside_.stop);
  if (figures)
    if (auto real = check_mode(**daemon, mode, load.disks); !real) return tl::unexpected(real.error());
  return figures;
}

/// QEMU serves a native disk by threads, and says so in its log alone, where an iothread got no AIO context. A context
/// is never given back, and the main loop has one from opening the disk on.
Result<void> Runner::check_mode(const BackgroundProcess& qemu, AioMode mode, unsigned disks) {
  if (mode != AioMode::native) return {};
  const auto real = outside_.probe.process_aio(qemu.pid(), "qemu");
  const unsigned wanted = 1 + iothreads_for(disks, plan_.iothreads);
  if (!real || real->contexts >= wanted) return {};
  return fail(ErrorKind::configuration,
              fmt::format("QEMU got {} of {} AIO contexts, so that threads did a part of what was to be native",
                          real->contexts, wanted),
              "raise the sysctl fs.aio-max-nr by 1024 for each that it lacks (aiolos host shows who has them)");
}

Result<double> Runner::run_limit(const Subject& subject, const LoadCase& load) {
  const std::vector<std::string> files(subject.files.begin(), subject.files.begin() + load.disks);
  const auto figures = run_fio(files, load, run_options(subject), limit_engine(), work_, outside_.stop);
  if (!figures) return tl::unexpected(figures.error());
  return figures->iops;
}

/// The contenders take turns, so that storage that becomes slower or faster meanwhile does so for all of them.
Result<CaseResult> Runner::measure_case(const Subject& subject, const LoadCase& load, SubjectResult& result) {
  const auto fresh = [&]() -> Result<void> {
    if (!subject.fresh_for_each_run()) return {};
    for (unsigned i = 0; i < load.disks; ++i)
      if (auto made = make_image(*subject.made, subject.files[i], plan_.image_size, work_, outside_.stop); !made)
        return made;
    return {};
  };
  CaseRuns runs;
  for (unsigned repetition = 0; repetition < plan_.repetitions; ++repetition) {
    for (const AioMode mode : std::vector(modes_[subject.name])) {
      begin(fmt::format("{}: {}, {}", subject.name, to_string(mode), describe(load)));
      if (auto made = fresh(); !made) return tl::unexpected(made.error());
      const auto run = run_mode(subject, load, mode);
      end();
      if (run) {
        runs.modes[mode].push_back(*run);
        continue;
      }
      // A mode that never served is one that this host or storage can't have; anything else is a failure.
      if (outside_.stop() || !result.cases.empty() || repetition > 0) return tl::unexpected(run.error());
      result.notes.push_back(fmt::format("{} was not measured: {}", to_string(mode), describe(run.error())));
      std::erase(modes_[subject.name], mode);
      if (modes_[subject.name].empty()) return tl::unexpected(run.error());
    }
    if (!limit_is_measured(subject)) continue;
    begin(fmt::format("{}: fio, {}", subject.name, describe(load)));
    if (auto made = fresh(); !made) return tl::unexpected(made.error());
    const auto limit = run_limit(subject, load);
    if (!limit) return tl::unexpected(limit.error());
    runs.limit.push_back(*limit);
    end();
  }
  return result_of(load, modes_[subject.name], runs, outside_.guest != nullptr);
}

Result<void> Runner::measure(const Subject& subject) {
  SubjectResult result;
  result.name = subject.name;
  if (auto seen = observe(subject, result); !seen) return seen;
  modes_[subject.name] = plan_.modes;
  const std::vector<LoadCase> cases = cases_for(subject, plan_.matrix, result.notes);
  if (plan_.limit && !limit_is_measured(subject))
    result.notes.emplace_back("no limit: fio would read and write below the format");
  for (const LoadCase& load : cases) {
    auto measured = measure_case(subject, load, result);
    if (!measured) return tl::unexpected(measured.error());
    result.cases.push_back(std::move(*measured));
  }
  report_.subjects.push_back(std::move(result));
  return {};
}

Result<LoopFigures> Runner::run_loop(const std::string& image, AioMode mode, Neighbour neighbour, RunFigures& written) {
  const std::string probe = work_ / "probe";
  ::unlink(probe.c_str());
  ::unlink(socket(0).c_str());
  DaemonOptions options;
  options.mode = mode;
  options.iothreads = plan_.iothreads;
  options.null_socket = probe;
  options.disks.push_back({{image, "raw", false, true}, socket(0)});
  const auto daemon = start_daemon(options, work_, outside_.stop);
  if (!daemon) return tl::unexpected(daemon.error());
  const LoadCase load{Operation::write, Pattern::random, 4096, 32, 1};
  auto figures =
      neighbour == Neighbour::none
          ? probe_event_loop(probe, plan_.seconds, outside_.stop)
          : probe_beside(probe, socket(0), load, {plan_.seconds, /*once_over=*/neighbour == Neighbour::sparse},
                         outside_.stop, written);
  if (figures)
    if (auto real = check_mode(**daemon, mode, 1); !real) return tl::unexpected(real.error());
  return figures;
}

Result<EventLoopResult> Runner::loop_result(const std::string& image, AioMode mode, Neighbour neighbour) {
  std::vector<double> p50, p99, most, written_iops;
  for (unsigned repetition = 0; repetition < plan_.repetitions; ++repetition) {
    begin(fmt::format("event loop: {}, written beside it: {}", to_string(mode), to_string(neighbour)));
    if (neighbour == Neighbour::sparse)
      if (auto made = make_image({"raw", false}, image, plan_.image_size, work_, outside_.stop); !made)
        return tl::unexpected(made.error());
    RunFigures written;
    const auto figures = run_loop(image, mode, neighbour, written);
    if (!figures) return tl::unexpected(figures.error());
    p50.push_back(figures->p50_us);
    p99.push_back(figures->p99_us);
    most.push_back(figures->max_us);
    written_iops.push_back(written.iops);
    end();
  }
  return EventLoopResult{mode, neighbour, spread_of(p50), spread_of(p99), spread_of(most), spread_of(written_iops)};
}

Result<void> Runner::measure_event_loop(const std::string& folder) {
  const std::string image = folder + "/event-loop";
  begin("making an image: event loop");
  if (auto made = make_image({"raw", true}, image, plan_.image_size, work_, outside_.stop); !made) return made;
  const std::vector<AioMode>& modes = modes_[describe(ImageKind{"raw", true})];
  for (const Neighbour neighbour : {Neighbour::none, Neighbour::preallocated, Neighbour::sparse})
    for (const AioMode mode : modes) {
      auto result = loop_result(image, mode, neighbour);
      if (!result) return tl::unexpected(result.error());
      report_.event_loop.push_back(std::move(*result));
    }
  ::unlink(image.c_str());
  return {};
}

Report Runner::take_report() {
  report_.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::now()));
  report_.path = plan_.path;
  report_.host = outside_.host;
  report_.conditions.seconds = plan_.seconds;
  report_.conditions.repetitions = plan_.repetitions;
  report_.conditions.iothreads = plan_.iothreads;
  if (outside_.guest) report_.conditions.guest = outside_.guest->kvm ? Accelerator::kvm : Accelerator::tcg;
  if (plan_.limit) report_.conditions.limit_engine = limit_engine();
  return std::move(report_);
}

/// The sockets of the daemons, whose paths may be no longer than 107 bytes.
Result<TemporaryFolder> make_work_folder() { return TemporaryFolder::make("/tmp"); }

std::vector<Subject> subjects_of(const Plan& plan, const TemporaryFolder& images) {
  const unsigned disks = *std::max_element(plan.matrix.disks.begin(), plan.matrix.disks.end());
  std::vector<Subject> subjects;
  for (const ImageKind& kind : image_kinds()) {
    Subject subject;
    subject.name = describe(kind);
    subject.format = kind.format;
    subject.volume_type = plan.volume_type;
    subject.made = kind;
    for (unsigned i = 0; i < disks; ++i) subject.files.push_back(images / fmt::format("image{}", i));
    std::vector<std::string> ignored;
    if (!cases_for(subject, plan.matrix, ignored).empty()) subjects.push_back(std::move(subject));
  }
  return subjects;
}

}  // namespace

Result<Report> measure_volume(const Plan& plan, const Volume& volume, const Outside& outside) {
  const auto facts = outside.block_devices.probe(volume.path, volume.format);
  if (!facts) return tl::unexpected(facts.error());
  Subject subject;
  subject.name = volume.path;
  subject.format = volume.format;
  subject.volume_type = volume.volume_type;
  subject.block_device = !facts->chain.empty() && facts->chain.front().kind == SourceKind::block;
  subject.writable = volume.writable;
  subject.fills_up = facts->allocation() == Allocation::sparse || facts->allocation() == Allocation::thin;
  subject.files = {volume.path};
  std::vector<std::string> notes;
  if (cases_for(subject, plan.matrix, notes).empty())
    return fail(ErrorKind::bad_input, fmt::format("no case is left for '{}': {}", volume.path, notes.front()),
                "name a case that only reads one disk, or allow --write");
  auto work = make_work_folder();
  if (!work) return tl::unexpected(work.error());
  const double average = load_average();
  Runner runner(plan, outside, *work);
  runner.expect(runner.steps_of(subject));
  if (auto done = runner.measure(subject); !done) return tl::unexpected(done.error());
  Report report = runner.take_report();
  report.conditions.load_average = average;
  return report;
}

Result<Report> measure_folder(const Plan& plan, const std::string& folder, const Outside& outside) {
  auto work = make_work_folder();
  if (!work) return tl::unexpected(work.error());
  const auto images = TemporaryFolder::make(folder);
  if (!images) return tl::unexpected(images.error());
  const std::vector<Subject> subjects = subjects_of(plan, *images);
  const unsigned disks = *std::max_element(plan.matrix.disks.begin(), plan.matrix.disks.end());
  if (auto room = require_room(folder, (disks + 1) * plan.image_size); !room) return tl::unexpected(room.error());
  const double average = load_average();
  Runner runner(plan, outside, *work);
  for (const Subject& subject : subjects) runner.expect(runner.steps_of(subject));
  const bool event_loop = plan.event_loop && !outside.guest;
  if (event_loop) runner.expect(runner.event_loop_steps());
  for (const Subject& subject : subjects) {
    if (auto made = runner.make_images(subject); !made) return tl::unexpected(made.error());
    if (auto done = runner.measure(subject); !done) return tl::unexpected(done.error());
    for (const std::string& file : subject.files) ::unlink(file.c_str());
  }
  if (event_loop)
    if (auto done = runner.measure_event_loop(images->path()); !done) return tl::unexpected(done.error());
  Report report = runner.take_report();
  report.conditions.load_average = average;
  report.conditions.image_size = plan.image_size;
  return report;
}

}  // namespace aiolos::measure
