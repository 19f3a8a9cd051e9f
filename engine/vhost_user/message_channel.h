// SPDX-License-Identifier: Apache-2.0
// vhost-user messages over a unix socket, with the descriptors that come along.
#pragma once

#include <optional>

#include "aiolos/core/result.h"
#include "protocol.h"

namespace aiolos::engine {

/// One end of a connection; never waits. For one thread.
class MessageChannel {
 public:
  explicit MessageChannel(UniqueFd socket) : socket_(std::move(socket)) {}

  int fd() const { return socket_.get(); }

  /// Reads what is there. @return the next message once all of it is; nullopt before. ErrorKind::retry when the other
  /// side has closed the connection, ErrorKind::bad_input for what is no message.
  Result<std::optional<Message>> receive();

  /// Sends a message with its descriptors. A peer that does not read its answers is an error, too.
  Result<void> send(const Message& message);

  /// Whether nothing of a message has been read whose rest is missing.
  bool between_messages() const { return got_ == 0; }

 private:
  Result<bool> read_more(std::size_t until);

  UniqueFd socket_;
  Message partial_;
  std::size_t got_ = 0;  ///< Bytes of header and payload.
};

}  // namespace aiolos::engine
