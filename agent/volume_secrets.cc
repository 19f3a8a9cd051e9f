// SPDX-License-Identifier: Apache-2.0
#include "volume_secrets.h"

namespace aiolos {
namespace {

constexpr std::string_view kUsage = "volume";
constexpr int kLookups = 3;

}  // namespace

Result<std::optional<std::string>> VolumeSecrets::find(std::string_view volume_id) {
  // Where the list can't be had (a daemon refuses one of 16,384 secrets) there are look-ups still.
  if (!all_ && ++lookups_ == kLookups)
    if (auto all = store_.list(kUsage)) all_ = *std::move(all);
  if (!all_) return store_.find(kUsage, volume_id);
  const auto found = all_->find(volume_id);
  return found == all_->end() ? std::nullopt : std::optional(found->second);
}

}  // namespace aiolos
