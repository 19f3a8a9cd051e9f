// SPDX-License-Identifier: Apache-2.0
// Which AIO modes each driver permits and prefers, by the facts of its storage.
#include "services.h"

namespace aiolos::test {
namespace {

struct Advice {
  const char* type;
  std::optional<Allocation> allocation;  ///< nullopt: nothing was probed.
  bool native;                           ///< Whether native is permitted, and then preferred.
};

const Advice kAdvice[] = {
    // A LUN is allocated behind the target: only what this host puts in between can block.
    {"iscsi", std::nullopt, true},
    {"iscsi", Allocation::full, true},
    {"iscsi", Allocation::unknown, true},
    {"iscsi", Allocation::thin, false},
    {"fibre_channel", std::nullopt, true},
    {"fibre_channel", Allocation::full, true},
    {"fibre_channel", Allocation::unknown, true},
    {"fibre_channel", Allocation::thin, false},
    // A file is full, or writing it may have to allocate.
    {"nfs", std::nullopt, false},
    {"nfs", Allocation::full, true},
    {"nfs", Allocation::sparse, false},
    {"nfs", Allocation::unknown, false},
    {"quobyte", std::nullopt, false},
    {"quobyte", Allocation::full, true},
    {"quobyte", Allocation::sparse, false},
    {"quobyte", Allocation::unknown, false},
    {"file", std::nullopt, false},
    {"file", Allocation::full, true},
    {"file", Allocation::sparse, false},
    {"file", Allocation::unknown, false},
    {"local", std::nullopt, false},
    {"local", Allocation::full, true},
    {"local", Allocation::thin, false},
    {"local", Allocation::unknown, false},
};

Attachment attachment_of(std::string_view type) {
  Attachment attachment;
  attachment.source.kind = type == "nfs" || type == "quobyte" || type == "file" ? SourceKind::file : SourceKind::block;
  attachment.source.path = "/somewhere";
  return attachment;
}

using AioModeTest = Drivers;

TEST_F(AioModeTest, FollowsTheFacts) {
  for (const Advice& row : kAdvice) {
    SCOPED_TRACE(std::string(row.type) + ", " +
                 std::string(row.allocation ? to_string(*row.allocation) : "not probed"));
    const StorageFacts facts = facts_of("/somewhere", row.allocation.value_or(Allocation::unknown), 1 << 20);
    const auto advice = driver_of({{"driver_volume_type", row.type}})
                            .aio_mode(attachment_of(row.type), row.allocation ? &facts : nullptr);
    ASSERT_TRUE(advice.has_value()) << describe(advice.error());
    EXPECT_TRUE(advice->effective);
    EXPECT_TRUE(advice->permits(AioMode::threads));
    EXPECT_TRUE(advice->permits(AioMode::io_uring));
    EXPECT_EQ(advice->permits(AioMode::native), row.native);
    EXPECT_EQ(advice->preferred, row.native ? AioMode::native : AioMode::threads);
    EXPECT_FALSE(advice->reasons.empty());
    EXPECT_EQ(advice->rejected.empty(), row.native) << "each mode that is not permitted is rejected with a reason";
  }
}

TEST_F(AioModeTest, HasNoEffectOnRbd) {
  Attachment attachment;
  attachment.source.kind = SourceKind::network;
  attachment.source.protocol = "rbd";
  attachment.source.name = "volumes/v";
  const auto advice = driver_of({{"driver_volume_type", "rbd"}}).aio_mode(attachment, nullptr);
  ASSERT_TRUE(advice.has_value()) << describe(advice.error());
  EXPECT_FALSE(advice->effective);
  EXPECT_FALSE(advice->reasons.empty());
}

}  // namespace
}  // namespace aiolos::test
