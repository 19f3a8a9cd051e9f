// SPDX-License-Identifier: Apache-2.0
// Fuzzes a front end's conversation: the input is messages, each of them {u8 request, u8 flags, u16 size, payload}. Bit
// 4 of the flags sends memory along, bit 5 an eventfd. Between messages the rings that run are served.
#include <sys/eventfd.h>

#include <algorithm>
#include <cstring>

#include "block_request.h"
#include "memory.h"
#include "session.h"

namespace aiolos::engine {
namespace {

constexpr std::size_t kMemory = 64U << 10;
constexpr unsigned kWithMemory = 1U << 4;
constexpr unsigned kWithEvent = 1U << 5;

class FuzzedDisk : public SessionDisk {
 public:
  std::uint64_t features() const override { return 1ULL << 32 | 1ULL << 29 | 1ULL << 28; }
  unsigned queues() const override { return 2; }
  std::span<const std::byte> config() const override { return config_; }
  Result<void> write_config(std::uint32_t offset, std::span<const std::byte> bytes) override {
    if (offset >= config_.size() || bytes.size() > config_.size() - offset)
      return fail(ErrorKind::bad_input, "out of it");
    std::ranges::copy(bytes, config_.begin() + offset);
    return {};
  }
  void features_changed(std::uint64_t) override {}
  void kick_changed(SplitRing&, int) override {}
  void ring_ready(SplitRing&) override {}

 private:
  std::array<std::byte, 60> config_{};
};

/// Takes and completes what the rings have, some of it one message later, so that there is something in flight.
class Driver {
 public:
  explicit Driver(Session& session) : session_(session) {}

  void serve() {
    for (const auto& [ring, head] : taken_) ring->complete(head, 1);
    taken_.clear();
    for (SplitRing& ring : session_.rings()) ring.publish(session_.log());
    if (session_.draining()) return;
    for (SplitRing& ring : session_.rings()) {
      for (int i = 0; i < 4; ++i) {
        const auto head = ring.pop();
        if (!head) break;
        if (ring.read_chain(session_.memory(), *head, chain_))
          parse_block_request(chain_, {1U << 20, 512, false}, request_);
        taken_.emplace_back(&ring, *head);
      }
      ring.arm(session_.log());
    }
  }

 private:
  Session& session_;
  DescriptorChain chain_;
  BlockRequest request_;
  std::vector<std::pair<SplitRing*, std::uint16_t>> taken_;
};

/// @return the next message of the input, which becomes shorter; nullopt at its end.
std::optional<Message> next_message(std::span<const std::uint8_t>& input, int memory, int event) {
  if (input.size() < 4) return std::nullopt;
  Message message;
  std::uint16_t size = 0;
  std::memcpy(&size, input.data() + 2, sizeof(size));
  message.header = {input[0], kVersion | (input[1] & kNeedReply), 0};
  const unsigned along = input[1];
  input = input.subspan(4);
  const std::size_t payload = std::min<std::size_t>({size, input.size(), message.payload.size()});
  message.append(input.data(), payload);
  input = input.subspan(payload);
  for (unsigned i = 0; (along & kWithMemory) != 0 && i < 1 + (along >> 6); ++i) message.fds.emplace_back(::dup(memory));
  if ((along & kWithEvent) != 0) message.fds.emplace_back(::dup(event));
  return message;
}

void run(std::span<const std::uint8_t> input) {
  const UniqueFd memory = make_memory(kMemory);
  const UniqueFd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  FuzzedDisk disk;
  Session session(disk);
  Driver driver(session);
  while (auto message = next_message(input, memory.get(), event.get())) {
    // What waits for requests in flight is not kept waiting for ever.
    for (int tries = 0;; ++tries) {
      const auto outcome = session.handle(*message);
      if (!outcome) return;
      driver.serve();
      if (!std::holds_alternative<Session::Deferred>(*outcome)) break;
      require(tries < 300);
    }
  }
}

}  // namespace
}  // namespace aiolos::engine

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  aiolos::engine::run({data, size});
  return 0;
}
