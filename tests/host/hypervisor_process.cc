// SPDX-License-Identifier: Apache-2.0
// One step on a guest in a process of its own, which interrupted_attach_test.cc may end at any point.
//   hypervisor_process URI start GUEST
//   hypervisor_process URI attach GUEST DISK_XML              says "begin" before it asks libvirt, "attached" after
//   hypervisor_process URI look GUEST DISK_XML                fails if QEMU has leftovers
//   hypervisor_process URI recover GUEST DISK_XML TARGET OTHER_XML OTHER_TARGET
// Exit status 0, or 1 with the reason on standard error.
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "domain_xml.h"
#include "embedded_guest.h"
#include "leftovers.h"
#include "libvirt_connection.h"

namespace aiolos {
namespace {

using std::chrono::milliseconds;

int failed(const char* what, const Error& error) {
  std::fprintf(stderr, "%s: %s\n", what, describe(error).c_str());
  return 1;
}

int start(const std::string& uri, Hypervisor& hypervisor, const std::string& guest) {
  if (const auto ready = hypervisor.facts(); !ready) return failed("connect", ready.error());
  virConnectPtr connection = ::virConnectOpen(uri.c_str());
  virDomainPtr domain = ::virDomainCreateXML(connection, idle_guest(guest).c_str(), 0);
  if (domain == nullptr) std::fprintf(stderr, "start: %s\n", ::virGetLastErrorMessage());
  return domain == nullptr ? 1 : 0;
}

int attach(Hypervisor& hypervisor, const std::string& guest, const std::string& disk) {
  if (const auto ready = hypervisor.find_domain(guest); !ready) return failed("connect", ready.error());
  (void)!::write(STDOUT_FILENO, "begin\n", 6);
  if (const auto done = hypervisor.attach_disk(guest, disk); !done) return failed("attach", done.error().error);
  (void)!::write(STDOUT_FILENO, "attached\n", 9);
  return 0;
}

/// Fails if QEMU has anything that no disk of the XML accounts for.
int look(LibvirtConnection& connection, const std::string& guest, const std::string& disk) {
  const auto open = connection.open();
  const DomainHandle domain(open->api->virDomainLookupByName(open->connection, guest.c_str()),
                            DomainRelease{open->api});
  const auto removal = remove_unused_nodes(*open, domain.get(), disk_image(disk).value_or(DiskImage{}));
  if (!removal) return failed("look at QEMU", removal.error());
  if (removal->any || !removal->left.empty()) std::fprintf(stderr, "QEMU had leftovers still\n");
  return removal->any || !removal->left.empty() ? 1 : 0;
}

/// What the agent does after a crash, and then another disk.
int recover(const std::shared_ptr<LibvirtConnection>& connection, Hypervisor& hypervisor, const std::string& guest,
            const std::string& disk, const std::string& target, const std::string& other,
            const std::string& other_target) {
  const auto xml = hypervisor.domain_xml(guest);
  if (!xml) return failed("read the XML", xml.error());
  const bool shown = find_disk(*xml, target).has_value();
  std::printf("%s\n", shown ? "shown" : "not shown");
  if (shown) {
    if (const auto done = hypervisor.detach_disk(guest, disk, target, milliseconds(10'000)); !done)
      return failed("detach", done.error());
  } else if (const auto done = hypervisor.release_leftovers(guest, disk); !done) {
    return failed("release", done.error());
  }
  if (look(*connection, guest, disk) != 0) return 1;
  if (const auto done = hypervisor.attach_disk(guest, other); !done) return failed("attach", done.error().error);
  if (const auto done = hypervisor.detach_disk(guest, other, other_target, milliseconds(10'000)); !done)
    return failed("detach the other", done.error());
  return look(*connection, guest, other);
}

}  // namespace
}  // namespace aiolos

int main(int argc, char** argv) {
  using namespace aiolos;
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 3) return 2;
  LibvirtOptions options;
  options.uri = arguments[0];
  options.detach_again = milliseconds(500);
  const auto connection = make_libvirt_connection(options);
  const auto hypervisor = make_hypervisor(connection);
  const std::string& step = arguments[1];
  if (step == "start") return start(options.uri, *hypervisor, arguments[2]);
  if (step == "attach" && arguments.size() == 4) return attach(*hypervisor, arguments[2], arguments[3]);
  if (step == "look" && arguments.size() == 4) return look(*connection, arguments[2], arguments[3]);
  if (step == "recover" && arguments.size() == 7)
    return recover(connection, *hypervisor, arguments[2], arguments[3], arguments[4], arguments[5], arguments[6]);
  return 2;
}
