// SPDX-License-Identifier: Apache-2.0
#include "incoming_domain.h"

#include <fmt/format.h>

#include <utility>

#include "aiolos/disk/disk_xml.h"
#include "aiolos/host/domain_document.h"

namespace aiolos {
namespace {

bool is_served(const disk::DiskConfig& disk) { return disk.type == disk::SourceType::vhostuser; }

std::string plane_of(const disk::DiskConfig& disk) { return is_served(disk) ? "aiolos-engine" : "QEMU"; }

/// The guest was told when it started that there is no write cache, and flushes none.
bool is_written_through(const std::optional<CacheMode>& cache) {
  return cache == CacheMode::writethrough || cache == CacheMode::directsync;
}

tl::unexpected<AttachFailure> nothing_attached(Error error) {
  return tl::unexpected(AttachFailure{std::move(error), /*gone=*/true});
}

}  // namespace

Result<disk::DiskConfig> keep_front_end(const disk::DiskConfig& before, disk::DiskConfig decided) {
  const std::string target = before.target.dev.value_or("?");
  if (is_served(before) != is_served(decided))
    return fail(ErrorKind::refused,
                fmt::format("{} does the I/O of '{}' on the source, and {} would on the destination", plane_of(before),
                            target, plane_of(decided)),
                "they are different devices to the guest: have both hosts use the same aio.profile, or detach the disk "
                "and attach it again with the other disk_info {\"data_plane\": ..}");
  if (is_served(before) && before.driver.queues != decided.driver.queues)
    return fail(ErrorKind::refused,
                fmt::format("'{}' has {} queues, and aiolos-engine here would offer {}", target,
                            before.driver.queues.value_or(1), decided.driver.queues.value_or(1)),
                "have both hosts run the same version of Aiolos");
  decided.device = before.device;
  decided.model = before.model;
  decided.target = before.target;
  decided.alias = before.alias;
  decided.address = before.address;
  decided.acpi = before.acpi;
  decided.boot = before.boot;
  decided.serial = before.serial;
  decided.wwn = before.wwn;
  decided.vendor = before.vendor;
  decided.product = before.product;
  decided.blockio = before.blockio;
  decided.geometry = before.geometry;
  decided.iotune = before.iotune;  // the limits of now, which are not those of connection_info any more
  disk::Driver& driver = decided.driver;
  if (is_written_through(before.driver.cache) && !is_written_through(driver.cache))
    driver.cache = uses_o_direct(driver.cache) ? CacheMode::directsync : CacheMode::writethrough;
  driver.queues = before.driver.queues;
  driver.queue_size = before.driver.queue_size;
  driver.ioeventfd = before.driver.ioeventfd;
  driver.event_idx = before.driver.event_idx;
  driver.iommu = before.driver.iommu;
  driver.ats = before.driver.ats;
  driver.packed = before.driver.packed;
  driver.page_per_vq = before.driver.page_per_vq;
  // A mapping names its queues, which are as many as before.
  if (driver.iothreads) driver.iothreads = before.driver.iothreads;
  return decided;
}

IncomingDomain::IncomingDomain(Hypervisor& real, const MovingGuest& guest, GuestDisks disks)
    : real_(real), name_(guest.name), uuid_(guest.uuid), xml_(guest.xml), before_(std::move(disks)) {
  for (const MovingVolume& volume : guest.volumes) disks_[volume.target];
}

Result<DomainState> IncomingDomain::find_domain(const std::string& domain) {
  if (!is_guest(domain)) return real_.find_domain(domain);
  return DomainState{name_, uuid_, /*running=*/true, /*persistent=*/false};
}

Result<std::string> IncomingDomain::domain_xml(const std::string& domain) {
  return is_guest(domain) ? replace_disks(xml_, disks_) : real_.domain_xml(domain);
}

Result<std::optional<int>> IncomingDomain::domain_pid(const std::string& domain) {
  return is_guest(domain) ? std::optional<int>() : real_.domain_pid(domain);
}

tl::expected<void, AttachFailure> IncomingDomain::attach_disk(const std::string& domain, const std::string& disk_xml) {
  if (!is_guest(domain)) return real_.attach_disk(domain, disk_xml);
  auto decided = disk::parse(disk_xml);
  if (!decided) return nothing_attached(decided.error());
  const std::string target = decided->disk.target.dev.value_or("");
  const disk::DiskConfig* const before = before_.find(target);
  const auto disk = disks_.find(target);
  if (!before || disk == disks_.end())
    return nothing_attached({ErrorKind::bad_input,
                             fmt::format("the XML of guest '{}' has no disk '{}' that could move", name_, target),
                             "name the disks by the targets that the guest's XML has",
                             {}});
  auto kept = keep_front_end(*before, std::move(decided->disk));
  if (!kept) return nothing_attached(kept.error());
  disk->second = disk::emit(*kept);
  return {};
}

/// There is no QEMU here that could hold anything.
Result<void> IncomingDomain::release_leftovers(const std::string& domain, const std::string& disk_xml) {
  return is_guest(domain) ? Result<void>() : real_.release_leftovers(domain, disk_xml);
}

Result<void> IncomingDomain::detach_disk(const std::string& domain, const std::string& disk_xml,
                                         const std::string& target, std::chrono::milliseconds timeout) {
  if (!is_guest(domain)) return real_.detach_disk(domain, disk_xml, target, timeout);
  if (const auto disk = disks_.find(target); disk != disks_.end()) disk->second.clear();
  return {};
}

Result<void> IncomingDomain::set_of_running(const std::string& domain) const {
  return fail(ErrorKind::refused, fmt::format("guest '{}' is still on its way to this host", domain),
              "wait until it has come");
}

Result<void> IncomingDomain::resize_disk(const std::string& domain, const std::string& target, std::uint64_t bytes) {
  return is_guest(domain) ? set_of_running(domain) : real_.resize_disk(domain, target, bytes);
}

Result<void> IncomingDomain::set_iotune(const std::string& domain, const std::string& target,
                                        const std::map<std::string, std::uint64_t>& limits, const std::string& group) {
  return is_guest(domain) ? set_of_running(domain) : real_.set_iotune(domain, target, limits, group);
}

Result<DomainEngines> IncomingDomain::domain_engines(const std::string& domain, bool ask_qemu) {
  return is_guest(domain) ? engines_of(xml_) : real_.domain_engines(domain, ask_qemu);
}

Result<void> IncomingDomain::add_iothread(const std::string& domain, unsigned id) {
  return is_guest(domain) ? set_of_running(domain) : real_.add_iothread(domain, id);
}

Result<void> IncomingDomain::set_engine(const std::string& domain, unsigned engine, EngineProperty property,
                                        std::uint64_t value) {
  return is_guest(domain) ? set_of_running(domain) : real_.set_engine(domain, engine, property, value);
}

}  // namespace aiolos
