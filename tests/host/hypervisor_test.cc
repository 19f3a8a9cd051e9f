// SPDX-License-Identifier: Apache-2.0
// libvirt: a private embedded QEMU driver with a real guest (a BIOS that idles), libvirt's own test driver, and what is
// said when there is no libvirt to talk to.
#include "aiolos/host/hypervisor.h"

#include <fcntl.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <sys/wait.h>

#include <csignal>
#include <iterator>
#include <thread>

#include "disk_removal.h"
#include "domain_xml.h"
#include "embed_root.h"
#include "embedded_guest.h"
#include "leftovers.h"
#include "libvirt_connection.h"
#include "libvirt_error.h"
#include "qemu_monitor.h"
#include "support.h"

namespace aiolos {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

// --- without any libvirt

TEST(EmbedRoot, IsTakenFromTheUri) {
  EXPECT_EQ(embed_root("qemu:///embed?root=/var/lib/x"), "/var/lib/x");
  EXPECT_EQ(embed_root("qemu:///embed?foo=1&root=/a%20b"), "/a b");
  EXPECT_EQ(embed_root("qemu:///embed"), std::nullopt);
  EXPECT_EQ(embed_root("qemu:///system?root=/x"), std::nullopt);
}

TEST(EmbedRoot, RefusesWhatCannotWork) {
  EXPECT_EQ(take_embed_root("relative", milliseconds(0)).error().kind, ErrorKind::configuration);
  const Result<void> too_long = take_embed_root("/tmp/" + std::string(60, 'x'), milliseconds(0));
  ASSERT_FALSE(too_long);
  EXPECT_THAT(too_long.error().message, HasSubstr("has 65 bytes"));
  EXPECT_FALSE(std::filesystem::exists("/tmp/" + std::string(60, 'x')));
  EXPECT_EQ(take_embed_root("/proc/aiolos", milliseconds(0)).error().kind, ErrorKind::configuration);
}

/// A process that holds an embedded root until it is told to go.
class Holder {
 public:
  explicit Holder(const std::string& root) {
    int ready[2];
    if (::pipe(ready) != 0) std::abort();
    pid_ = ::fork();
    if (pid_ == 0) {
      const bool taken = take_embed_root(root, milliseconds(1000)).has_value();
      (void)!::write(ready[1], taken ? "1" : "0", 1);
      ::pause();
      ::_exit(0);
    }
    char answer = '0';
    (void)!::read(ready[0], &answer, 1);
    EXPECT_EQ(answer, '1');
    ::close(ready[0]);
    ::close(ready[1]);
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  ~Holder() { end(); }
  pid_t pid() const { return pid_; }
  void end() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
};

TEST(EmbedRoot, WaitsForAnotherProcessAndNamesIt) {
  TempDir dir("/tmp");
  const std::string root = dir / "a/b";
  Holder holder(root);
  const Result<void> refused = take_embed_root(root, milliseconds(100));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().kind, ErrorKind::retry);
  EXPECT_THAT(refused.error().message, HasSubstr("'" + root + "' is in use by process " + std::to_string(holder.pid()) +
                                                 " (host_test); waited 100 ms"));
  std::thread later([&] {
    std::this_thread::sleep_for(milliseconds(150));
    holder.end();
  });
  EXPECT_TRUE(take_embed_root(root, milliseconds(5000)));
  later.join();
  EXPECT_TRUE(take_embed_root(root, milliseconds(0))) << "the second time it is ours already";
}

TEST(LibvirtErrorTable, KindsAndAdvice) {
  EXPECT_EQ(libvirt_error(VIR_ERR_NO_DOMAIN, VIR_FROM_QEMU, "x", "y").kind, ErrorKind::bad_input);
  EXPECT_EQ(libvirt_error(VIR_ERR_NO_SECRET, VIR_FROM_SECRET, "x", "y").kind, ErrorKind::configuration);
  EXPECT_EQ(libvirt_error(VIR_ERR_OPERATION_TIMEOUT, VIR_FROM_QEMU, "x", "y").kind, ErrorKind::retry);
  EXPECT_EQ(libvirt_error(VIR_ERR_CONFIG_UNSUPPORTED, VIR_FROM_QEMU, "x", "y").kind, ErrorKind::hypervisor);
  EXPECT_EQ(libvirt_error(VIR_ERR_SYSTEM_ERROR, VIR_FROM_RPC, "x", "y").kind, ErrorKind::configuration);
  EXPECT_EQ(libvirt_error(VIR_ERR_SYSTEM_ERROR, VIR_FROM_QEMU, "x", "y").kind, ErrorKind::hypervisor);
  const Error error = libvirt_error(VIR_ERR_INTERNAL_ERROR, VIR_FROM_QEMU, "QEMU said no", "attach disk 'vdb'");
  EXPECT_EQ(error.message, "cannot attach disk 'vdb': QEMU said no");
  EXPECT_FALSE(error.next.empty());
}

TEST(DomainXml, FindsADiskByItsTarget) {
  const std::string xml =
      "<domain><devices><disk><target dev='vda'/></disk><disk type='file'>"
      "<source file='/x' index='2'/><target dev='vdb' bus='virtio'/><serial>s1</serial>"
      "<alias name='virtio-disk1'/></disk></devices></domain>";
  const auto disk = find_disk(xml, "vdb");
  ASSERT_TRUE(disk);
  EXPECT_EQ(disk->alias, "virtio-disk1");
  EXPECT_EQ(disk->serial, "s1");
  EXPECT_EQ(disk->source, "file=/x;");
  EXPECT_FALSE(find_disk(xml, "vdc"));
  EXPECT_FALSE(find_disk("<broken", "vda"));
  EXPECT_FALSE(disk_identity("<disk/>"));
  EXPECT_FALSE(disk_identity("<interface/>"));
}

// --- libvirt's test driver and daemons that are not there

class TestDriver : public testing::Test {
 protected:
  std::unique_ptr<Hypervisor> hypervisor_ = make_hypervisor(make_libvirt_connection({"test:///default"}));
};

TEST_F(TestDriver, FindsADomainByNameAndUuid) {
  const Result<DomainState> by_name = hypervisor_->find_domain("test");
  ASSERT_TRUE(by_name) << describe(by_name.error());
  EXPECT_TRUE(by_name->running && by_name->persistent);
  const Result<DomainState> by_uuid = hypervisor_->find_domain(by_name->uuid);
  ASSERT_TRUE(by_uuid) << describe(by_uuid.error());
  EXPECT_EQ(by_uuid->name, "test");
}

TEST_F(TestDriver, UnknownDomainNamesTheNearest) {
  const Result<DomainState> misspelt = hypervisor_->find_domain("tset");
  ASSERT_FALSE(misspelt);
  EXPECT_EQ(misspelt.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(misspelt.error().message, "no domain 'tset' at test:///default");
  EXPECT_EQ(misspelt.error().next, "did you mean 'test'?");
  EXPECT_EQ(hypervisor_->find_domain("something-else").error().next, "name one of these: test");
  EXPECT_EQ(hypervisor_->domain_xml("").error().kind, ErrorKind::bad_input);
}

TEST_F(TestDriver, PidIsUnknownAndSecretsAreNone) {
  const Result<std::optional<int>> pid = hypervisor_->domain_pid("test");
  ASSERT_TRUE(pid);
  EXPECT_FALSE(pid->has_value());
  const auto secrets = make_secret_store(make_libvirt_connection({"test:///default"}));
  const auto secret = secrets->find("volume", "id");
  ASSERT_TRUE(secret) << describe(secret.error());
  EXPECT_FALSE(secret->has_value());
  EXPECT_EQ(secrets->find("flavour", "id").error().kind, ErrorKind::bad_input);
}

TEST_F(TestDriver, DetachingADiskThatIsNotThereSucceeds) {
  EXPECT_TRUE(hypervisor_->detach_disk("test", "<disk><target dev='vdz'/></disk>", "vdz", milliseconds(100)));
}

TEST(NoDaemon, IsAConfigurationErrorWithLibvirtsWords) {
  const auto hypervisor = make_hypervisor(make_libvirt_connection({"qemu+unix:///system?socket=/nonexistent/sock"}));
  const Result<HostFacts> facts = hypervisor->facts();
  ASSERT_FALSE(facts);
  EXPECT_EQ(facts.error().kind, ErrorKind::configuration);
  EXPECT_THAT(facts.error().message, HasSubstr("/nonexistent/sock"));
  EXPECT_THAT(facts.error().next, HasSubstr("libvirtd"));
}

// --- the embedded QEMU driver. One root in a process's life, so one for all tests here.

class EmbeddedHypervisor : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir("/tmp");
    undertaker_ = new Undertaker(dir_->path());
    write_qemu_conf(*dir_ / "r");
    LibvirtOptions options;
    options.uri = "qemu:///embed?root=" + (*dir_ / "r");
    options.detach_again = milliseconds(500);
    options.release_timeout = milliseconds(1500);
    connection_ = make_libvirt_connection(options);
    hypervisor_ = make_hypervisor(connection_);
    const Result<HostFacts> facts = hypervisor_->facts();
    if (!facts) {
      why_not_ = describe(facts.error());
      return;
    }
    libvirt_ = ::virConnectOpen(options.uri.c_str());
    ASSERT_NE(libvirt_, nullptr);
    start("transient", false);
    start("persistent", true);
  }

  static void TearDownTestSuite() {
    if (libvirt_ != nullptr) {
      for (const char* name : {"transient", "persistent"})
        if (virDomainPtr domain = ::virDomainLookupByName(libvirt_, name); domain != nullptr) {
          ::virDomainDestroy(domain);
          ::virDomainUndefine(domain);
          ::virDomainFree(domain);
        }
      ::virConnectClose(libvirt_);
    }
    hypervisor_.reset();
    connection_.reset();
    delete undertaker_;
    delete dir_;
  }

  static void start(const std::string& name, bool persistent) {
    const std::string xml = idle_guest(name);
    virDomainPtr domain =
        persistent ? ::virDomainDefineXML(libvirt_, xml.c_str()) : ::virDomainCreateXML(libvirt_, xml.c_str(), 0);
    ASSERT_NE(domain, nullptr) << ::virGetLastErrorMessage();
    if (persistent) {
      ASSERT_EQ(::virDomainCreate(domain), 0) << ::virGetLastErrorMessage();
    }
    ::virDomainFree(domain);
  }

  void SetUp() override {
    if (!why_not_.empty()) GTEST_SKIP() << "no embedded QEMU driver here: " << why_not_;
  }

  /// A <disk> over a new file of 4 MiB.
  static std::string disk(const std::string& target, const std::string& bus, const std::string& extra = "") {
    return disk_on(*dir_ / (target + ".img"), target, bus, extra);
  }
  static bool has_disk(const std::string& domain, const std::string& target, unsigned flags = 0) {
    virDomainPtr found = ::virDomainLookupByName(libvirt_, domain.c_str());
    const std::unique_ptr<char, void (*)(void*)> xml(::virDomainGetXMLDesc(found, flags), std::free);
    ::virDomainFree(found);
    return xml != nullptr && find_disk(xml.get(), target).has_value();
  }

  // QEMU itself, to make by hand what an attach that was cut off leaves.

  /// A domain and QEMU's monitor of it.
  struct Asked {
    DomainHandle domain;
    QemuMonitor monitor;
    void must(const std::string& command, const Json& arguments) const {
      const Result<Json> done = monitor.run(command, arguments);
      EXPECT_TRUE(done) << command << ": " << describe(done.error());
    }
  };
  static Asked ask(const std::string& name) {
    const LibvirtApi& api = *connection_->open()->api;
    DomainHandle domain(::virDomainLookupByName(libvirt_, name.c_str()), DomainRelease{&api});
    Result<QemuMonitor> monitor = QemuMonitor::open(api, domain.get());
    return {std::move(domain), std::move(*monitor)};
  }
  /// The nodes that an attach of `file` with this number would make.
  static void add_nodes(const Asked& asked, const std::string& file, unsigned long number) {
    const std::string prefix = "libvirt-" + std::to_string(number);
    asked.must("blockdev-add", {{"driver", "file"}, {"filename", file}, {"node-name", prefix + "-storage"}});
    asked.must("blockdev-add", {{"driver", "raw"}, {"file", prefix + "-storage"}, {"node-name", prefix + "-format"}});
  }
  static std::vector<std::string> names(const Asked& asked, const std::string& command, const Json& arguments,
                                        const char* key) {
    std::vector<std::string> names;
    for (const Json& each : asked.monitor.run(command, arguments).value_or(Json::array()))
      names.push_back(each.value(key, ""));
    return names;
  }
  static std::vector<std::string> nodes(const Asked& asked) {
    return names(asked, "query-named-block-nodes", Json::object(), "node-name");
  }
  static std::vector<std::string> objects(const Asked& asked) {
    return names(asked, "qom-list", {{"path", "/objects"}}, "name");
  }
  /// The last number that libvirt saved. Failed attaches use more without saving it.
  static unsigned long last_number(const std::string& name) {
    std::ifstream file(*dir_ / ("r/run/qemu/" + name + ".xml"));
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto at = text.find("<nodename index='");
    return at == std::string::npos ? 0 : std::stoul(text.substr(at + 17));
  }

  static inline TempDir* dir_ = nullptr;
  static inline Undertaker* undertaker_ = nullptr;
  static inline std::string why_not_;
  static inline virConnectPtr libvirt_ = nullptr;
  static inline std::shared_ptr<LibvirtConnection> connection_;
  static inline std::unique_ptr<Hypervisor> hypervisor_;
};

TEST_F(EmbeddedHypervisor, KnowsVersionsAndIoUring) {
  const Result<HostFacts> facts = hypervisor_->facts();
  ASSERT_TRUE(facts) << describe(facts.error());
  EXPECT_GE(facts->libvirt.value_or(0), version(6, 0));
  EXPECT_GE(facts->qemu.value_or(0), version(4, 0));
  // Debian's QEMU has been built with liburing since 5.0; ldd would say the same.
  ASSERT_TRUE(facts->qemu_has_io_uring.has_value());
  const std::string libraries = must_run({"ldd", "/usr/bin/qemu-system-x86_64"});
  EXPECT_EQ(*facts->qemu_has_io_uring, libraries.find("liburing") != std::string::npos);
}

TEST_F(EmbeddedHypervisor, StateXmlAndPid) {
  const Result<DomainState> state = hypervisor_->find_domain("transient");
  ASSERT_TRUE(state) << describe(state.error());
  EXPECT_TRUE(state->running);
  EXPECT_FALSE(state->persistent);
  EXPECT_TRUE(hypervisor_->find_domain("persistent")->persistent);
  EXPECT_THAT(hypervisor_->domain_xml(state->uuid).value_or(""), HasSubstr("<name>transient</name>"));
  const Result<std::optional<int>> pid = hypervisor_->domain_pid("transient");
  ASSERT_TRUE(pid && pid->has_value());
  std::ifstream file("/proc/" + std::to_string(**pid) + "/comm");
  std::string comm;
  file >> comm;
  EXPECT_THAT(comm, HasSubstr("qemu-system"));
}

TEST_F(EmbeddedHypervisor, AttachesAndDetachesOnTheTransientGuest) {
  const std::string xml = disk("sda", "scsi");
  const auto attached = hypervisor_->attach_disk("transient", xml);
  ASSERT_TRUE(attached) << describe(attached.error().error);
  EXPECT_TRUE(has_disk("transient", "sda"));
  // virtio-scsi gives a disk up without the guest's help.
  const auto start = std::chrono::steady_clock::now();
  const Result<void> detached = hypervisor_->detach_disk("transient", xml, "sda", milliseconds(10'000));
  ASSERT_TRUE(detached) << describe(detached.error());
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(5000));
  EXPECT_FALSE(has_disk("transient", "sda"));
  EXPECT_TRUE(hypervisor_->detach_disk("transient", xml, "sda", milliseconds(1000))) << "a second time changes nothing";
}

TEST_F(EmbeddedHypervisor, PersistentGuestHasItInBothPlacesAndLosesItInBoth) {
  const std::string xml = disk("sdb", "scsi");
  const auto attached = hypervisor_->attach_disk("persistent", xml);
  ASSERT_TRUE(attached) << describe(attached.error().error);
  EXPECT_TRUE(has_disk("persistent", "sdb") && has_disk("persistent", "sdb", VIR_DOMAIN_XML_INACTIVE));
  const Result<void> detached = hypervisor_->detach_disk("persistent", xml, "sdb", milliseconds(10'000));
  ASSERT_TRUE(detached) << describe(detached.error());
  EXPECT_FALSE(has_disk("persistent", "sdb") || has_disk("persistent", "sdb", VIR_DOMAIN_XML_INACTIVE));
}

TEST_F(EmbeddedHypervisor, GuestThatDoesNotReleaseIsRetryAndKeepsAll) {
  const std::string xml = disk("vdb", "virtio");
  const auto attached = hypervisor_->attach_disk("persistent", xml);
  ASSERT_TRUE(attached) << describe(attached.error().error);
  const auto start = std::chrono::steady_clock::now();
  const Result<void> detached = hypervisor_->detach_disk("persistent", xml, "vdb", milliseconds(1500));
  const auto took = std::chrono::steady_clock::now() - start;
  ASSERT_FALSE(detached);
  EXPECT_EQ(detached.error().kind, ErrorKind::retry);
  EXPECT_THAT(detached.error().message, HasSubstr("guest 'persistent' did not release disk 'vdb' within 1500 ms"));
  EXPECT_LT(took, milliseconds(8500));  // libvirt waits up to 5 s inside a request
  EXPECT_TRUE(has_disk("persistent", "vdb") && has_disk("persistent", "vdb", VIR_DOMAIN_XML_INACTIVE));
}

TEST_F(EmbeddedHypervisor, RefusalsLeaveNothingBehind) {
  std::string missing = disk("vdc", "virtio");
  std::filesystem::remove(*dir_ / "vdc.img");
  const auto no_file = hypervisor_->attach_disk("persistent", missing);
  ASSERT_FALSE(no_file);
  EXPECT_EQ(no_file.error().error.kind, ErrorKind::hypervisor);
  EXPECT_THAT(no_file.error().error.message, HasSubstr("cannot attach disk 'vdc' to guest 'persistent': "));
  EXPECT_THAT(no_file.error().error.message, HasSubstr("vdc.img"));
  EXPECT_FALSE(no_file.error().error.next.empty());
  EXPECT_TRUE(no_file.error().gone);
  EXPECT_FALSE(has_disk("persistent", "vdc") || has_disk("persistent", "vdc", VIR_DOMAIN_XML_INACTIVE));

  const auto native = hypervisor_->attach_disk("transient", disk("vdd", "virtio", " io='native' cache='writeback'"));
  ASSERT_FALSE(native);
  EXPECT_EQ(native.error().error.kind, ErrorKind::hypervisor);
  EXPECT_TRUE(native.error().gone);
  EXPECT_FALSE(has_disk("transient", "vdd"));
}

TEST_F(EmbeddedHypervisor, ATargetInUseIsRefusedAndLeftAlone) {
  const std::string xml = disk("sdc", "scsi");
  ASSERT_TRUE(hypervisor_->attach_disk("transient", xml));
  const auto again = hypervisor_->attach_disk("transient", xml);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().error.kind, ErrorKind::bad_input);
  EXPECT_EQ(again.error().error.message, "guest 'transient' has a disk 'sdc' already");
  EXPECT_FALSE(again.error().gone) << "it is the very disk";
  EXPECT_TRUE(has_disk("transient", "sdc"));
  EXPECT_TRUE(hypervisor_->detach_disk("transient", xml, "sdc", milliseconds(10'000)));
}

TEST_F(EmbeddedHypervisor, ResizesInBytes) {
  const std::string xml = disk("sdd", "scsi");
  ASSERT_TRUE(hypervisor_->attach_disk("transient", xml));
  std::filesystem::resize_file(*dir_ / "sdd.img", 8 * 1024 * 1024);
  const Result<void> resized = hypervisor_->resize_disk("transient", "sdd", 8 * 1024 * 1024);
  EXPECT_TRUE(resized) << describe(resized.error());
  virDomainPtr domain = ::virDomainLookupByName(libvirt_, "transient");
  virDomainBlockInfo info{};
  EXPECT_EQ(::virDomainGetBlockInfo(domain, "sdd", &info, 0), 0);
  ::virDomainFree(domain);
  EXPECT_EQ(info.capacity, 8U * 1024 * 1024);
  EXPECT_EQ(hypervisor_->resize_disk("transient", "sdd", 1000).error().kind, ErrorKind::bad_input);
  EXPECT_EQ(hypervisor_->resize_disk("transient", "sdz", 512).error().message, "guest 'transient' has no disk 'sdz'");
  EXPECT_TRUE(hypervisor_->detach_disk("transient", xml, "sdd", milliseconds(10'000)));
}

TEST_F(EmbeddedHypervisor, NativeArgumentsShowTheDisk) {
  const Result<std::string> arguments = hypervisor_->native_arguments(domain_with_disk("qemu", "threads"));
  ASSERT_TRUE(arguments) << describe(arguments.error());
  EXPECT_THAT(*arguments, HasSubstr("\"aio\":\"threads\""));
  const Result<std::string> broken = hypervisor_->native_arguments("<domain>");
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().kind, ErrorKind::hypervisor);
}

TEST_F(EmbeddedHypervisor, SecretsAreFoundByUsage) {
  const auto secrets = make_secret_store(connection_);
  const auto none = secrets->find("volume", "no-such-volume");
  ASSERT_TRUE(none) << describe(none.error());
  EXPECT_FALSE(none->has_value());

  // libvirt lets a QEMU connection manage the secrets of the secret driver that was opened before it. Not an ephemeral
  // one, and it stays until the folder goes: in the embedded driver of libvirt 9.0 defining an ephemeral secret, and
  // undefining any, calls a null pointer.
  virSecretPtr secret = ::virSecretDefineXML(libvirt_,
                                             "<secret ephemeral='no'><uuid>b07b5a3e-5d3c-4d33-9d1c-000000000001</uuid>"
                                             "<usage type='ceph'><name>client.cinder secret</name></usage></secret>",
                                             0);
  if (secret == nullptr) GTEST_SKIP() << "no embedded secret driver here: " << ::virGetLastErrorMessage();
  const auto found = secrets->find("ceph", "client.cinder secret");
  LibvirtOptions same;
  same.uri = connection_->options().uri;
  const auto again = make_secret_store(make_libvirt_connection(same))->find("ceph", "client.cinder secret");
  ::virSecretFree(secret);
  ASSERT_TRUE(found);
  EXPECT_EQ(*found, "b07b5a3e-5d3c-4d33-9d1c-000000000001");
  ASSERT_TRUE(again) << "a second connection of one process: " << describe(again.error());
  EXPECT_EQ(*again, "b07b5a3e-5d3c-4d33-9d1c-000000000001");
}

TEST_F(EmbeddedHypervisor, AnotherProcessIsToldWhoHasTheRoot) {
  // This process has it; a command that starts now must get a clear answer, soon.
  const std::string root = *dir_ / "r";
  const pid_t child = ::fork();
  if (child == 0) {
    // A child has none of its parent's locks, but a copy of the table that says so: ask the kernel through python.
    ::execlp("python3", "python3", "-c",
             "import fcntl,sys\nf=open(sys.argv[1],'r+b')\ntry:\n fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB,1)\n"
             "except OSError: sys.exit(7)\n",
             (root + "/run/qemu/driver.pid").c_str(), nullptr);
    ::_exit(1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST_F(EmbeddedHypervisor, ASecondRootInOneProcessIsExplained) {
  TempDir other("/tmp");
  LibvirtOptions options;
  options.uri = "qemu:///embed?root=" + other.path();
  const Result<HostFacts> facts = make_hypervisor(make_libvirt_connection(options))->facts();
  ASSERT_FALSE(facts);
  EXPECT_THAT(facts.error().message, HasSubstr("already open with path"));
  EXPECT_THAT(facts.error().next, HasSubstr("one process can use one embedded folder"));
}

// --- what an attach that was cut off leaves, made by hand; interrupted_attach_test.cc cuts real ones off

TEST_F(EmbeddedHypervisor, LeftoversDoNotStopTheNextAttach) {
  const Asked asked = ask("transient");
  const std::string xml = disk("sdf", "scsi");
  const std::string other = disk("sdg", "scsi");
  ASSERT_TRUE(hypervisor_->attach_disk("transient", other));
  // Several, as after several processes that were killed; libvirt wants the first of them next.
  const unsigned long last = last_number("transient");
  for (unsigned long number = last + 1; number <= last + 3; ++number) add_nodes(asked, *dir_ / "sdf.img", number);
  const std::string secret = "libvirt-" + std::to_string(last + 2) + "-storage-auth-secret0";
  asked.must("object-add", {{"qom-type", "secret"}, {"id", secret}, {"data", "x"}});

  const auto attached = hypervisor_->attach_disk("transient", xml);
  ASSERT_TRUE(attached) << describe(attached.error().error);
  EXPECT_EQ(nodes(asked).size(), 4U) << "two nodes for each of the two disks";
  EXPECT_THAT(objects(asked), Not(testing::Contains(secret)));
  EXPECT_TRUE(has_disk("transient", "sdg")) << "a live disk's nodes stay";
  EXPECT_TRUE(hypervisor_->detach_disk("transient", xml, "sdf", milliseconds(10'000)));
  EXPECT_TRUE(hypervisor_->detach_disk("transient", other, "sdg", milliseconds(10'000)));
  EXPECT_TRUE(nodes(asked).empty());
}

TEST_F(EmbeddedHypervisor, LeftoversAreReleasedWithTheirDevice) {
  const Asked asked = ask("transient");
  const std::string xml = disk("sdh", "scsi");
  EXPECT_TRUE(hypervisor_->release_leftovers("transient", xml)) << "there are none";
  add_nodes(asked, *dir_ / "sdh.img", 900);
  asked.must(
      "device_add",
      {{"driver", "scsi-hd"}, {"id", "scsi0-0-0-7"}, {"bus", "scsi0.0"}, {"lun", 7}, {"drive", "libvirt-900-format"}});
  const Result<void> released = hypervisor_->release_leftovers("transient", xml);
  EXPECT_TRUE(released) << describe(released.error());
  EXPECT_TRUE(nodes(asked).empty());
}

TEST_F(EmbeddedHypervisor, LeftoversThatTheGuestKeepsAreRetryAndNamed) {
  const Asked asked = ask("transient");
  const std::string xml = disk("vdi", "virtio");
  const std::string other = disk("sdj", "scsi");
  add_nodes(asked, *dir_ / "vdi.img", 901);
  // At a slot far from those that libvirt gives away in the other tests.
  asked.must("device_add",
             {{"driver", "virtio-blk-pci"}, {"id", "virtio-disk8"}, {"addr", "0x1e"}, {"drive", "libvirt-901-format"}});
  const Result<void> released = hypervisor_->release_leftovers("transient", xml);
  ASSERT_FALSE(released);
  EXPECT_EQ(released.error().kind, ErrorKind::retry);
  EXPECT_THAT(released.error().message, HasSubstr("QEMU of guest 'transient' still holds '" + (*dir_ / "vdi.img")));
  EXPECT_THAT(released.error().message, HasSubstr("used by device 'virtio-disk8'"));
  EXPECT_EQ(nodes(asked).size(), 2U);
  EXPECT_TRUE(hypervisor_->release_leftovers("transient", other)) << "another disk's leftovers";
  EXPECT_TRUE(hypervisor_->attach_disk("transient", other)) << "and another number";
  EXPECT_TRUE(hypervisor_->detach_disk("transient", other, "sdj", milliseconds(10'000)));
}

TEST_F(EmbeddedHypervisor, LeftoversOfADiskInTheXmlOrOfNoGuest) {
  const std::string xml = disk("sdk", "scsi");
  ASSERT_TRUE(hypervisor_->attach_disk("transient", xml));
  EXPECT_EQ(hypervisor_->release_leftovers("transient", xml).error().kind, ErrorKind::bad_input);
  EXPECT_TRUE(has_disk("transient", "sdk"));
  EXPECT_TRUE(hypervisor_->detach_disk("transient", xml, "sdk", milliseconds(10'000)));
  EXPECT_EQ(hypervisor_->release_leftovers("nobody", xml).error().kind, ErrorKind::bad_input);
  EXPECT_EQ(hypervisor_->release_leftovers("transient", "<disk/>").error().kind, ErrorKind::bug);
}

TEST_F(EmbeddedHypervisor, ADomainThatIsShutOffIsNotAttachedTo) {
  virDomainPtr domain = ::virDomainDefineXML(libvirt_, domain_with_disk("qemu", "threads").c_str());
  ASSERT_NE(domain, nullptr) << ::virGetLastErrorMessage();
  const auto attached = hypervisor_->attach_disk("aiolos-question", disk("sde", "scsi"));
  EXPECT_TRUE(hypervisor_->release_leftovers("aiolos-question", disk("sde", "scsi")));
  ::virDomainUndefine(domain);
  ::virDomainFree(domain);
  ASSERT_FALSE(attached);
  EXPECT_EQ(attached.error().error.kind, ErrorKind::bad_input);
  EXPECT_EQ(attached.error().error.message, "guest 'aiolos-question' is not running");
}

}  // namespace
}  // namespace aiolos
