// SPDX-License-Identifier: Apache-2.0
// What a driver says of a connected volume: where the guest's data are, in libvirt's terms.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/core/json.h"
#include "aiolos/core/vocabulary.h"

namespace aiolos {

/// A server of a network source: `<host name= port= transport= socket=/>`.
struct SourceHost {
  std::string name;
  std::string port;       ///< As text, as libvirt and Cinder have it; empty if not given.
  std::string transport;  ///< "tcp", "rdma", "unix" or empty.
  std::string socket;     ///< With transport "unix".
};

/// `<auth>` of a network source. The secret itself stays in libvirt.
struct SourceAuth {
  std::string username;
  std::string secret_type;  ///< "ceph", "iscsi", ...
  std::string secret_uuid;
};

/// `<source>` of a disk.
struct DiskSource {
  SourceKind kind = SourceKind::block;
  std::string path;                 ///< For file and block: absolute.
  std::string protocol;             ///< For network: "rbd", "nbd", ...; an empty protocol emits no <source>.
  std::optional<std::string> name;  ///< For network: pool/image, export, ...
  std::vector<SourceHost> hosts;
  std::optional<SourceAuth> auth;
  std::string config_file;  ///< For rbd: `<config file=/>`; empty for none.
};

/// A connected volume (or one whose place could be computed), as a driver's `connect` and `describe` publish it.
/// Its JSON form is the plugin ABI's; schema in docs/attachment.schema.json.
struct Attachment {
  DiskSource source;
  std::string format = "raw";
  Json state;  ///< The driver's own: handed back to it on disconnect and extend, kept in the journal, opaque to us.
};

Json to_json(const Attachment& attachment);

/// The inverse; an error names the JSON pointer that was wrong. Unknown members are an error: a plugin that misspells
/// one would otherwise lose it.
Result<Attachment> attachment_from_json(const Json& value);

}  // namespace aiolos
