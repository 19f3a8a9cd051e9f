// SPDX-License-Identifier: Apache-2.0
#include "aiolos/host/disk_statistics.h"

#include <fmt/format.h>

#include <mutex>
#include <pugixml.hpp>
#include <string_view>
#include <utility>

#include "disk_removal.h"
#include "libvirt_error.h"
#include "qemu_monitor.h"
#include "running_domain.h"

namespace aiolos {
namespace {

// Each queue is a question of its own. A guest with more is not asked: the answers would be too old together.
constexpr std::size_t kMostQueuesAsked = 64;

/// The numbers of a domain's statistics by libvirt's names: "block.0.rd.reqs"; and the texts.
class Record {
 public:
  explicit Record(const virDomainStatsRecord& record) {
    for (int i = 0; i < record.nparams; ++i) {
      const virTypedParameter& parameter = record.params[i];
      if (parameter.type == VIR_TYPED_PARAM_STRING) texts_[parameter.field] = parameter.value.s;
      if (parameter.type == VIR_TYPED_PARAM_ULLONG) numbers_[parameter.field] = parameter.value.ul;
      if (parameter.type == VIR_TYPED_PARAM_UINT) numbers_[parameter.field] = parameter.value.ui;
      if (parameter.type == VIR_TYPED_PARAM_INT)
        numbers_[parameter.field] = static_cast<std::uint64_t>(std::max(parameter.value.i, 0));
    }
  }

  std::optional<std::uint64_t> number(const std::string& name) const {
    const auto found = numbers_.find(name);
    return found == numbers_.end() ? std::nullopt : std::optional(found->second);
  }
  std::string text(const std::string& name) const {
    const auto found = texts_.find(name);
    return found == texts_.end() ? std::string() : found->second;
  }

 private:
  std::map<std::string, std::uint64_t> numbers_;
  std::map<std::string, std::string> texts_;
};

RequestCount count_of(const Record& record, const std::string& prefix) {
  return {record.number(prefix + ".reqs").value_or(0),
          std::chrono::nanoseconds(record.number(prefix + ".times").value_or(0))};
}

GuestCounters counters_of(const Record& record) {
  GuestCounters counters;
  const auto reason = record.number("state.reason");
  counters.switching_over = record.number("state.state") == VIR_DOMAIN_PAUSED &&
                            (reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_POSTCOPY);
  const auto disks = record.number("block.count").value_or(0);
  for (std::uint64_t i = 0; i < disks; ++i) {
    const std::string block = fmt::format("block.{}", i);
    // libvirt has no counters of a vhost-user disk, nor of an empty drive.
    if (!record.number(block + ".rd.reqs")) continue;
    counters.disks.push_back({record.text(block + ".name"), count_of(record, block + ".rd"),
                              count_of(record, block + ".wr"), count_of(record, block + ".fl"), std::nullopt});
  }
  return counters;
}

/// Where QEMU has a disk's queues: the device's path, by target. A queue is one of several that a disk may have.
struct Rings {
  std::string path;
  unsigned queues = 0;
};
using RingsByTarget = std::map<std::string, Rings>;

/// The virtio disks of a domain, by what libvirt calls their devices. Source: libvirt qemu_alias.c; QEMU's own virtio
/// device stands below the PCI device as "virtio-backend".
RingsByTarget virtio_disks(const std::string& domain_xml) {
  RingsByTarget found;
  pugi::xml_document document;
  if (!document.load_string(domain_xml.c_str())) return found;
  for (const pugi::xml_node& disk : document.child("domain").child("devices").children("disk")) {
    const pugi::xml_node target = disk.child("target");
    const std::string alias = disk.child("alias").attribute("name").value();
    const bool is_virtio = std::string_view(target.attribute("bus").value()) == "virtio";
    if (!is_virtio || alias.empty() || std::string_view(disk.attribute("type").value()) == "vhostuser") continue;
    found[target.attribute("dev").value()].path = fmt::format("/machine/peripheral/{}/virtio-backend", alias);
  }
  return found;
}

class LibvirtDiskStatistics final : public DiskStatistics {
 public:
  explicit LibvirtDiskStatistics(std::shared_ptr<LibvirtConnection> connection) : connection_(std::move(connection)) {}

  Result<GuestCounters> look(const std::string& domain, bool ask_qemu) override {
    const Result<RunningDomain> found = find_running(*connection_, domain);
    if (!found) return tl::unexpected(found.error());
    Result<GuestCounters> counters = ask_libvirt(*found, domain);
    if (counters && !counters->switching_over && ask_qemu) ask_in_flight(*found, domain, *counters);
    return counters;
  }

 private:
  static Result<GuestCounters> ask_libvirt(const RunningDomain& domain, const std::string& uuid) {
    const LibvirtApi& api = domain.api();
    virDomainPtr list[] = {domain.handle.get(), nullptr};
    virDomainStatsRecordPtr* records = nullptr;
    const int count = api.virDomainListGetStats(list, VIR_DOMAIN_STATS_STATE | VIR_DOMAIN_STATS_BLOCK, &records, 0);
    if (count < 0)
      return tl::unexpected(last_libvirt_error(api, fmt::format("read the block statistics of guest '{}'", uuid)));
    Result<GuestCounters> counters =
        fail(ErrorKind::bad_input, fmt::format("libvirt has no statistics of guest '{}'", uuid), "see that it runs");
    if (count > 0) counters = counters_of(Record(*records[0]));
    api.virDomainStatsRecordListFree(records);
    return counters;
  }

  /// Leaves out what QEMU does not say: then the answers alone have to do.
  void ask_in_flight(const RunningDomain& domain, const std::string& uuid, GuestCounters& counters) {
    const auto qemu = QemuMonitor::open(domain.api(), domain.handle.get());
    if (!qemu) return;
    const RingsByTarget rings = rings_of(domain, uuid, *qemu, counters);
    std::size_t all = 0;
    for (const auto& [target, each] : rings) all += each.queues;
    if (all > kMostQueuesAsked) return;
    for (DiskCounters& disk : counters.disks)
      if (const auto found = rings.find(disk.target); found != rings.end())
        disk.in_flight = in_flight(*qemu, found->second);
  }

  static std::optional<unsigned> in_flight(const QemuMonitor& qemu, const Rings& rings) {
    unsigned all = 0;
    for (unsigned i = 0; i < rings.queues; ++i) {
      const auto status = qemu.run("x-query-virtio-queue-status", {{"path", rings.path}, {"queue", i}});
      if (!status) return std::nullopt;
      all += status->value("inuse", 0U);
    }
    return rings.queues > 0 ? std::optional(all) : std::nullopt;
  }

  RingsByTarget rings_of(const RunningDomain& domain, const std::string& uuid, const QemuMonitor& qemu,
                         const GuestCounters& counters) {
    const std::lock_guard lock(mutex_);
    Known& known = known_[uuid];
    std::vector<std::string> targets;
    for (const DiskCounters& disk : counters.disks) targets.push_back(disk.target);
    if (known.targets == targets) return known.rings;
    const Result<std::string> xml = xml_of(domain.api(), domain.handle.get(), 0);
    if (!xml) return {};
    known = {std::move(targets), virtio_disks(*xml)};
    for (auto& [target, rings] : known.rings)
      if (const auto status = qemu.run("x-query-virtio-status", {{"path", rings.path}}))
        rings.queues = status->value("num-vqs", 0U);
    return known.rings;
  }

  /// What was found of a guest when it had these disks.
  struct Known {
    std::vector<std::string> targets;
    RingsByTarget rings;
  };

  std::shared_ptr<LibvirtConnection> connection_;
  std::mutex mutex_;
  std::map<std::string, Known> known_;  ///< By UUID.
};

}  // namespace

std::unique_ptr<DiskStatistics> make_disk_statistics(std::shared_ptr<LibvirtConnection> connection) {
  return std::make_unique<LibvirtDiskStatistics>(std::move(connection));
}

}  // namespace aiolos
