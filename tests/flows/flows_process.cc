// SPDX-License-Identifier: Apache-2.0
// Attach, detach and reconcile with the real drivers on the real host, for guests that are only files.
//
//   flows_process CONFIG
//
// Each line of standard input is a JSON request; each is answered by a line, {"result": .., "seconds": ..}, {"error":
// {..}, "seconds": ..} or {"killed": true}:
//
//   {"verb": "attach", "domain": D, "target": T, "connection_info": {..}, "environment": {..}}
//   {"verb": "detach", "domain": D, "target": T, ..}     {"verb": "reconcile", ..}     {"verb": "attachments", ..}
//
// Why: a crash test kills some hundred attaches, and in an emulated machine a guest takes seconds for each, which
// libvirt and QEMU spend. Here the hypervisor is a folder of <disk> documents, which all processes see; all else is
// real. Each request runs in a child of its own, with `environment` set, and may be killed by what is preloaded
// (tests/crash/kill_at_write.c): the plugins are loaded once.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <system_error>

#include "aiolos/agent/agent.h"
#include "aiolos/core/json.h"

namespace aiolos {
namespace {

namespace fs = std::filesystem;

/// Every guest exists, runs, and takes and gives whatever disk it is told to.
class GuestsInFiles : public Hypervisor {
 public:
  explicit GuestsInFiles(fs::path folder) : folder_(std::move(folder)) {}

  Result<HostFacts> facts() override {
    HostFacts facts;
    facts.libvirt = version(9, 0);
    facts.qemu = version(7, 2);
    facts.qemu_has_io_uring = true;
    return facts;
  }
  Result<DomainState> find_domain(const std::string& domain) override {
    return DomainState{.name = domain, .uuid = domain, .running = true, .persistent = false};
  }
  Result<std::string> domain_xml(const std::string& domain) override {
    std::string disks;
    std::error_code none_yet;
    for (const auto& file : fs::directory_iterator(folder_ / domain, none_yet)) {
      std::ifstream stream(file.path());
      disks.append(std::istreambuf_iterator<char>(stream), {});
    }
    return "<domain><devices>" + disks + "</devices></domain>";
  }
  Result<std::optional<int>> domain_pid(const std::string&) override { return std::nullopt; }
  Result<std::vector<DomainState>> running_domains() override { return std::vector<DomainState>{}; }
  Result<DomainEngines> domain_engines(const std::string&, bool) override { return DomainEngines{}; }
  Result<void> add_iothread(const std::string&, unsigned) override { return {}; }
  Result<void> set_engine(const std::string&, unsigned, EngineProperty, std::uint64_t) override { return {}; }
  tl::expected<void, AttachFailure> attach_disk(const std::string& domain, const std::string& disk_xml) override {
    fs::create_directories(folder_ / domain);
    const std::string before = "<target dev='";
    const std::size_t target = disk_xml.find(before) + before.size();
    std::ofstream(folder_ / domain / disk_xml.substr(target, disk_xml.find('\'', target) - target)) << disk_xml;
    return {};
  }
  Result<void> release_leftovers(const std::string&, const std::string&) override { return {}; }
  Result<void> detach_disk(const std::string& domain, const std::string&, const std::string& target,
                           std::chrono::milliseconds) override {
    fs::remove(folder_ / domain / target);
    return {};
  }
  Result<void> resize_disk(const std::string&, const std::string&, std::uint64_t) override { return {}; }
  Result<void> set_iotune(const std::string&, const std::string&, const std::map<std::string, std::uint64_t>&,
                          const std::string&) override {
    return {};
  }
  Result<std::string> native_arguments(const std::string&) override { return std::string(); }

 private:
  const fs::path folder_;
};

/// This machine, but for its hypervisor.
class MachineWithoutGuests : public Machine {
 public:
  explicit MachineWithoutGuests(const Config& config)
      : real_(real_machine(config)), guests_(fs::path(config.state.dir) / "guests") {}
  Clock& clock() override { return real_->clock(); }
  CommandRunner& commands() override { return real_->commands(); }
  BlockDevices& block_devices() override { return real_->block_devices(); }
  MountTable& mounts() override { return real_->mounts(); }
  HostProbe& host_probe() override { return real_->host_probe(); }
  Hypervisor& hypervisor() override { return guests_; }
  SecretStore& secrets() override { return real_->secrets(); }
  DataPlane& data_plane() override { return real_->data_plane(); }
  Migrations& migrations() override { return real_->migrations(); }
  DiskStatistics& disk_statistics() override { return real_->disk_statistics(); }
  GuestAgent& guest_agent() override { return real_->guest_agent(); }

 private:
  std::unique_ptr<Machine> real_;
  GuestsInFiles guests_;
};

/// {"result": ..} or {"error": {..}}
template <typename T, typename Show>
Json answer_of(const Result<T>& result, Show show) {
  if (!result) return to_json(result.error());
  return {{"result", show(*result)}};
}

Json perform(Agent& agent, const Json& request) {
  const std::string verb = request.at("verb");
  if (verb == "reconcile") return answer_of(agent.reconcile(), [](const auto& entries) { return to_json(entries); });
  if (verb == "attachments") return answer_of(agent.attachments(), [](const auto& list) { return to_json(list); });
  const std::string domain = request.at("domain");
  const std::string target = request.at("target");
  if (verb == "attach") {
    const Json disk{{"bus", "virtio"}, {"dev", target}, {"type", "disk"}};
    return answer_of(agent.attach(domain, request.at("connection_info"), disk, /*dry_run=*/false),
                     [](const Explanation& made) { return to_json(made); });
  }
  if (verb != "detach") throw std::invalid_argument("no such verb: " + verb);
  const auto done = agent.detach(domain, target, /*force=*/false);
  return done ? Json{{"result", nullptr}} : to_json(done.error());
}

Json timed(Agent& agent, const Json& request) {
  const auto begun = std::chrono::steady_clock::now();
  Json answer = perform(agent, request);
  answer["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  return answer;
}

[[noreturn]] void answer_and_end(Agent& agent, const Json& request, int to) {
  const Json environment = request.value("environment", Json::object());
  for (const auto& [name, value] : environment.items())
    ::setenv(name.c_str(), value.get<std::string>().c_str(), /*overwrite=*/1);
  const std::string text = timed(agent, request).dump();
  std::size_t written = 0;
  while (written < text.size()) {
    const ssize_t count = ::write(to, text.data() + written, text.size() - written);
    if (count < 0) std::_Exit(1);
    written += static_cast<std::size_t>(count);
  }
  std::_Exit(0);
}

std::string read_all(int from) {
  std::string text;
  std::array<char, 65536> buffer;
  while (true) {
    const ssize_t got = ::read(from, buffer.data(), buffer.size());
    if (got > 0) text.append(buffer.data(), static_cast<std::size_t>(got));
    if (got == 0 || (got < 0 && errno != EINTR)) return text;
  }
}

Json in_child(Agent& agent, const Json& request) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe2");
  const pid_t child = ::fork();
  if (child == 0) answer_and_end(agent, request, ends[1]);
  ::close(ends[1]);
  const std::string answer = child > 0 ? read_all(ends[0]) : std::string();
  ::close(ends[0]);
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) throw std::runtime_error("cannot run a child");
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) return {{"killed", true}};
  if (status != 0) throw std::runtime_error("a child failed with wait status " + std::to_string(status));
  return Json::parse(answer);
}

int serve(const std::string& config_file) {
  auto config = load_config(config_file);
  if (!config) {
    std::cerr << describe(config.error()) << '\n';
    return 2;
  }
  auto machine = std::make_unique<MachineWithoutGuests>(*config);
  auto agent = Agent::open({.config = *std::move(config), .log = {}, .machine = std::move(machine)});
  if (!agent) {
    std::cerr << describe(agent.error()) << '\n';
    return 2;
  }
  for (std::string line; std::getline(std::cin, line);) {
    const Json request = Json::parse(line);
    const bool stay = request.value("stay", false);
    std::cout << (stay ? timed(**agent, request) : in_child(**agent, request)).dump() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace aiolos

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: flows_process CONFIG\n";
    return 2;
  }
  try {
    return aiolos::serve(argv[1]);
  } catch (const std::exception& exception) {
    std::cerr << "flows_process: " << exception.what() << '\n';
    return 1;
  }
}
