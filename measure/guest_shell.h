// SPDX-License-Identifier: Apache-2.0
// A guest's control port: a script goes in, and what it printed comes out. The guest's side is tests/guest/init.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "aiolos/host/background_process.h"
#include "outside.h"

namespace aiolos::measure {

struct GuestAnswer {
  int status = 0;      ///< The script's exit status; 143 if it took too long.
  std::string output;  ///< Its standard output and error together.

  bool operator==(const GuestAnswer&) const = default;
};

/// What has the guest run a script. Pure. @param most after which the guest kills it.
std::string guest_request(std::string_view token, std::chrono::seconds most, std::string_view script);

/// The answer to the request with that token, in all that the guest has said so far; nullopt while it is not there as a
/// whole. Pure.
std::optional<GuestAnswer> find_guest_answer(std::string_view said, std::string_view token);

/// Waits until a guest has booted, and has it run a script.
/// @param control the socket that is its control port. @param most that the script may take.
/// @return ErrorKind::hypervisor with the last words of its console if the guest ends; ErrorKind::retry if it does not
/// answer, or was stopped.
Result<GuestAnswer> ask_guest(BackgroundProcess& guest, const std::string& control, std::string_view script,
                              std::chrono::seconds most, const Stop& stop);

}  // namespace aiolos::measure
