// SPDX-License-Identifier: Apache-2.0
// A set of keys that is known when the program is compiled, for walking an object once instead of once for each key.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "aiolos/core/json_document.h"

namespace aiolos {

/// What belongs to each of `N` keys. A key is told by its length and its ends, with factors found at compile time for
/// which no two keys of the table fall on the same slot; one comparison then makes sure.
template <typename T, std::size_t N>
class KeyTable {
 public:
  struct Row {
    std::string_view key;
    T value;
  };

  /// Does not compile for keys that no factors tell apart.
  consteval explicit KeyTable(const Row (&rows)[N]) : rows_(std::to_array(rows)) {
    for (factor_ = 1; !place_all(); ++factor_) {
    }
  }

  /// nullptr for a key that is not in the table.
  constexpr const T* find(std::string_view key) const {
    const std::size_t row = row_of(key);
    return row < N ? &rows_[row].value : nullptr;
  }

  /// The members of `object` that are in the table, in the table's order; nullptr where it has none. Of two with one
  /// key the last counts.
  std::array<const JsonNode*, N> members_of(const JsonNode& object) const {
    std::array<const JsonNode*, N> members{};
    for (std::size_t i = 0; i < object.size(); ++i) {
      const JsonMember& member = *object.member(i);
      if (const std::size_t row = row_of(member.key); row < N) members[row] = &member.value;
    }
    return members;
  }

  constexpr const T& operator[](std::size_t row) const { return rows_[row].value; }

  /// For messages.
  std::array<std::string_view, N> keys() const {
    std::array<std::string_view, N> keys;
    for (std::size_t i = 0; i < N; ++i) keys[i] = rows_[i].key;
    return keys;
  }

 private:
  static constexpr std::size_t kSlots = 128;
  static_assert(N < kSlots / 2);

  /// N for a key that is not in the table.
  constexpr std::size_t row_of(std::string_view key) const {
    if (key.empty()) return N;
    const std::size_t row = slots_[slot_of(key)];
    return row < N && detail::equal(rows_[row].key, key) ? row : N;
  }

  constexpr std::size_t slot_of(std::string_view key) const {
    const auto first = static_cast<unsigned char>(key[0]);
    const auto middle = static_cast<unsigned char>(key[key.size() / 2]);
    const auto last = static_cast<unsigned char>(key[key.size() - 1]);
    return ((first + 31U * last + 7U * middle + 131U * key.size()) * factor_ >> 5) % kSlots;
  }

  consteval bool place_all() {
    slots_.fill(N);
    for (std::size_t i = 0; i < N; ++i) {
      std::uint8_t& slot = slots_[slot_of(rows_[i].key)];
      if (slot != N) return false;
      slot = static_cast<std::uint8_t>(i);
    }
    return true;
  }

  std::array<Row, N> rows_;
  std::array<std::uint8_t, kSlots> slots_{};
  std::uint32_t factor_ = 1;
};

}  // namespace aiolos
