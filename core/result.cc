// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/result.h"

#include <array>

namespace aiolos {
namespace {

struct KindRow {
  ErrorKind kind;
  std::string_view name;
  int exit_status;
};

constexpr std::array kKinds{
    KindRow{ErrorKind::bad_input, "bad_input", 2},
    KindRow{ErrorKind::configuration, "configuration", 2},
    KindRow{ErrorKind::refused, "refused", 3},
    KindRow{ErrorKind::retry, "retry", 4},
    KindRow{ErrorKind::storage, "storage", 1},
    KindRow{ErrorKind::hypervisor, "hypervisor", 1},
    KindRow{ErrorKind::bug, "bug", 1},
};

const KindRow& row(ErrorKind kind) {
  for (const KindRow& candidate : kKinds)
    if (candidate.kind == kind) return candidate;
  return kKinds.back();
}

}  // namespace

std::string_view to_string(ErrorKind kind) { return row(kind).name; }

ErrorKind error_kind_from_string(std::string_view name) {
  for (const KindRow& candidate : kKinds)
    if (candidate.name == name) return candidate.kind;
  return ErrorKind::bug;
}

int exit_status(ErrorKind kind) { return row(kind).exit_status; }

std::string describe(const Error& error) {
  return error.where.empty() ? error.message : error.where + ": " + error.message;
}

}  // namespace aiolos
