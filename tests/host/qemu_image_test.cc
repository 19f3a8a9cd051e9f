// SPDX-License-Identifier: Apache-2.0
// qemu-img's JSON, backing names and magic numbers: pure parsing.
#include "qemu_image.h"

#include "aiolos/core/json.h"
#include "support.h"

namespace aiolos {
namespace {

using testing::HasSubstr;
using namespace std::string_view_literals;

TEST(ImageInfoText, TakesWhatAllocationNeeds) {
  const Result<ImageInfo> info = parse_image_info(R"({
    "virtual-size": 4194304, "filename": "/x", "cluster-size": 65536, "format": "qcow2", "dirty-flag": false,
    "snapshots": [{"id": "1"}, {"id": "2"}], "encrypted": true,
    "full-backing-filename": "/base", "backing-filename": "base", "backing-filename-format": "raw",
    "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "lazy-refcounts": true, "extended-l2": true,
                        "corrupt": true, "data-file": "df", "encrypt": {"format": "luks"}}}})",
                                                  "/x");
  ASSERT_TRUE(info) << describe(info.error());
  EXPECT_EQ(info->format, "qcow2");
  EXPECT_EQ(info->virtual_size, 4194304U);
  EXPECT_EQ(info->cluster_size, 65536U);
  EXPECT_EQ(info->snapshots, 2U);
  EXPECT_TRUE(info->encrypted && info->lazy_refcounts && info->extended_l2 && info->corrupt);
  EXPECT_EQ(info->data_file, "df");
  EXPECT_EQ(info->backing, "/base");
  EXPECT_EQ(info->backing_format, "raw");
}

TEST(ImageInfoText, PlainImageHasNoneOfIt) {
  const Result<ImageInfo> info = parse_image_info(R"({"virtual-size": 1, "format": "raw"})", "/x");
  ASSERT_TRUE(info);
  EXPECT_FALSE(info->encrypted || info->backing || info->backing_format || info->data_file);
  EXPECT_EQ(info->snapshots, 0U);
}

TEST(ImageInfoText, NonsenseIsABugThatNamesTheImage) {
  for (const char* text : {"", "qemu-img: hm", "[]", R"({"virtual-size": "big"})", R"({"format": 1})"}) {
    const Result<ImageInfo> info = parse_image_info(text, "/images/x");
    ASSERT_FALSE(info) << text;
    EXPECT_EQ(info.error().kind, ErrorKind::bug);
    EXPECT_THAT(info.error().message, HasSubstr("/images/x"));
  }
}

TEST(ImageMapText, SortsClustersByWhatAWriteDoes) {
  const Result<ImageMap> map = parse_image_map(R"([
    {"start": 0,   "length": 10, "depth": 0, "present": true,  "zero": false, "data": true,  "offset": 100},
    {"start": 10,  "length": 20, "depth": 0, "present": true,  "zero": true,  "data": true,  "offset": 110},
    {"start": 30,  "length": 1,  "depth": 0, "present": true,  "zero": true,  "data": false},
    {"start": 31,  "length": 2,  "depth": 0, "present": false, "zero": true,  "data": false},
    {"start": 33,  "length": 4,  "depth": 0, "present": true,  "zero": false, "data": true},
    {"start": 37,  "length": 8,  "depth": 0, "present": true,  "zero": false, "data": true, "compressed": true},
    {"start": 45,  "length": 16, "depth": 1, "present": true,  "zero": false, "data": true, "offset": 500},
    {"start": 61,  "length": 32, "depth": 0, "zero": true, "data": false},
    {"start": 93,  "length": 64, "depth": 0, "zero": false, "data": true, "offset": 7},
    {"start": 157, "length": 128, "depth": 0, "present": false, "zero": true, "data": false, "offset": 900}])",
                                               "/x");
  ASSERT_TRUE(map) << describe(map.error());
  EXPECT_EQ(map->areas, (std::vector<Range>{{100, 10}, {110, 20}, {7, 64}, {900, 128}}));
  EXPECT_EQ(map->unallocated, 1U + 2U + 16U + 32U);
  EXPECT_EQ(map->without_place, 4U + 8U);
}

TEST(ImageMapText, NonsenseIsABug) {
  EXPECT_EQ(parse_image_map("{}", "/x").error().kind, ErrorKind::bug);
  EXPECT_EQ(parse_image_map("[1]", "/x").error().kind, ErrorKind::bug);
  EXPECT_EQ(parse_image_map("", "/x").error().kind, ErrorKind::bug);
}

TEST(BackingName, ResolvesAsQemuDoes) {
  struct Case {
    const char* name;
    bool local;
    const char* path;
    const char* format;
  };
  for (const Case& c : {
           Case{"/a/base.qcow2", true, "/a/base.qcow2", ""},
           Case{"base.qcow2", true, "/images/base.qcow2", ""},
           Case{"../b/base", true, "/images/../b/base", ""},
           Case{"dir/with:colon", true, "/images/dir/with:colon", ""},
           Case{"file:/a/base", true, "/a/base", ""},
           Case{"file:base", true, "/images/base", ""},
           Case{"file:///a/base", true, "/a/base", ""},
           Case{"host_device:/dev/vg/lv", true, "/dev/vg/lv", ""},
           Case{"nbd://host/export", false, "nbd://host/export", ""},
           Case{"https://user:pass@host/x.img", false, "https://host/x.img", ""},
           Case{"rbd:pool/image", false, "rbd:pool/image", ""},
           Case{R"(json:{"driver":"qcow2","file":{"driver":"file","filename":"/j/base"}})", true, "/j/base", "qcow2"},
           Case{R"(json:{"driver":"raw","file.driver":"host_device","file.filename":"/dev/x"})", true, "/dev/x", "raw"},
           Case{R"(json:{"driver":"file","filename":"/plain"})", true, "/plain", ""},
           Case{R"(json:{"driver":"qcow2","file":{"driver":"rbd","key-secret":"s3cret","image":"i"}})", false,
                "json: (driver rbd)", "qcow2"},
           Case{"json:{broken", false, "json: (not understood)", ""},
       }) {
    const BackingPlace place = backing_place(c.name, "/images/top.qcow2");
    EXPECT_EQ(place.local, c.local) << c.name;
    EXPECT_EQ(place.path, c.path) << c.name;
    EXPECT_EQ(place.format.value_or(""), c.format) << c.name;
  }
}

TEST(FormatMagic, KnowsTheFormatsThatLieAboutThemselves) {
  EXPECT_EQ(format_by_magic("QFI\xfb\0\0\0\3"sv), "qcow2");
  EXPECT_EQ(format_by_magic("QFI\xfb\0\0\0\1"sv), "qcow");
  EXPECT_EQ(format_by_magic("LUKS\xba\xbe\0\1"sv), "luks");
  EXPECT_EQ(format_by_magic("KDMV"sv), "vmdk");
  EXPECT_EQ(format_by_magic(std::string(64, ' ') + "\x7f\x10\xda\xbe"), "vdi");
  EXPECT_EQ(format_by_magic(""), "");
  EXPECT_EQ(format_by_magic(std::string(512, '\0')), "");
}

TEST(ImageWithoutBacking, OpensOneLayerOnly) {
  const std::string name = image_without_backing("/a \"b\"", "qcow2", false);
  ASSERT_TRUE(name.starts_with("json:"));
  const Json options = Json::parse(name.substr(5));
  EXPECT_TRUE(options["backing"].is_null());
  EXPECT_EQ(options["driver"], "qcow2");
  EXPECT_EQ(options["file"]["driver"], "file");
  EXPECT_EQ(options["file"]["filename"], "/a \"b\"");
  EXPECT_THAT(image_without_backing("/dev/x", "qcow2", true), HasSubstr("host_device"));
}

}  // namespace
}  // namespace aiolos
