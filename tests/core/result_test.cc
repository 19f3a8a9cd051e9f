// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/result.h"

#include <type_traits>

#include <gtest/gtest.h>

#include "aiolos/core/interfaces.h"

namespace aiolos {
namespace {

constexpr ErrorKind kAll[] = {ErrorKind::bad_input, ErrorKind::configuration, ErrorKind::refused, ErrorKind::retry,
                              ErrorKind::storage,   ErrorKind::hypervisor,    ErrorKind::bug};

TEST(ErrorKind, SpellingsAreTwoWay) {
  for (const ErrorKind kind : kAll) EXPECT_EQ(error_kind_from_string(to_string(kind)), kind);
  EXPECT_EQ(error_kind_from_string("no such kind"), ErrorKind::bug);
}

TEST(ErrorKind, ExitStatusIsTheDocumentedOne) {
  EXPECT_EQ(exit_status(ErrorKind::storage), 1);
  EXPECT_EQ(exit_status(ErrorKind::hypervisor), 1);
  EXPECT_EQ(exit_status(ErrorKind::bug), 1);
  EXPECT_EQ(exit_status(ErrorKind::bad_input), 2);
  EXPECT_EQ(exit_status(ErrorKind::configuration), 2);
  EXPECT_EQ(exit_status(ErrorKind::refused), 3);
  EXPECT_EQ(exit_status(ErrorKind::retry), 4);
}

TEST(Secret, CannotBeCopiedOrPrinted) {
  static_assert(!std::is_copy_constructible_v<Secret>);
  static_assert(!std::is_convertible_v<Secret, std::string>);
  static_assert(!std::is_constructible_v<std::string, Secret>);
  Secret first("hunter2");
  const Secret second(std::move(first));
  EXPECT_EQ(second.reveal(), "hunter2");
  EXPECT_EQ(first.reveal(), "");
}

}  // namespace
}  // namespace aiolos
