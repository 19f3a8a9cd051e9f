// SPDX-License-Identifier: Apache-2.0
// The `rbd` section of the configuration, beyond the credentials that describe() reads.
#pragma once

#include <chrono>
#include <string>

#include "aiolos/plugin.hpp"

namespace aiolos::rbd {

/// Who reads and writes the image.
enum class Client { qemu, kernel };

/// @param configuration the section. Read for every disk XML.
Result<Client> client_of(const sdk::Value& configuration);

struct Settings {
  /// How long a disk's client waits for the cluster while the image is opened; 0: as long as librados does (300 s).
  std::chrono::seconds connect_timeout{5};
  std::string ceph_conf;  ///< The operator's; empty: librados' own.
  std::string conf_dir;   ///< Absolute. Where the files for QEMU are.

  /// How long a question waits for the cluster: that is always bounded.
  std::chrono::seconds patience() const;
};

/// @return ErrorKind::configuration naming the key that cannot be.
Result<Settings> settings_of(const sdk::Value& configuration);

}  // namespace aiolos::rbd
