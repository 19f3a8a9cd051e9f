// SPDX-License-Identifier: Apache-2.0
// The libvirt secrets that open LUKS volumes.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "aiolos/core/interfaces.h"
#include "aiolos/core/result.h"

namespace aiolos {

/// Looks secrets up for one flow, or one batch: after a few look-ups it reads the list of all, which costs libvirt
/// about as much as one. For one thread at a time.
class VolumeSecrets {
 public:
  explicit VolumeSecrets(SecretStore& store) : store_(store) {}

  /// The UUID of the volume's secret, if there is one.
  Result<std::optional<std::string>> find(std::string_view volume_id);

 private:
  SecretStore& store_;
  int lookups_ = 0;
  std::optional<std::map<std::string, std::string, std::less<>>> all_;
};

}  // namespace aiolos
