// SPDX-License-Identifier: Apache-2.0
// Which files and folders are trusted, and what is said of those that are not.
#include <elf.h>
#include <sys/stat.h>
#include <unistd.h>

#include "testing.h"

namespace aiolos::testing {
namespace {

using ::testing::HasSubstr;

const fs::path kGood = kBadPlugins / "0_good_c.so";

/// Loads a folder and gives the error of one file in it. A good plugin lies beside it, and must load.
std::string error_of(const TemporaryFolder& folder, const std::string& file) {
  if (!fs::exists(folder.path() / "zz-good.so")) folder.add(kGood, "zz-good.so");
  const auto registry = load({folder.path()});
  EXPECT_EQ(registry->drivers().size(), 1u) << "the good plugin beside it did not load";
  const Error* error = rejection(*registry, file);
  if (error == nullptr) return "not rejected";
  EXPECT_EQ(error->kind, ErrorKind::configuration);
  EXPECT_EQ(error->where, (folder.path() / file).native());
  return error->message + " -> " + error->next;
}

/// The first bytes of a real plugin, changed by `spoil`.
std::string elf_with(void (*spoil)(Elf64_Ehdr&)) {
  std::ifstream file(kGood, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), {});
  spoil(*reinterpret_cast<Elf64_Ehdr*>(bytes.data()));
  return bytes;
}

TEST(File, EmptyFile) {
  TemporaryFolder folder;
  folder.write("bad.so", "");
  EXPECT_EQ(error_of(folder, "bad.so"), "the file is empty -> rebuild the plugin on this machine");
}

TEST(File, NoElf) {
  TemporaryFolder folder;
  folder.write("bad.so", "#!/bin/sh\nexit 0\n");
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is no ELF file, so no shared object"));
}

TEST(File, ALinkersScript) {
  TemporaryFolder folder;
  folder.write("bad.so", "INPUT(libc.so.6)\n");
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is no ELF file"));
}

TEST(File, CutShort) {
  TemporaryFolder folder;
  folder.write("bad.so",
               "\x7f"
               "ELF\x02\x01\x01");
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is cut short: 7 bytes"));
}

TEST(File, CutShortBehindTheHeader) {
  TemporaryFolder folder;
  folder.write("bad.so", elf_with([](Elf64_Ehdr&) {}).substr(0, 200));
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("the dynamic linker refused it: "));
}

#if defined(__x86_64__)
TEST(File, OtherMachine) {
  TemporaryFolder folder;
  folder.write("bad.so", elf_with([](Elf64_Ehdr& header) { header.e_machine = EM_AARCH64; }));
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is an ELF file for AArch64; this machine is x86-64"));
}

TEST(File, OtherClass) {
  TemporaryFolder folder;
  folder.write("bad.so", elf_with([](Elf64_Ehdr& header) { header.e_ident[EI_CLASS] = ELFCLASS32; }));
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is a 32-bit ELF file; this process is 64-bit"));
}

TEST(File, OtherByteOrder) {
  TemporaryFolder folder;
  folder.write("bad.so", elf_with([](Elf64_Ehdr& header) { header.e_ident[EI_DATA] = ELFDATA2MSB; }));
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("of the other byte order"));
}
#endif

TEST(File, AnObjectFile) {
  TemporaryFolder folder;
  folder.write("bad.so", elf_with([](Elf64_Ehdr& header) { header.e_type = ET_REL; }));
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("no shared object -> link it with -shared"));
}

TEST(File, AFolderNamedLikeAPlugin) {
  TemporaryFolder folder;
  fs::create_directory(folder.path() / "bad.so");
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is a folder"));
}

TEST(File, AFifoDoesNotHoldUsUp) {
  TemporaryFolder folder;
  ASSERT_EQ(::mkfifo((folder.path() / "bad.so").c_str(), 0600), 0);
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is no regular file"));
}

TEST(File, ADanglingLink) {
  TemporaryFolder folder;
  fs::create_symlink("nowhere.so.1", folder.path() / "bad.so");
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is a link that leads nowhere"));
}

TEST(File, ALinkThatLeadsToItself) {
  TemporaryFolder folder;
  fs::create_symlink("bad.so", folder.path() / "bad.so");
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("is a link that leads nowhere"));
}

TEST(File, WorldWritable) {
  TemporaryFolder folder;
  fs::permissions(folder.add(kGood, "bad.so"), fs::perms(0777));
  EXPECT_EQ(error_of(folder, "bad.so"),
            "the file is world-writable (mode 0777) -> chmod go-w " + (folder.path() / "bad.so").native());
}

TEST(File, GroupWritable) {
  TemporaryFolder folder;
  fs::permissions(folder.add(kGood, "bad.so"), fs::perms(0775));
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("the file is writable by its group (mode 0775)"));
}

TEST(File, ALinkIsFollowedAndItsTargetChecked) {
  TemporaryFolder elsewhere;
  fs::permissions(elsewhere.add(kGood, "target"), fs::perms(0777));
  TemporaryFolder folder;
  fs::create_symlink(elsewhere.path() / "target", folder.path() / "bad.so");
  EXPECT_THAT(error_of(folder, "bad.so"),
              HasSubstr("the file " + (elsewhere.path() / "target").native() + " is world-writable"));
}

TEST(File, AFolderThatALinkLeadsToIsChecked) {
  TemporaryFolder elsewhere;
  elsewhere.add(kGood, "target");
  fs::permissions(elsewhere.path(), fs::perms(0777));
  TemporaryFolder folder;
  fs::create_symlink(elsewhere.path() / "target", folder.path() / "bad.so");
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("the folder " + elsewhere.path().native() + " is world-writable"));
}

TEST(File, ALinkToAGoodPluginLoads) {
  TemporaryFolder elsewhere;
  elsewhere.add(kGood, "target");
  TemporaryFolder folder;
  fs::create_symlink(elsewhere.path() / "target", folder.path() / "good.so");
  const auto registry = load({folder.path()});
  EXPECT_EQ(registry->drivers().size(), 1u);
  EXPECT_EQ(registry->drivers().front()->file(), folder.path() / "good.so");
}

TEST(File, AnothersFile) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  TemporaryFolder folder;
  ASSERT_EQ(::chown(folder.add(kGood, "bad.so").c_str(), 65534, 65534), 0);
  EXPECT_THAT(error_of(folder, "bad.so"), HasSubstr("the file belongs to user 65534, who could replace the plugin"));
}

TEST(File, Unreadable) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become somebody who may not read";
  TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms(0755));
  fs::permissions(folder.add(kGood, "bad.so"), fs::perms(0000));
  ASSERT_EQ(::seteuid(65534), 0);
  const auto registry = Registry::load({folder.path()}, {});
  ASSERT_EQ(::seteuid(0), 0);
  EXPECT_THAT(registry->rejected().at(0).error.message, HasSubstr("cannot be read: Permission denied"));
}

TEST(File, OtherFilesAreLeftAlone) {
  TemporaryFolder folder;
  folder.write("README", "not a plugin");
  folder.write("aiolos-nfs.so.dpkg-new", "not yet a plugin");
  folder.write("notes.txt", "");
  EXPECT_THAT(load({folder.path()})->rejected(), ::testing::IsEmpty());
}

/// Loads a folder between two good ones, which must load, and gives its error.
std::string folder_error(const fs::path& folder) {
  TemporaryFolder before;
  TemporaryFolder after;
  before.add(kGood, "good.so");
  after.add(kBadPlugins / "good_sdk.so", "good_sdk.so");
  const auto registry = load({before.path(), folder, after.path()});
  EXPECT_EQ(registry->drivers().size(), 2u) << "the good folders beside it did not load";
  if (registry->rejected().size() != 1) return std::to_string(registry->rejected().size()) + " entries rejected";
  const RejectedPlugin& rejected = registry->rejected().front();
  EXPECT_EQ(rejected.file, folder);
  EXPECT_EQ(rejected.error.kind, ErrorKind::configuration);
  EXPECT_EQ(rejected.error.where, folder.native());
  EXPECT_NE(rejected.error.next, "");
  return rejected.error.message;
}

TEST(Folder, Relative) { EXPECT_THAT(folder_error("plugins"), HasSubstr("must be absolute")); }

TEST(Folder, Missing) { EXPECT_THAT(folder_error("/no/such/folder"), HasSubstr("No such file or directory")); }

TEST(Folder, AFile) {
  TemporaryFolder folder;
  EXPECT_EQ(folder_error(folder.write("file", "")), "is no folder");
}

TEST(Folder, WorldWritable) {
  TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms(0777));
  EXPECT_EQ(folder_error(folder.path()), "the folder is world-writable (mode 0777)");
}

TEST(Folder, WorldWritableWithStickyBit) {
  TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms(01777));
  EXPECT_EQ(folder_error(folder.path()), "the folder is world-writable (mode 1777)");
}

TEST(Folder, GroupWritable) {
  TemporaryFolder folder;
  fs::permissions(folder.path(), fs::perms(0770));
  EXPECT_EQ(folder_error(folder.path()), "the folder is writable by its group (mode 0770)");
}

TEST(Folder, AnothersFolder) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a folder away";
  TemporaryFolder folder;
  ASSERT_EQ(::chown(folder.path().c_str(), 65534, 65534), 0);
  EXPECT_THAT(folder_error(folder.path()), HasSubstr("belongs to user 65534"));
}

TEST(Folder, AParentThatEverybodyWrites) {
  TemporaryFolder folder;
  fs::create_directory(folder.path() / "plugins");
  fs::permissions(folder.path() / "plugins", fs::perms(0755));
  fs::permissions(folder.path(), fs::perms(0777));
  EXPECT_EQ(folder_error(folder.path() / "plugins"),
            "everybody can replace it: the folder " + folder.path().native() + " is world-writable");
}

TEST(Folder, ThatCannotBeUsedIsNamedWhereADriverIsMissing) {
  TemporaryFolder good;
  good.add(kGood, "good.so");
  const auto registry = load({good.path(), "/no/such/folder"});
  EXPECT_TRUE(registry->find("good_c").has_value());
  const auto missing = registry->find("good_x");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().kind, ErrorKind::configuration);
  EXPECT_THAT(missing.error().message, HasSubstr("a folder of plugins could not be used: /no/such/folder: "));
  EXPECT_THAT(missing.error().next, HasSubstr("did you mean 'good_c'?"));
}

TEST(Folder, NamedTwiceIsReadOnce) {
  TemporaryFolder folder;
  folder.add(kGood, "good.so");
  TemporaryFolder links;
  fs::create_directory_symlink(folder.path(), links.path() / "link");
  const auto registry = load({folder.path(), links.path() / "link", folder.path()});
  EXPECT_EQ(registry->drivers().size(), 1u);
  EXPECT_THAT(registry->rejected(), ::testing::IsEmpty());
}

TEST(Folder, TheEarlierOfTwoWins) {
  TemporaryFolder first;
  TemporaryFolder second;
  first.add(kGood, "mine.so");
  second.add(kGood, "theirs.so");
  const auto registry = load({first.path(), second.path()});
  ASSERT_EQ(registry->drivers().size(), 1u);
  EXPECT_EQ(registry->drivers().front()->file(), first.path() / "mine.so");
  EXPECT_THAT(registry->rejected().at(0).error.message, HasSubstr("which " + (first.path() / "mine.so").native()));
}

}  // namespace
}  // namespace aiolos::testing
