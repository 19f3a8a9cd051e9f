// SPDX-License-Identifier: Apache-2.0
// Wrong input: a connection_info that is right, made wrong in one place at a time.
#include <fmt/format.h>

#include <limits>

#include "suite.h"

namespace aiolos::conformance {
namespace {

using Pointer = Json::json_pointer;

/// A value of each JSON type, and the awkward ones of some.
const std::vector<Json>& wrong_values() {
  static const std::vector<Json> values{
      nullptr,
      true,
      -1,
      std::numeric_limits<std::int64_t>::max(),
      1.5,
      "",
      "x",
      std::string("/dev/a\0b", 8),
      std::string(70'000, 'a'),
      Json::array(),
      Json::array({7, nullptr, Json::array()}),
      Json::object(),
      Json{{"x", 7}},
  };
  return values;
}

/// The places of all members and elements below `value`, the outer ones first.
void collect_places(const Json& value, const Pointer& place, std::vector<Pointer>& places) {
  if (!value.is_structured()) return;
  for (const auto& [key, member] : value.items()) {
    const Pointer here = value.is_array() ? place / std::stoul(key) : place / key;
    places.push_back(here);
    collect_places(member, here, places);
  }
}

Json without(Json document, const Pointer& place) {
  Json& parent = document[place.parent_pointer()];
  if (parent.is_array())
    parent.erase(std::stoul(place.back()));
  else
    parent.erase(place.back());
  return document;
}

std::string shown(const Json& value) {
  const std::string text = value.dump();
  return text.size() <= 40 ? text : fmt::format("a string of {} bytes", text.size() - 2);
}

}  // namespace

std::vector<Variation> variations(const Json& document) {
  std::vector<Pointer> places;
  collect_places(document, Pointer(), places);
  std::vector<Variation> all;
  for (const Pointer& place : places) {
    if (place.to_string() == "/driver_volume_type") continue;  // it chose this driver
    all.push_back({place.to_string() + " removed", without(document, place)});
    for (const Json& value : wrong_values()) {
      if (value == document[place]) continue;
      all.push_back({fmt::format("{} replaced by {}", place.to_string(), shown(value)), document});
      all.back().document[place] = value;
    }
  }
  return all;
}

}  // namespace aiolos::conformance
