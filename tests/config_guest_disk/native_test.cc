// SPDX-License-Identifier: Apache-2.0
// The goldens through libvirt and QEMU's own reading: each becomes a QEMU command line, or stands with its reason in
// fixtures/disk/native-exceptions.txt.
#include <gtest/gtest.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <optional>

#include "fixture_folder.h"

namespace aiolos::disk {
namespace {

/// libvirt's QEMU driver inside this process: it needs no daemon, and nothing outside its folder.
class EmbeddedLibvirt {
 public:
  EmbeddedLibvirt() {
    char pattern[] = "/tmp/aiolos-native-XXXXXX";
    root_ = mkdtemp(pattern);
    virSetErrorFunc(nullptr, [](void*, virErrorPtr) {});
    // Where only root may use /dev/kvm, QEMU under another user finds it usable and libvirt does not, and then libvirt
    // asks QEMU for its abilities again before each command line.
    std::filesystem::create_directories(root_ / "etc");
    std::ofstream(root_ / "etc/qemu.conf") << "user = \"root\"\ngroup = \"root\"\n";
    virEventRegisterDefaultImpl();
    connection_ = virConnectOpen(("qemu:///embed?root=" + root_.string()).c_str());
  }
  ~EmbeddedLibvirt() {
    if (connection_) virConnectClose(connection_);
    std::error_code ignored;
    std::filesystem::remove_all(root_, ignored);
  }
  EmbeddedLibvirt(const EmbeddedLibvirt&) = delete;
  EmbeddedLibvirt& operator=(const EmbeddedLibvirt&) = delete;

  bool is_open() const { return connection_ != nullptr; }

  /// What libvirt has against the disk; empty if it makes a command line of it.
  std::optional<std::string> refusal(const std::string& disk) const {
    const std::string domain =
        "<domain type='qemu'><name>t</name><memory>65536</memory><vcpu>1</vcpu><iothreads>4</iothreads>"
        "<os><type arch='x86_64' machine='pc'>hvm</type></os>"
        "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
        "<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
        "<controller type='scsi' model='virtio-scsi'/>" +
        disk + "</devices></domain>";
    char* line = virConnectDomainXMLToNative(connection_, "qemu-argv", domain.c_str(), 0);
    if (!line) return virGetLastErrorMessage();
    std::free(line);
    return std::nullopt;
  }

 private:
  std::filesystem::path root_;
  virConnectPtr connection_ = nullptr;
};

/// NAME to reason; one a line, `NAME: reason`, and comments behind `#`.
std::map<std::string, std::string> exceptions() {
  std::map<std::string, std::string> listed;
  std::ifstream in(path_of(Folder::valid) / "native-exceptions.txt");
  EXPECT_TRUE(in) << "fixtures/disk/native-exceptions.txt is missing";
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    const std::size_t colon = line.find(": ");
    EXPECT_NE(colon, std::string::npos) << line << " gives no reason";
    if (colon != std::string::npos) listed[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return listed;
}

TEST(Native, LibvirtMakesACommandLineOfEachGolden) {
  if (geteuid() != 0) GTEST_SKIP() << "qemu:///embed as it is set up here needs root";
  if (!std::filesystem::exists("/usr/bin/qemu-system-x86_64")) GTEST_SKIP() << "QEMU is not installed";
  const EmbeddedLibvirt libvirt;
  ASSERT_TRUE(libvirt.is_open()) << virGetLastErrorMessage();
  auto listed = exceptions();
  for (const std::string& name : names_in(Folder::valid)) {
    const auto refused = libvirt.refusal(read_file(path_of(Folder::valid) / (name + ".xml")));
    const bool is_listed = listed.erase(name) > 0;
    if (is_listed)
      EXPECT_TRUE(refused) << name << " works: take it out of native-exceptions.txt";
    else
      EXPECT_FALSE(refused) << name << ": " << refused.value_or("") << "\nmend it, or list it with the reason";
  }
  for (const auto& [name, reason] : listed) ADD_FAILURE() << name << " is listed as an exception, but is no golden";
}

}  // namespace
}  // namespace aiolos::disk
