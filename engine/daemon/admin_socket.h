// SPDX-License-Identifier: Apache-2.0
// The admin socket: one JSON request a line, one JSON answer a line: {"ok": ...} or {"error": {kind, message, next}}.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "poller.h"
#include "service.h"

namespace aiolos::engine {

/// For the control thread. Serves root and the user of this process, by the peer's credentials.
class AdminSocket {
 public:
  AdminSocket(UniqueFd listener, Poller& poller, Service& service);
  ~AdminSocket();

 private:
  struct Connection {
    UniqueFd socket;
    std::string input;
    bool answering = false;  ///< One request at a time: the next one is read when the answer is out.
  };

  void accept();
  void receive(int fd);
  void handle_lines(int fd);
  void answer(int fd, const std::weak_ptr<Connection>& connection, const Result<Json>& result);
  void close(int fd);

  UniqueFd listener_;
  Poller& poller_;
  Service& service_;
  std::map<int, std::shared_ptr<Connection>> connections_;
};

}  // namespace aiolos::engine
