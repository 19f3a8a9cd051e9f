// SPDX-License-Identifier: Apache-2.0
#include "qemu_arguments.h"

#include <fmt/format.h>

#include <algorithm>

namespace aiolos::measure {

void add_option(std::vector<std::string>& argv, const char* option, const Json& value) {
  argv.emplace_back(option);
  argv.push_back(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string add_image(std::vector<std::string>& argv, const QemuDisk& disk, AioMode mode, std::size_t index) {
  const std::string file = fmt::format("file{}", index);
  add_option(argv, "--blockdev",
             {{"driver", disk.block_device ? "host_device" : "file"},
              {"node-name", file},
              {"filename", disk.path},
              {"read-only", !disk.writable},
              {"aio", to_string(mode)},
              {"cache", {{"direct", true}}}});
  const std::string format = fmt::format("disk{}", index);
  add_option(argv, "--blockdev",
             {{"driver", disk.format},
              {"node-name", format},
              {"file", file},
              {"read-only", !disk.writable},
              {"cache", {{"direct", true}}}});
  return format;
}

void add_iothreads(std::vector<std::string>& argv, unsigned count) {
  for (unsigned i = 0; i < count; ++i)
    add_option(argv, "--object", {{"qom-type", "iothread"}, {"id", iothread_of(i, count)}});
}

std::string iothread_of(std::size_t disk, unsigned count) { return fmt::format("iothread{}", disk % count); }

unsigned iothreads_for(std::size_t disks, unsigned iothreads) {
  return static_cast<unsigned>(std::min<std::size_t>(disks, iothreads));
}

}  // namespace aiolos::measure
