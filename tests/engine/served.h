// SPDX-License-Identifier: Apache-2.0
// A disk that is served in this process, and front ends for it.
#pragma once

#include <chrono>
#include <future>
#include <memory>
#include <stdexcept>
#include <string>

#include "front_end.h"
#include "reactor.h"
#include "storage.h"

namespace aiolos::engine {

/// A reactor with disks.
class Served {
 public:
  explicit Served(unsigned capacity = 256, DescriptorStore* store = nullptr)
      : reactor_(std::make_unique<Reactor>(capacity, store)) {}

  /// Serves a file. @param kept a session that it goes on with. @return its statistics.
  std::shared_ptr<DiskStatistics> add(DiskSettings settings, std::optional<KeptSession> kept = std::nullopt) {
    auto image = Image::open(settings.path, {settings.read_only, settings.direct});
    if (!image) throw std::runtime_error(describe(image.error()));
    auto socket = open_socket(settings.socket);
    if (!socket) throw std::runtime_error(describe(socket.error()));
    if (settings.name.empty()) settings.name = settings.socket;
    std::promise<Result<std::shared_ptr<DiskStatistics>>> added;
    reactor_->add(
        settings, std::move(*image), std::move(*socket), [&](auto result) { added.set_value(std::move(result)); },
        DrainGovernor::Settings{}.target, std::move(kept));
    auto result = added.get_future().get();
    if (!result) throw std::runtime_error(describe(result.error()));
    return *result;
  }

  Reactor& reactor() { return *reactor_; }

 private:
  std::unique_ptr<Reactor> reactor_;
};

inline std::unique_ptr<FrontEnd> connect(const std::string& socket, const FrontEndOptions& options = {},
                                         bool start = true) {
  auto front_end = FrontEnd::connect(socket, options);
  if (!front_end) throw std::runtime_error(describe(front_end.error()));
  if (start)
    if (auto started = (*front_end)->start(); !started) throw std::runtime_error(describe(started.error()));
  return std::move(*front_end);
}

}  // namespace aiolos::engine
