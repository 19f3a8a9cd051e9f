// SPDX-License-Identifier: Apache-2.0
#include "volume_address.h"

#include <algorithm>

#include "scsi/device.h"

namespace aiolos::fibre_channel {
namespace {

constexpr std::size_t kPortNameDigits = 16;

template <typename Container, typename Element>
bool contains(const Container& container, const Element& element) {
  return std::find(container.begin(), container.end(), element) != container.end();
}

Result<std::string> read_port_name(const sdk::Value& value) {
  AIOLOS_TRY(const std::string_view text, value.string());
  std::string name = normalized_port_name(text);
  if (name.empty())
    return value.error("'" + std::string(text) + "' is no world wide port name", "give its 16 hexadecimal digits");
  return name;
}

/// A list of port names, or one as a string.
Result<std::vector<std::string>> read_port_names(const sdk::Value& value) {
  std::vector<std::string> names;
  if (value.type() == AIOLOS_STRING) {
    AIOLOS_TRY(std::string name, read_port_name(value));
    names.push_back(std::move(name));
    return names;
  }
  if (value.type() != AIOLOS_ARRAY) return value.mismatch("a world wide port name or a list of them");
  for (const sdk::Value each : value) {
    AIOLOS_TRY(std::string name, read_port_name(each));
    names.push_back(std::move(name));
  }
  if (names.empty()) return value.error("the list of target ports is empty", "name the array's ports");
  return names;
}

Result<std::uint64_t> read_lun(const sdk::Value& value, const sdk::Value& addressing_mode) {
  AIOLOS_TRY(const std::int64_t number, value.integer_or(0));
  if (number < 0) return value.error(std::to_string(number) + " is no LUN", "give a number from 0 on");
  AIOLOS_TRY(const std::string_view mode, addressing_mode.string_or("SAM"));
  if (const auto lun = scsi::kernel_lun(static_cast<std::uint64_t>(number), mode)) return *lun;
  return addressing_mode.error("unknown addressing mode '" + std::string(mode) + "'",
                               "use SAM, transparent, SAM2 or SAM3-flat");
}

/// One number for all ports, or one for each. Absent is 0, as os-brick has it.
Result<std::vector<std::uint64_t>> read_luns(const sdk::Value& data) {
  const sdk::Value mode = data.at("addressing_mode");
  const sdk::Value several = data.at("target_luns");
  std::vector<std::uint64_t> luns;
  if (several.size() == 0) {
    AIOLOS_TRY(const std::uint64_t lun, read_lun(data.at("target_lun"), mode));
    luns.push_back(lun);
    return luns;
  }
  for (const sdk::Value each : several) {
    AIOLOS_TRY(const std::uint64_t lun, read_lun(each, mode));
    luns.push_back(lun);
  }
  return luns;
}

/// `target_wwns` where there are any, as os-brick; otherwise `target_wwn`.
Result<std::vector<std::string>> read_target_ports(const sdk::Value& data) {
  const sdk::Value several = data.at("target_wwns");
  return read_port_names(several.size() > 0 ? several : data.at("target_wwn"));
}

Result<std::vector<TargetLun>> pair(const sdk::Value& data, const std::vector<std::string>& ports,
                                    const std::vector<std::uint64_t>& luns) {
  if (luns.size() != 1 && luns.size() != ports.size())
    return data.at("target_luns")
        .error(
            "there are " + std::to_string(luns.size()) + " LUNs for " + std::to_string(ports.size()) + " target ports",
            "give one LUN for each target port, or one for all");
  std::vector<TargetLun> pairs;
  for (std::size_t index = 0; index < ports.size(); ++index) {
    TargetLun lun{ports[index], luns.size() == 1 ? luns.front() : luns[index]};
    if (!contains(pairs, lun)) pairs.push_back(std::move(lun));
  }
  return pairs;
}

Result<decltype(VolumeAddress::initiators)> read_initiators(const sdk::Value& map) {
  decltype(VolumeAddress::initiators) initiators;
  if (!map) return initiators;
  if (map.type() != AIOLOS_OBJECT) return map.mismatch("an object of target ports by initiator");
  for (std::size_t index = 0; index < map.size(); ++index) {
    const std::string initiator = normalized_port_name(map.key(index));
    if (initiator.empty())
      return map.error("'" + std::string(map.key(index)) + "' is no world wide port name of an initiator",
                       "give its 16 hexadecimal digits");
    AIOLOS_TRY(initiators[initiator], read_port_names(map[index]));
  }
  return initiators;
}

}  // namespace

bool VolumeAddress::allows(std::string_view initiator) const {
  return initiators.empty() || initiators.find(initiator) != initiators.end();
}

bool VolumeAddress::allows(std::string_view initiator, std::string_view port) const {
  if (initiators.empty()) return true;
  const auto given = initiators.find(initiator);
  return given != initiators.end() && contains(given->second, port);
}

std::string normalized_port_name(std::string_view text) {
  if (text.starts_with("0x") || text.starts_with("0X")) text.remove_prefix(2);
  std::string name;
  for (const char c : text) {
    if (c == ':') continue;
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (!((lower >= '0' && lower <= '9') || (lower >= 'a' && lower <= 'f'))) return {};
    name += lower;
  }
  return name.size() == kPortNameDigits ? name : std::string();
}

std::string shown(std::string_view port_name) { return "0x" + std::string(port_name); }

std::string shown(const TargetLun& lun) {
  return "LUN " + std::to_string(lun.lun) + " of target port " + shown(lun.port);
}

Result<VolumeAddress> read_address(const sdk::Volume& volume) {
  const sdk::Value data = volume.data();
  VolumeAddress address;
  AIOLOS_TRY(const std::vector<std::string> ports, read_target_ports(data));
  AIOLOS_TRY(const std::vector<std::uint64_t> luns, read_luns(data));
  AIOLOS_TRY(address.luns, pair(data, ports, luns));
  AIOLOS_TRY(address.initiators, read_initiators(data.at("initiator_target_map")));
  AIOLOS_TRY(address.may_scan_wildcards, data.at("enable_wildcard_scan").boolean_or(true));
  return address;
}

}  // namespace aiolos::fibre_channel
