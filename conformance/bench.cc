// SPDX-License-Identifier: Apache-2.0
#include "bench.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <type_traits>

#include "host_snapshot.h"
#include "loaded_driver.h"

namespace aiolos::conformance {
namespace {

constexpr std::size_t kShortestSecret = 4;

/// Appends the strings of `value` that `redacted` has not.
void collect_secrets(const Json& value, const Json& redacted, std::vector<std::string>& secrets) {
  if (value == redacted) return;
  if (value.is_structured() && value.type() == redacted.type() && value.size() == redacted.size()) {
    for (const auto& [key, member] : value.items())
      collect_secrets(member, value.is_object() ? redacted.at(key) : redacted.at(std::stoul(key)), secrets);
    return;
  }
  const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  if (text.size() >= kShortestSecret) secrets.push_back(text);
}

AttachmentState state_after(Step step) {
  return step == Step::connect ? AttachmentState::connected
                               : (step == Step::disconnect ? AttachmentState::closed : AttachmentState::attached);
}

}  // namespace

std::vector<std::string> Subject::secrets() const {
  std::vector<std::string> secrets;
  collect_secrets(connection_info, redact(connection_info), secrets);
  return secrets;
}

Bench::Bench(const Subject& subject, Fault fault)
    : subject_(subject),
      fault_(fault),
      machine_(real_machine(subject.config)),
      locks_(subject.state / "locks", machine_->clock()),
      watch_(subject.secrets()),
      services_(fault, *machine_, locks_, watch_),
      table_(services_.table()),
      at_([](const JournalWrite&) {}) {
  table_.section = [&subject](std::string_view key, const Json& defaults) {
    return complete_section(subject.config, key, defaults);
  };
}

Result<std::unique_ptr<Bench>> Bench::open(const Subject& subject, Fault fault) {
  std::unique_ptr<Bench> bench(new Bench(subject, fault));
  auto journal = Journal::open(subject.state, bench->machine_->clock());
  if (!journal) return tl::unexpected(std::move(journal).error());
  bench->journal_ = *std::move(journal);
  auto driver = LoadedDriver::load(subject.plugin, bench->table_, [](const DriverIdentity&) { return Result<void>(); });
  if (!driver) return tl::unexpected(std::move(driver).error());
  bench->driver_ = *std::move(driver);
  return bench;
}

Result<Record> Bench::new_record() {
  AttachmentRecord record;
  record.hypervisor = "conformance";
  record.target = fmt::format("{}-{}", ::getpid(), ++records_);  // no two open volumes have one target
  record.connection_info = subject_.connection_info;
  return journal_->open_attachment(record);
}

Result<std::vector<Record>> Bench::open_records() {
  return journal_->open_attachments().map([](const std::vector<AttachmentRecord>& open) {
    std::vector<Record> records;
    for (const AttachmentRecord& record : open) records.push_back(record.id);
    return records;
  });
}

template <typename Verb>
auto Bench::timed(std::string_view name, Verb verb) -> decltype(verb()) {
  const auto begun = std::chrono::steady_clock::now();
  auto result = verb();
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begun);
  if (took > subject_.deadline) slow_.push_back(fmt::format("{} took {} ms", name, took.count()));
  if (!result)
    watch_.look(fmt::format("the error of {}", name), aiolos::describe(result.error()) + result.error().next);
  return result;
}

template <typename Verb>
auto Bench::step(Record record, Step which, Verb verb) -> decltype(verb(nullptr)) {
  if (fault_ == Fault::absent) return timed(aiolos::to_string(which), [&] { return verb(nullptr); });
  const auto begun = journal_->begin_step(record, which);
  if (!begun) return tl::unexpected(begun.error());
  auto writer = fault_ == Fault::journal_fails ? make_failing_journal() : journal_->volume_journal(record, *begun);
  WatchedJournal journal(std::move(writer), watch_, at_);
  const std::vector<std::string> before = open_descriptors();
  auto result = timed(aiolos::to_string(which), [&] { return verb(&journal); });
  const std::vector<std::string> after = open_descriptors();
  // The first of its kind may open what stays open for good, such as the host's connection to libvirt.
  if (!warm_.insert(which).second)
    std::set_difference(after.begin(), after.end(), before.begin(), before.end(), std::back_inserter(descriptors_));
  const auto ended =
      result ? journal_->finish_step(*begun, state_after(which)) : journal_->fail_step(*begun, result.error());
  if (!ended) return tl::unexpected(ended.error());
  return result;
}

Result<Attachment> Bench::connect(Record record) {
  auto attachment = step(record, Step::connect,
                         [&](VolumeJournal* journal) { return driver_->connect(subject_.connection_info, journal); });
  if (attachment) watch_.look("the attachment", to_json(*attachment).dump());
  return attachment;
}

Result<void> Bench::disconnect(Record record, const Attachment* attachment) {
  return step(record, Step::disconnect, [&](VolumeJournal* journal) {
    return driver_->disconnect(redact(subject_.connection_info), attachment, /*force=*/false, journal);
  });
}

Result<std::uint64_t> Bench::extend(Record record, const Attachment& attachment, std::uint64_t bytes) {
  return step(record, Step::extend, [&](VolumeJournal* journal) {
    return driver_->extend(redact(subject_.connection_info), attachment, bytes, journal);
  });
}

Result<void> Bench::verify(const Attachment& attachment) {
  return timed("verify", [&] { return driver_->verify(redact(subject_.connection_info), attachment); });
}

Result<StorageFacts> Bench::facts(const Attachment& attachment) {
  return timed("facts", [&] { return driver_->facts(redact(subject_.connection_info), attachment); });
}

Json Bench::observations() const {
  return {{"leaks", watch_.leaks()},
          {"outside", watch_.outside_of_effects()},
          {"slow", slow_},
          {"descriptors", descriptors_}};
}

}  // namespace aiolos::conformance
