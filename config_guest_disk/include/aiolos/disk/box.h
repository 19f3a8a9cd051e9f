// SPDX-License-Identifier: Apache-2.0
// Box: an optional value that costs one pointer while it is not set.
#pragma once

#include <memory>
#include <utility>

namespace aiolos::disk {

/// An optional `T` on the heap with value semantics: copies are deep, `const` reaches the value. It keeps the elements
/// that few disks have out of every disk's size, and lets an element contain its own kind (a backing chain).
/// As plain as the value itself: threads may share it to read, not to write.
template <typename T>
class Box {
 public:
  Box() noexcept = default;
  Box(const T& value) : value_(std::make_unique<T>(value)) {}
  Box(T&& value) : value_(std::make_unique<T>(std::move(value))) {}
  Box(const Box& other) : value_(other.value_ ? std::make_unique<T>(*other.value_) : nullptr) {}
  Box(Box&& other) noexcept = default;
  Box& operator=(const Box& other) {
    if (this != &other) value_ = other.value_ ? std::make_unique<T>(*other.value_) : nullptr;
    return *this;
  }
  Box& operator=(Box&& other) noexcept = default;
  ~Box() = default;

  explicit operator bool() const noexcept { return value_ != nullptr; }
  bool has_value() const noexcept { return value_ != nullptr; }

  /// The value; undefined while `!has_value()`, as with std::optional.
  T& operator*() noexcept { return *value_; }
  const T& operator*() const noexcept { return *value_; }
  T* operator->() noexcept { return value_.get(); }
  const T* operator->() const noexcept { return value_.get(); }

  /// The value, made first if there is none: `disk.iotune.ensure().read_iops_sec = 500`.
  T& ensure() {
    if (!value_) value_ = std::make_unique<T>();
    return *value_;
  }
  void reset() noexcept { value_.reset(); }

 private:
  std::unique_ptr<T> value_;
};

}  // namespace aiolos::disk
