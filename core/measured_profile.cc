// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/measured_profile.h"

#include <charconv>

#include <fmt/format.h>

namespace aiolos {
namespace {

Result<std::string> string_at(const JsonView& object, std::string_view key) {
  return object.at(key).and_then([](const JsonView& member) { return member.string(); });
}

/// A ratio of speeds: a finite number above 0.
Result<double> ratio_at(const JsonView& object, std::string_view key) {
  const auto member = object.at(key);
  if (!member) return tl::unexpected(member.error());
  if (!member->json().is_number() || !(member->json().get<double>() > 0)) return member->mismatch("a number above 0");
  return member->json().get<double>();
}

template <typename Number>
bool read_number(std::string_view digits, Number& number) {
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  return error == std::errc() && end == digits.data() + digits.size();
}

/// Of "2026-11-22T10:00:00Z".
std::optional<std::chrono::sys_days> day_of(std::string_view date) {
  int year = 0;
  unsigned month = 0;
  unsigned day = 0;
  if (date.size() < 10 || !read_number(date.substr(0, 4), year) || !read_number(date.substr(5, 2), month) ||
      !read_number(date.substr(8, 2), day))
    return std::nullopt;
  const std::chrono::year_month_day found{std::chrono::year(year), std::chrono::month(month), std::chrono::day(day)};
  return found.ok() ? std::optional(std::chrono::sys_days(found)) : std::nullopt;
}

Json version_or_null(const std::optional<Version>& value) { return value ? Json(version_string(*value)) : Json(); }

/// A version as text; nullopt if it is absent.
Result<std::optional<Version>> version_at(const JsonView& object, std::string_view key) {
  const auto text = object.find_string(key);
  if (!text) return tl::unexpected(text.error());
  if (!*text) return std::nullopt;
  if (const Version found = parse_version(**text); found != 0) return found;
  return fail(ErrorKind::bad_input, fmt::format("'{}' is no version", **text), "write one such as 7.2.22",
              fmt::format("{}/{}", object.pointer(), key));
}

/// ", with Linux 6.1.0 and QEMU 7.2.22, through the main loop of qemu-storage-daemon"; without what is not known.
std::string measured_with(const MeasuredProfile& profile) {
  std::string text;
  for (const auto& [name, value] : {std::pair("Linux", profile.kernel), std::pair("QEMU", profile.qemu)})
    if (value) text += fmt::format("{} {} {}", text.empty() ? ", with" : " and", name, version_string(*value));
  return profile.through.empty() ? text : text + ", through " + profile.through;
}

Result<StorageClass> storage_from_json(const JsonView& view) {
  StorageClass storage;
  for (const auto& [key, target] :
       {std::pair("volume_type", &storage.volume_type), std::pair("format", &storage.format),
        std::pair("filesystem", &storage.filesystem)}) {
    auto text = string_at(view, key);
    if (!text) return tl::unexpected(text.error());
    *target = std::move(*text);
  }
  const auto allocation = string_at(view, "allocation");
  if (!allocation) return tl::unexpected(allocation.error());
  const auto known = allocation_from_string(*allocation);
  if (!known)
    return fail(ErrorKind::bad_input, fmt::format("unknown allocation '{}'", *allocation),
                "use full, sparse, thin or unknown", view.pointer() + "/allocation");
  storage.allocation = *known;
  return storage;
}

Result<MeasuredProfile::Mode> mode_from_json(const JsonView& view) {
  const auto name = string_at(view, "mode");
  if (!name) return tl::unexpected(name.error());
  const auto mode = aio_mode_from_string(*name);
  if (!mode)
    return fail(ErrorKind::bad_input, fmt::format("unknown AIO mode '{}'", *name), "use threads, native or io_uring",
                view.pointer() + "/mode");
  const auto ratio = ratio_at(view, "times_last");
  if (!ratio) return tl::unexpected(ratio.error());
  return MeasuredProfile::Mode{*mode, *ratio};
}

Result<std::vector<MeasuredProfile::Mode>> modes_from_json(const JsonView& view) {
  if (!view.json().is_array() || view.json().size() < 2) return view.mismatch("an array of at least two modes");
  std::vector<MeasuredProfile::Mode> modes;
  for (std::size_t i = 0; i < view.json().size(); ++i) {
    const auto mode = mode_from_json(JsonView(view.json()[i], fmt::format("{}/{}", view.pointer(), i)));
    if (!mode) return tl::unexpected(mode.error());
    modes.push_back(*mode);
  }
  return modes;
}

}  // namespace

std::optional<StorageClass> storage_class(std::string_view volume_type, const StorageFacts& facts) {
  if (facts.chain.empty()) return std::nullopt;
  const LayerFacts& top = facts.chain.front();
  const bool block = top.kind == SourceKind::block;
  return StorageClass{std::string(volume_type), top.format, top.allocation, block ? "block device" : top.filesystem};
}

std::string to_string(const StorageClass& storage) {
  return fmt::format("{}, {}, {}, {}", storage.volume_type, storage.format, to_string(storage.allocation),
                     storage.filesystem);
}

Json to_json(const StorageClass& storage) {
  return {{"volume_type", storage.volume_type},
          {"format", storage.format},
          {"allocation", to_string(storage.allocation)},
          {"filesystem", storage.filesystem}};
}

Json to_json(const MeasuredProfile& profile) {
  Json modes = Json::array();
  for (const MeasuredProfile::Mode& mode : profile.modes)
    modes.push_back({{"mode", to_string(mode.mode)}, {"times_last", mode.times_last}});
  return {{"storage", to_json(profile.storage)},
          {"date", profile.date},
          {"kernel", version_or_null(profile.kernel)},
          {"qemu", version_or_null(profile.qemu)},
          {"through", profile.through},
          {"modes", std::move(modes)},
          {"cases", profile.cases},
          {"widest_case", profile.widest_case},
          {"widest_lead", profile.widest_lead},
          {"tie_broken_by", profile.tie_broken_by}};
}

Result<MeasuredProfile> measured_profile_from_json(const Json& value) {
  const JsonView view(value);
  MeasuredProfile profile;
  auto storage = view.at("storage").and_then(storage_from_json);
  if (!storage) return tl::unexpected(storage.error());
  profile.storage = std::move(*storage);
  auto modes = view.at("modes").and_then(modes_from_json);
  if (!modes) return tl::unexpected(modes.error());
  profile.modes = std::move(*modes);
  const auto cases = view.at("cases").and_then([](const JsonView& member) { return member.unsigned_integer(); });
  if (!cases) return tl::unexpected(cases.error());
  profile.cases = static_cast<unsigned>(*cases);
  for (const auto& [key, target] : {std::pair("date", &profile.date), std::pair("widest_case", &profile.widest_case),
                                    std::pair("tie_broken_by", &profile.tie_broken_by)}) {
    auto text = string_at(view, key);
    if (!text) return tl::unexpected(text.error());
    *target = std::move(*text);
  }
  if (!day_of(profile.date))
    return fail(ErrorKind::bad_input, fmt::format("'{}' is no date", profile.date),
                "write one such as 2026-11-22T10:00:00Z", view.pointer() + "/date");
  auto through = view.find_string("through");
  if (!through) return tl::unexpected(through.error());
  profile.through = std::move(*through).value_or("");
  for (const auto& [key, target] : {std::pair("kernel", &profile.kernel), std::pair("qemu", &profile.qemu)}) {
    const auto version = version_at(view, key);
    if (!version) return tl::unexpected(version.error());
    *target = *version;
  }
  const auto lead = ratio_at(view, "widest_lead");
  if (!lead) return tl::unexpected(lead.error());
  profile.widest_lead = *lead;
  return profile;
}

std::string describe(const MeasuredProfile& profile) {
  const MeasuredProfile::Mode& first = profile.modes.front();
  std::string text = fmt::format(
      "measured {} on this class of storage ({}){}: {} gives {:.2f} times the requests a second of {} over {} cases, "
      "most "
      "in {} ({:.2f} times)",
      profile.date, to_string(profile.storage), measured_with(profile), to_string(first.mode), first.times_last,
      to_string(profile.modes.back().mode), profile.cases, profile.widest_case, profile.widest_lead);
  if (!profile.tie_broken_by.empty()) text += "; " + profile.tie_broken_by;
  return text;
}

std::vector<std::string> doubts(const MeasuredProfile& profile, const HostFacts& host, std::chrono::sys_days today,
                                unsigned most_days) {
  std::vector<std::string> found;
  const auto compare = [&found](std::string_view name, std::optional<Version> then, std::optional<Version> now) {
    if (!now || then == now) return;
    found.push_back(then ? fmt::format("it was made with {} {} and this host has {}", name, version_string(*then),
                                       version_string(*now))
                         : fmt::format("it does not say with which {} it was made", name));
  };
  compare("Linux", profile.kernel, host.kernel);
  compare("QEMU", profile.qemu, host.qemu);
  const auto day = day_of(profile.date);
  const auto age = day ? (today - *day).count() : 0;
  if (most_days > 0 && age > static_cast<long>(most_days))
    found.push_back(fmt::format("it is {} days old (aio.measured_max_age: {})", age, most_days));
  return found;
}

}  // namespace aiolos
