// SPDX-License-Identifier: Apache-2.0
// Processes that are ended in the middle of attaching a disk, and what the next process makes of it. Each runs
// libvirt's embedded driver on the same guest, one after the other. When exactly a signal comes is left to chance;
// every outcome must be one of those allowed.
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>
#include <utility>

#include "embedded_guest.h"

namespace aiolos {
namespace {

using std::chrono::milliseconds;

/// hypervisor_process, with its standard output.
class Process {
 public:
  explicit Process(std::vector<std::string> arguments) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
    arguments.insert(arguments.begin(), AIOLOS_HYPERVISOR_PROCESS);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(ends[1], STDOUT_FILENO);
      ::execv(argv[0], argv.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    output_ = ends[0];
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      wait();
    }
    ::close(output_);
  }

  /// Its next output up to the end of a line, or to the end of all; at most 60 s.
  std::string line() {
    std::string text;
    char c = 0;
    pollfd ready{output_, POLLIN, 0};
    while (::poll(&ready, 1, 60'000) > 0 && ::read(output_, &c, 1) == 1 && c != '\n') text += c;
    return text;
  }
  void signal(int number) const { ::kill(pid_, number); }
  /// waitpid(2)'s status.
  int wait() {
    int status = 0;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
};

class InterruptedAttach : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    dir_ = new TempDir("/tmp");
    undertaker_ = new Undertaker(dir_->path());
    uri_ = "qemu:///embed?root=" + (*dir_ / "r");
    write_qemu_conf(*dir_ / "r");
    Process start({uri_, "start", "transient"});
    started_ = start.wait() == 0;
  }
  /// How long an attach takes here, to spread the signals over it. Nothing depends on its being right.
  static milliseconds measure() {
    const std::string xml = disk_on(*dir_ / "sda.img", "sda", "scsi");
    Process attach({uri_, "attach", "transient", xml});
    EXPECT_EQ(attach.line(), "begin");
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(attach.line(), "attached");
    const auto took = std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - begin);
    EXPECT_EQ(attach.wait(), 0);
    EXPECT_EQ(recover(xml), "shown");
    return std::clamp(took, milliseconds(10), milliseconds(2000));
  }
  static void TearDownTestSuite() {
    delete undertaker_;
    delete dir_;
  }
  void SetUp() override {
    if (!started_) GTEST_SKIP() << "no embedded QEMU driver here; see standard error";
  }

  /// Attaches disk `target` in another process and sends it a signal after `delay`. @return waitpid(2)'s status.
  int interrupt(const std::string& xml, int signal, milliseconds delay) {
    Process attach({uri_, "attach", "transient", xml});
    EXPECT_EQ(attach.line(), "begin");
    std::this_thread::sleep_for(delay);
    attach.signal(signal);
    finished_ = attach.line() == "attached";
    return attach.wait();
  }

  /// In a third process. @return "shown" or "not shown": whether the XML has the disk.
  static std::string recover(const std::string& xml) {
    const std::string other = disk_on(*dir_ / "other.img", "sdo", "scsi");
    Process process({uri_, "recover", "transient", xml, "sda", other, "sdo"});
    const std::string shown = process.line();
    EXPECT_EQ(process.wait(), 0) << "see standard error above";
    return shown;
  }

  /// In a third process too.
  static bool has_leftovers(const std::string& xml) { return Process({uri_, "look", "transient", xml}).wait() != 0; }

  static inline TempDir* dir_ = nullptr;
  static inline Undertaker* undertaker_ = nullptr;
  static inline std::string uri_;
  static inline bool started_ = false;
  bool finished_ = false;
};

TEST_F(InterruptedAttach, ByKillIsRecoveredByTheNextProcess) {
  const std::string xml = disk_on(*dir_ / "sda.img", "sda", "scsi");
  const milliseconds whole = measure();
  for (int percent = 0; percent <= 120; percent += 8) {
    SCOPED_TRACE(percent);
    interrupt(xml, SIGKILL, whole * percent / 100);
    const std::string shown = recover(xml);
    EXPECT_TRUE(!finished_ || shown == "shown");
    if (HasFailure()) return;
  }
}

TEST_F(InterruptedAttach, BySignalTakesEffectBeforeOrAfterIt) {
  const std::string xml = disk_on(*dir_ / "sda.img", "sda", "scsi");
  const milliseconds whole = measure();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP})
    for (int percent = 0; percent <= 100; percent += 25) {
      SCOPED_TRACE(percent);
      const int status = interrupt(xml, signal, whole * percent / 100);
      EXPECT_TRUE(finished_ || (WIFSIGNALED(status) && WTERMSIG(status) == signal)) << status;
      EXPECT_FALSE(has_leftovers(xml)) << "it came in between";
      recover(xml);
      if (HasFailure()) return;
    }
}

TEST_F(InterruptedAttach, SeveralKillsInARowDoNotWedgeTheGuest) {
  const std::string xml = disk_on(*dir_ / "sda.img", "sda", "scsi");
  const milliseconds whole = measure();
  for (const char letter : {'b', 'c', 'd', 'e'}) {
    // Another disk each time, and nobody who recovers.
    const std::string target = std::string("sd") + letter;
    interrupt(disk_on(*dir_ / (target + ".img"), target, "scsi"), SIGKILL, whole * (letter - 'a' + 4) / 10);
  }
  Process attach({uri_, "attach", "transient", xml});
  EXPECT_EQ(attach.line(), "begin");
  EXPECT_EQ(attach.line(), "attached");
  EXPECT_EQ(attach.wait(), 0);
}

}  // namespace
}  // namespace aiolos
