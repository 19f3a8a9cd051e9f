// SPDX-License-Identifier: Apache-2.0
// The C API over the C++ one: strings across, no exception out.
#include "aiolos/aiolos.h"

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>

#include "aiolos/agent/agent.h"
#include "requests.h"

struct aiolos_agent {
  std::unique_ptr<aiolos::Agent> agent;
};

namespace {

using aiolos::Error;
using aiolos::ErrorKind;
using aiolos::Json;

// What is left to say when there is no memory to say it in. Not the caller's to free, which aiolos_free knows.
char out_of_memory[] =
    R"({"error": {"kind": "retry", "message": "out of memory", "next": "try again when this process has some"}})";

char* copy(const std::string& text) {
  auto* const memory = static_cast<char*>(std::malloc(text.size() + 1));
  if (!memory) return out_of_memory;
  std::memcpy(memory, text.c_str(), text.size() + 1);
  return memory;
}

/// Text from outside (libvirt, commands) that is no UTF-8 must not cost the answer.
std::string text_of(const Json& answer) { return answer.dump(-1, ' ', false, Json::error_handler_t::replace); }

/// An exception as an answer: nothing here throws but what has a bug.
char* bug(const char* what) noexcept try {
  return copy(
      text_of(aiolos::to_json(Error{ErrorKind::bug, std::string("unexpected exception: ") + what, "report this", {}})));
} catch (...) {
  return out_of_memory;
}

/// The text of what `answer` gives, and of whatever it throws: no exception may leave a function that C calls.
template <typename Answer>
char* reply(Answer&& answer) noexcept {
  try {
    return copy(text_of(answer()));
  } catch (const std::bad_alloc&) {
    return out_of_memory;
  } catch (const std::exception& failure) {
    return bug(failure.what());
  } catch (...) {
    return bug("of no known type");
  }
}

aiolos::Result<std::unique_ptr<aiolos_agent>> open(const char* config_path) {
  auto config = aiolos::find_config(config_path ? config_path : "");
  if (!config) return tl::unexpected(config.error());
  aiolos::Agent::Options options;
  options.config = std::move(*config);
  auto agent = aiolos::Agent::open(std::move(options));
  if (!agent) return tl::unexpected(agent.error());
  return std::make_unique<aiolos_agent>(aiolos_agent{std::move(*agent)});
}

}  // namespace

const char* aiolos_version(void) { return aiolos::library_version().data(); }

aiolos_agent* aiolos_open(const char* config_path, char** error) {
  aiolos_agent* agent = nullptr;
  char* const answer = reply([&]() -> Json {
    auto opened = open(config_path);
    if (!opened) return aiolos::to_json(opened.error());
    agent = opened->release();
    return {};
  });
  if (error) *error = agent ? nullptr : answer;
  if (agent || !error) aiolos_free(answer);
  return agent;
}

char* aiolos_request(aiolos_agent* agent, const char* request) {
  return reply([&]() -> Json {
    if (!agent || !request)
      return aiolos::to_json(Error{ErrorKind::bad_input,
                                   "aiolos_request was given a NULL pointer",
                                   "pass the agent that aiolos_open returned, and a request",
                                   {}});
    const auto parsed = aiolos::parse_json(request, "request");
    return parsed ? aiolos::run_request(*agent->agent, *parsed) : aiolos::to_json(parsed.error());
  });
}

void aiolos_free(char* text) {
  if (text != out_of_memory) std::free(text);
}

void aiolos_close(aiolos_agent* agent) { delete agent; }
