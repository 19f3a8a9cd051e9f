// SPDX-License-Identifier: Apache-2.0
// The list of what an element holds beyond the model.
#include "aiolos/disk/extra.h"

namespace aiolos::disk {

const std::vector<ExtraItem>& Extra::items() const {
  static const std::vector<ExtraItem> none;
  return items_ ? *items_ : none;
}

void Extra::forget(std::string_view name) {
  if (items_) std::erase_if(*items_, [name](const ExtraItem& item) { return item.name == name; });
}

}  // namespace aiolos::disk
