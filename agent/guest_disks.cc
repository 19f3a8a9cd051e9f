// SPDX-License-Identifier: Apache-2.0
#include "guest_disks.h"

#include <algorithm>

#include <fmt/format.h>

#include "aiolos/disk/disk_xml.h"

namespace aiolos {
namespace {

/// The same servers in the same order. Lists that differ may still lead to one cluster, but equal names on unlike
/// lists are two volumes as a rule, and QEMU's image locks guard the rest.
bool same_hosts(const std::vector<disk::Host>& left, const std::vector<disk::Host>& right) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), [](const disk::Host& a, const disk::Host& b) {
    return a.name == b.name && a.port == b.port && a.transport == b.transport && a.socket == b.socket;
  });
}

}  // namespace

Result<GuestDisks> GuestDisks::parse(std::string_view domain_xml) {
  GuestDisks guest;
  // A document without a disk is an error there; a guest without one is not.
  if (domain_xml.find("<disk") == std::string_view::npos) return guest;
  auto found = disk::parse_document(domain_xml);
  if (!found) return tl::unexpected(found.error());
  for (auto& entry : *found)
    if (entry.is_domain_disk) guest.disks_.push_back(std::move(entry.parsed.disk));
  return guest;
}

const disk::DiskConfig* GuestDisks::find(std::string_view target) const {
  for (const auto& disk : disks_)
    if (disk.target.dev == target) return &disk;
  return nullptr;
}

const disk::DiskConfig* GuestDisks::with_source_of(const disk::DiskConfig& disk) const {
  for (const auto& candidate : disks_)
    if (same_source(candidate, disk)) return &candidate;
  return nullptr;
}

std::string GuestDisks::targets() const {
  std::string names;
  for (const auto& disk : disks_) names += (names.empty() ? "" : ", ") + disk.target.dev.value_or("?");
  return names;
}

std::string GuestDisks::free_target_like(std::string_view target) const {
  // All but the last letter: "vd" of "vdb", "xvd" of "xvda".
  const std::string_view prefix = target.substr(0, target.empty() ? 0 : target.size() - 1);
  for (char letter = 'a'; letter <= 'z'; ++letter)
    if (std::string name = fmt::format("{}{}", prefix, letter); !find(name)) return name;
  return fmt::format("{}aa", prefix);
}

bool same_source(const disk::DiskConfig& left, const disk::DiskConfig& right) {
  const disk::Source& a = left.source;
  const disk::Source& b = right.source;
  if (a.file || b.file) return a.file == b.file;
  if (a.dev || b.dev) return a.dev == b.dev;
  if (a.path || b.path) return a.path == b.path;
  return a.protocol && a.protocol == b.protocol && a.name == b.name && same_hosts(a.hosts, b.hosts);
}

Result<void> check_source_free(const GuestDisks& guest, const std::string& domain, const disk::DiskConfig& disk) {
  const disk::DiskConfig* other = guest.with_source_of(disk);
  if (!other) return {};
  return fail(ErrorKind::refused,
              fmt::format("domain '{}' has this volume already, as '{}'", domain, other->target.dev.value_or("?")),
              "detach it there first");
}

}  // namespace aiolos
