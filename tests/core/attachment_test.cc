// SPDX-License-Identifier: Apache-2.0
#include "aiolos/core/attachment.h"

#include <gtest/gtest.h>

namespace aiolos {
namespace {

TEST(Attachment, SurvivesItsJson) {
  Attachment network;
  network.source.kind = SourceKind::network;
  network.source.protocol = "rbd";
  network.source.name = "volumes/volume-1";
  network.source.hosts = {{"10.0.0.1", "6789", "", ""}, {"", "", "unix", "/run/sock"}};
  network.source.auth = SourceAuth{"cinder", "ceph", "8b1a..."};
  network.source.config_file = "/etc/ceph/ceph.conf";
  network.state = {{"pool", "volumes"}};
  Attachment block;
  block.source.path = "/dev/sdb";
  Attachment file;
  file.source.kind = SourceKind::file;
  file.source.path = "/images/a.qcow2";
  file.format = "qcow2";
  for (const Attachment& attachment : {network, block, file}) {
    const auto parsed = attachment_from_json(to_json(attachment));
    ASSERT_TRUE(parsed) << describe(parsed.error());
    EXPECT_EQ(to_json(*parsed), to_json(attachment));
  }
}

TEST(Attachment, NamesWhatIsWrongInItsJson) {
  const auto where = [](const char* text) {
    const auto attachment = attachment_from_json(Json::parse(text));
    return attachment ? std::string("accepted") : attachment.error().where;
  };
  EXPECT_EQ(where(R"({})"), "/source");
  EXPECT_EQ(where(R"({"source": "x"})"), "/source");
  EXPECT_EQ(where(R"({"source": {"path": "/x"}})"), "/source/type");
  EXPECT_EQ(where(R"({"source": {"type": "tape", "path": "/x"}})"), "/source/type");
  EXPECT_EQ(where(R"({"source": {"type": "block"}})"), "/source/path");
  EXPECT_EQ(where(R"({"source": {"type": "network", "name": "x"}})"), "/source/protocol");
  EXPECT_EQ(where(R"({"source": {"type": "block", "path": 1}})"), "/source/path");
  EXPECT_EQ(where(R"({"source": {"type": "block", "pth": "/x", "path": "/x"}})"), "/source/pth");
  EXPECT_EQ(where(R"({"source": {"type": "network", "protocol": "rbd", "hosts": [{"name": 1}]}})"),
            "/source/hosts/0/name");
  EXPECT_EQ(where(R"({"source": {"type": "network", "protocol": "rbd", "auth": {"user": "x"}}})"), "/source/auth/user");
  EXPECT_EQ(where(R"({"source": {"type": "file", "path": "/x"}, "form": "raw"})"), "/form");
}

TEST(Attachment, SuggestsTheMemberThatWasMeant) {
  const auto attachment = attachment_from_json(Json::parse(R"({"source": {"type": "block", "paht": "/x"}})"));
  ASSERT_FALSE(attachment);
  EXPECT_EQ(attachment.error().next, "did you mean 'path'?");
}

}  // namespace
}  // namespace aiolos
