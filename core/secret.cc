// SPDX-License-Identifier: Apache-2.0
// A secret's memory: moved by swapping and wiped at the end, so that no copy of it stays behind.
#include "aiolos/core/interfaces.h"

#include <cstring>

namespace aiolos {

Secret::Secret(Secret&& other) noexcept { value_.swap(other.value_); }

Secret& Secret::operator=(Secret&& other) noexcept {
  value_.swap(other.value_);
  return *this;
}

Secret::~Secret() {
  // Unlike memset, not optimised away before the memory is freed.
  explicit_bzero(value_.data(), value_.size());
}

}  // namespace aiolos
