// SPDX-License-Identifier: Apache-2.0
#include "progress.h"

#include <gtest/gtest.h>

namespace aiolos::cli {
namespace {

using std::chrono::seconds;

TEST(Progress, ShowsHowFarAndHowLong) {
  EXPECT_EQ(progress_text({10, 40, "raw: native"}, seconds(30), 80),
            "[#####---------------]  25 %, 1:30 left  raw: native");
  EXPECT_EQ(progress_text({0, 40, "raw"}, seconds(0), 80), "[--------------------]   0 %  raw");
  EXPECT_EQ(progress_text({40, 40, "raw"}, seconds(65), 80), "[####################] 100 %, 0:00 left  raw");
}

TEST(Progress, FitsTheTerminal) { EXPECT_EQ(progress_text({1, 2, std::string(200, 'x')}, seconds(9), 40).size(), 39U); }

TEST(Progress, BearsMoreStepsThanWereForeseen) {
  EXPECT_EQ(progress_text({5, 4, "x"}, seconds(5), 80), "[####################] 100 %, 0:00 left  x");
}

}  // namespace
}  // namespace aiolos::cli
