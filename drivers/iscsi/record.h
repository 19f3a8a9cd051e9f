// SPDX-License-Identifier: Apache-2.0
// The files of open-iscsi's database. iscsiadm takes a CHAP password as an argument only, where every user of the host
// can read it; so the records that it makes are completed here. Source of names and form: open-iscsi, usr/idbm.c.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "connection.h"

namespace aiolos::iscsi {

/// `key = value` lines; a value of nullopt takes the line away.
using Settings = std::vector<std::pair<std::string, std::optional<std::string>>>;

/// A record's text with these settings in place of what it says of those keys.
std::string with_settings(std::string_view record, const Settings& settings);

/// What a session of ours is to have: no login at boot, no scan of all LUNs, one short try to log in, and CHAP.
Settings node_settings(const std::optional<Chap>& chap);
/// What a discovery with CHAP needs.
Settings discovery_settings(const Chap& chap);

/// open-iscsi's folder of records: /etc/iscsi on Debian, /var/lib/iscsi elsewhere, or what a test puts in its place.
class Database {
 public:
  explicit Database(std::vector<std::string> folders = {"/etc/iscsi", "/var/lib/iscsi"})
      : folders_(std::move(folders)) {}

  /// The file of a node's record for an interface; nullopt if there is none.
  std::optional<std::string> node_record(const TargetPortal& node, const std::string& iface) const;
  /// How long ago a record was written; nullopt if it is gone.
  static std::optional<std::chrono::milliseconds> age(const std::string& record);
  /// The portals that there are records of a target for.
  std::vector<Portal> portals_of(const std::string& iqn) const;
  /// The file of a sendtargets record.
  std::optional<std::string> discovery_record(const Portal& portal) const;

  /// Changes a record, at once or not at all; only root may read it afterwards.
  Result<void> change(const std::string& record, const Settings& settings) const;
  /// Takes away what a `change` that was killed may have left beside the record.
  void clean_up(const std::string& record) const;
  /// Takes a record away that iscsiadm left where it was: one that was cut short in writing it does not know.
  void remove(const std::string& record) const;
  /// Takes away what iscsiadm does not know as a record of the node: one that was killed leaves an empty file or
  /// folders.
  void remove_remains(const TargetPortal& node) const;

 private:
  std::vector<std::string> folders_;
};

}  // namespace aiolos::iscsi
