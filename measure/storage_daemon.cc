// SPDX-License-Identifier: Apache-2.0
#include "storage_daemon.h"

#include <fmt/format.h>
#include <unistd.h>

namespace aiolos::measure {
namespace {

constexpr std::chrono::seconds kStart{20};
constexpr std::chrono::milliseconds kLookForSocket{5};

void add_export(std::vector<std::string>& argv, const std::string& node, const std::string& socket, bool writable,
                std::size_t index, unsigned iothreads) {
  Json wanted = {{"type", "vhost-user-blk"},
                 {"id", "export-" + node},
                 {"node-name", node},
                 {"writable", writable},
                 {"addr", {{"type", "unix"}, {"path", socket}}}};
  if (iothreads > 0) {
    wanted["iothread"] = iothread_of(index, iothreads);
    wanted["fixed-iothread"] = true;  // without it a node that can't be moved is served by the main loop, unsaid
  }
  add_option(argv, "--export", wanted);
}

}  // namespace

std::vector<std::string> daemon_command(const DaemonOptions& options) {
  std::vector<std::string> argv{"qemu-storage-daemon"};
  const unsigned iothreads = iothreads_for(options.disks.size(), options.iothreads);
  add_iothreads(argv, iothreads);
  for (std::size_t i = 0; i < options.disks.size(); ++i) {
    const DaemonDisk& disk = options.disks[i];
    add_export(argv, add_image(argv, disk, options.mode, i), disk.socket, disk.writable, i, iothreads);
  }
  if (options.null_socket) {
    add_option(argv, "--blockdev",
               {{"driver", "null-co"}, {"node-name", "nothing"}, {"size", 1 << 30}, {"read-zeroes", true}});
    add_export(argv, "nothing", *options.null_socket, /*writable=*/false, 0, iothreads);
  }
  return argv;
}

Result<std::unique_ptr<BackgroundProcess>> start_daemon(const DaemonOptions& options, const TemporaryFolder& folder,
                                                        const Stop& stop) {
  // It writes the file once all exports listen, which is documented: qemu-storage-daemon(1), --pidfile.
  const std::string ready = folder / "ready";
  ::unlink(ready.c_str());
  std::vector<std::string> argv = daemon_command(options);
  argv.insert(argv.end(), {"--pidfile", ready});
  auto daemon = BackgroundProcess::start(argv, folder / "daemon");
  if (!daemon) return daemon;
  const auto until = std::chrono::steady_clock::now() + kStart;
  while (::access(ready.c_str(), F_OK) != 0) {
    if ((*daemon)->wait(kLookForSocket))
      return fail(ErrorKind::storage,
                  fmt::format("qemu-storage-daemon does not serve with aio={}: {}", to_string(options.mode),
                              last_line((*daemon)->output())),
                  "see what it says of the image: whether it is in use, or its storage refuses O_DIRECT");
    if (stop()) return stopped();
    if (std::chrono::steady_clock::now() > until)
      return fail(ErrorKind::retry, fmt::format("qemu-storage-daemon does not serve within {} s", kStart.count()),
                  "check that the storage answers, then try again");
  }
  return daemon;
}

}  // namespace aiolos::measure
