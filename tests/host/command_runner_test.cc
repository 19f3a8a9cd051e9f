// SPDX-License-Identifier: Apache-2.0
// The command runner, with real processes: deadlines, groups, output, environment, what a missing program says.
#include "aiolos/host/command_runner.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <thread>

#include "support.h"

namespace aiolos {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

/// "R", "S", "D", "Z", ...; empty if there is no such process.
std::string state_of(pid_t pid) {
  std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
  std::string state;
  stat >> state >> state >> state;
  return state;
}

/// Whether the process goes within a second. Whoever adopted it may take a while to reap, so a zombie counts as gone.
bool ends(pid_t pid) {
  for (int i = 0; i < 100; ++i) {
    const std::string state = state_of(pid);
    if (state.empty() || state == "Z") return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

class CommandRunnerTest : public testing::Test {
 protected:
  Result<CommandResult> shell(const std::string& script, milliseconds timeout = milliseconds(10'000),
                              const std::string& input = {}) {
    return runner_->run({{"sh", "-c", script}, input, timeout});
  }
  std::unique_ptr<CommandRunner> runner_ = make_command_runner();
};

TEST_F(CommandRunnerTest, GivesStatusOutputAndErrorsApart) {
  const auto result = shell("echo out; echo err >&2; exit 7");
  ASSERT_TRUE(result) << describe(result.error());
  EXPECT_EQ(result->status, 7);
  EXPECT_EQ(result->output, "out\n");
  EXPECT_EQ(result->errors, "err\n");
}

TEST_F(CommandRunnerTest, GivesASignalAsAShellDoes) {
  const auto result = shell("kill -TERM $$");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 128 + SIGTERM);
}

TEST_F(CommandRunnerTest, FeedsInputLargerThanAPipe) {
  const std::string input(1024 * 1024, 'x');
  const auto result = runner_->run({{"cat"}, input, milliseconds(10'000)});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->output, input);
}

TEST_F(CommandRunnerTest, InputThatNobodyReadsDoesNotKillUs) {
  const auto result = runner_->run({{"true"}, std::string(1024 * 1024, 'x'), milliseconds(10'000)});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->status, 0);
}

TEST_F(CommandRunnerTest, CapturesBothOutputsTogether) {
  // Either output alone fills a pipe: reading one to its end before the other would hang.
  const auto result = shell("head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->output.size(), 600000U);
  EXPECT_EQ(result->errors.size(), 300000U);
}

TEST_F(CommandRunnerTest, EnvironmentIsFixed) {
  ::setenv("AIOLOS_LEAK", "1", 1);
  const auto result = runner_->run({{"env"}, {}, milliseconds(10'000)});
  ASSERT_TRUE(result);
  EXPECT_THAT(result->output, HasSubstr("LC_ALL=C\n"));
  EXPECT_THAT(result->output, HasSubstr("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"));
  EXPECT_THAT(result->output, Not(HasSubstr("AIOLOS_LEAK")));
}

TEST_F(CommandRunnerTest, NoDescriptorIsInherited) {
  const int leak = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC, as another library might
  ASSERT_GE(leak, 0);
  const auto result =
      shell("for i in 3 4 5 6 7 8 9 " + std::to_string(leak) + "; do test -e /proc/$$/fd/$i && echo $i; done; true");
  ::close(leak);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->output, "");
}

TEST_F(CommandRunnerTest, ArgumentsReachTheProgramUntouched) {
  const auto result = runner_->run({{"printf", "%s|", "a b", "$HOME", "*", "", "'"}, {}, milliseconds(10'000)});
  ASSERT_TRUE(result);
  EXPECT_EQ(result->output, "a b|$HOME|*||'|");
}

TEST_F(CommandRunnerTest, OverrunningCommandIsKilledWithItsGrandchildren) {
  TempDir dir;
  const std::string pids = dir / "pids";
  const auto start = std::chrono::steady_clock::now();
  const auto result = shell("sleep 600 & echo $! >" + pids + "; (sleep 600 & echo $! >>" + pids + "; wait) ; wait",
                            milliseconds(1500), "top-secret");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::retry);
  EXPECT_EQ(result.error().message, "sh did not end within 1500 ms");
  EXPECT_THAT(result.error().message + result.error().next, Not(HasSubstr("top-secret")));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(60));

  std::ifstream file(pids);
  int count = 0;
  for (pid_t pid; file >> pid; ++count) {
    EXPECT_TRUE(ends(pid)) << "process " << pid << " still lives: " << state_of(pid);
  }
  EXPECT_EQ(count, 2);
}

TEST_F(CommandRunnerTest, ADaemonThatKeepsTheOutputOpenIsNotWaitedFor) {
  TempDir dir;
  const auto start = std::chrono::steady_clock::now();
  const auto result = shell("sleep 5 & echo $! >" + (dir / "pid") + "; echo started");
  ASSERT_TRUE(result);
  EXPECT_EQ(result->output, "started\n");
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(2000));
  if (pid_t pid = 0; std::ifstream(dir / "pid") >> pid) ::kill(pid, SIGKILL);
}

/// A process of this test's own that runs a command and is killed meanwhile.
class KilledRunner {
 public:
  /// Returns when `ready` is there, which the command has to make.
  KilledRunner(const std::string& script, const std::string& ready) : pid_(::fork()) {
    if (pid_ == 0) {
      (void)make_command_runner()->run({{"sh", "-c", script}, {}, milliseconds(60'000)});
      ::_exit(0);
    }
    const auto patience = std::chrono::steady_clock::now() + std::chrono::seconds(30);
    while (!std::filesystem::exists(ready) && std::chrono::steady_clock::now() < patience)
      std::this_thread::sleep_for(milliseconds(5));
    EXPECT_TRUE(std::filesystem::exists(ready)) << "the command did not start: " << script;
  }
  KilledRunner(const KilledRunner&) = delete;
  KilledRunner& operator=(const KilledRunner&) = delete;
  ~KilledRunner() { kill(); }

  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    int ignored = 0;
    EXPECT_EQ(::waitpid(pid_, &ignored, 0), pid_);
    pid_ = -1;
  }

 private:
  pid_t pid_;
};

TEST_F(CommandRunnerTest, CommandDoesNotOutliveItsRunner) {
  TempDir dir;
  KilledRunner runner(
      "echo $$ >" + (dir / "new") + " && mv " + (dir / "new") + " " + (dir / "pid") + " && exec sleep 600",
      dir / "pid");
  pid_t command = 0;
  ASSERT_TRUE(std::ifstream(dir / "pid") >> command);
  EXPECT_EQ(state_of(command).empty(), false);
  runner.kill();
  EXPECT_TRUE(ends(command)) << "process " << command << " still lives: " << state_of(command);
  if (!state_of(command).empty()) ::kill(command, SIGKILL);
}

TEST_F(CommandRunnerTest, DaemonOutlivesTheRunnerOfItsCommand) {
  TempDir dir;
  // As daemon(3) does it, and with the command still there when its runner is killed.
  KilledRunner runner("setsid sh -c 'echo $$ >" + (dir / "new") + " && mv " + (dir / "new") + " " + (dir / "pid") +
                          " && exec sleep 600' >/dev/null 2>&1 & exec sleep 600",
                      dir / "pid");
  pid_t daemon = 0;
  ASSERT_TRUE(std::ifstream(dir / "pid") >> daemon);
  runner.kill();
  std::this_thread::sleep_for(milliseconds(200));  // whatever killed it would have by then
  EXPECT_THAT(state_of(daemon), testing::AnyOf("S", "R", "D"));
  ::kill(daemon, SIGKILL);
}

TEST_F(CommandRunnerTest, TooMuchOutputEndsIt) {
  CommandRunnerOptions options;
  options.output_limit = 100'000;
  const auto result = make_command_runner(options)->run({{"cat", "/dev/zero"}, {}, milliseconds(10'000)});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::storage);
  EXPECT_EQ(result.error().message, "cat wrote more than 100000 bytes");
}

TEST_F(CommandRunnerTest, MissingProgramNamesItsPackage) {
  CommandRunnerOptions options;
  options.path = {"/nonexistent"};
  const auto runner = make_command_runner(options);
  for (const auto& [program, package] :
       std::vector<std::pair<std::string, std::string>>{{"qemu-img", "qemu-utils"},
                                                        {"iscsiadm", "open-iscsi"},
                                                        {"mount.nfs", "nfs-common"},
                                                        {"multipath", "multipath-tools"},
                                                        {"lvs", "lvm2"},
                                                        {"/no/where/nvme", "nvme-cli"}}) {
    const auto result = runner->run({{program}, {}, milliseconds(1000)});
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().kind, ErrorKind::configuration);
    EXPECT_EQ(result.error().message, "program '" + program + "' is not installed");
    EXPECT_EQ(result.error().next, "install it: apt-get install " + package);
  }
  const auto unknown = runner->run({{"frobnicate"}, {}, milliseconds(1000)});
  ASSERT_FALSE(unknown);
  EXPECT_THAT(unknown.error().next, HasSubstr("/nonexistent"));
}

TEST_F(CommandRunnerTest, AFileThatIsNoProgramIsAConfigurationError) {
  TempDir dir;
  write_file(dir / "broken",
             "\x7f"
             "ELF but not really");
  std::filesystem::permissions(dir / "broken", std::filesystem::perms::owner_all);
  const auto result = runner_->run({{dir / "broken"}, {}, milliseconds(1000)});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::configuration);
  EXPECT_THAT(result.error().message, HasSubstr("cannot start " + (dir / "broken")));
}

TEST_F(CommandRunnerTest, EmptyCommandIsABug) {
  const auto result = runner_->run({});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().kind, ErrorKind::bug);
}

TEST_F(CommandRunnerTest, RunsFromManyThreadsAtOnce) {
  std::vector<std::thread> threads;
  std::atomic<int> good{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 10; ++i) {
        const std::string text = std::to_string(t) + "-" + std::to_string(i);
        const auto result = runner_->run({{"cat"}, text, milliseconds(20'000)});
        if (result && result->output == text) ++good;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(good, 80);
}

TEST_F(CommandRunnerTest, LeavesNoDescriptorBehind) {
  const auto open_descriptors = [] {
    const std::filesystem::directory_iterator folder("/proc/self/fd");
    return std::distance(begin(folder), end(folder));
  };
  ASSERT_TRUE(shell("true"));
  const auto before = open_descriptors();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(shell("true"));
  (void)shell("sleep 10", milliseconds(20));
  (void)runner_->run({{"no-such-program"}, {}, milliseconds(20)});
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(CommandRunnerTest, WorksWithStandardDescriptorsClosed) {
  // A daemon may have closed them, so that its pipes get the numbers 0 to 2.
  EXPECT_EXIT(
      {
        ::close(0);
        ::close(1);
        ::close(2);
        const auto result = shell("cat; echo err >&2", milliseconds(5000), "in");
        ::_exit(result && result->output == "in" && result->errors == "err\n" ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace aiolos
