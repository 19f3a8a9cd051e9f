// SPDX-License-Identifier: Apache-2.0
// The disks of a guest, read from its domain XML.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/result.h"
#include "aiolos/disk/disk_config.h"

namespace aiolos {

class GuestDisks {
 public:
  /// @param domain_xml as libvirt gives it; a domain without any disk is fine.
  static Result<GuestDisks> parse(std::string_view domain_xml);

  const std::vector<disk::DiskConfig>& all() const { return disks_; }

  /// The disk with that target; nullptr if there is none.
  const disk::DiskConfig* find(std::string_view target) const;

  /// The disk that has `disk`'s source, whatever its target; nullptr if none has.
  const disk::DiskConfig* with_source_of(const disk::DiskConfig& disk) const;

  /// "vda, vdb"
  std::string targets() const;

  /// The first name of `target`'s kind (vd., sd., ...) that no disk has.
  std::string free_target_like(std::string_view target) const;

 private:
  std::vector<disk::DiskConfig> disks_;
};

/// Whether two sources are the same image: path, or protocol and name.
bool same_source(const disk::DiskConfig& left, const disk::DiskConfig& right);

/// Refuses an image that the guest has already, under another target.
Result<void> check_source_free(const GuestDisks& guest, const std::string& domain, const disk::DiskConfig& disk);

}  // namespace aiolos
