// SPDX-License-Identifier: Apache-2.0
// An RBD image: what it is called, where its cluster's monitors are, and as whom it is opened.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/attachment.h"
#include "aiolos/core/result.h"

namespace aiolos::rbd {

struct Image {
  std::string pool;
  std::string name;
  std::vector<SourceHost> monitors;  ///< None: ceph.conf names them.
  std::optional<SourceAuth> auth;    ///< nullopt: the cluster wants none.

  /// "pool/name"
  std::string path() const { return pool + "/" + name; }
  /// Who opens it, in Ceph's words: "client.cinder". Without a user librados takes client.admin.
  std::string entity() const { return "client." + (auth ? auth->username : "admin"); }
  /// The monitors, for people: "mon1:6789, mon2:6789".
  std::string monitors_text() const;
};

/// The image of a network source. @return ErrorKind::bad_input where its name is not pool/image: libvirt takes what
/// stands before the first slash for the pool, too (virDomainDiskSourceNetworkParse).
Result<Image> image_of(const DiskSource& source);

}  // namespace aiolos::rbd
