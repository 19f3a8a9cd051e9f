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

char* copy(const std::string& text) {
  auto* const memory = static_cast<char*>(std::malloc(text.size() + 1));
  if (memory) std::memcpy(memory, text.c_str(), text.size() + 1);
  return memory;
}

/// What an exception becomes: nothing here throws but what has run out of memory or has a bug.
Error unexpected(const std::exception& error) {
  return {ErrorKind::bug, std::string("unexpected exception: ") + error.what(), "report this", {}};
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

aiolos_agent* aiolos_open(const char* config_path, char** error) try {
  if (error) *error = nullptr;
  auto agent = open(config_path);
  if (agent) return agent->release();
  if (error) *error = copy(aiolos::to_json(agent.error()).dump());
  return nullptr;
} catch (const std::exception& failure) {
  if (error) *error = copy(aiolos::to_json(unexpected(failure)).dump());
  return nullptr;
}

char* aiolos_request(aiolos_agent* agent, const char* request) try {
  if (!agent || !request)
    return copy(aiolos::to_json(Error{ErrorKind::bad_input, "aiolos_request was given a NULL pointer",
                                      "pass the agent that aiolos_open returned, and a request", {}}).dump());
  const auto parsed = aiolos::parse_json(request, "request");
  const Json answer = parsed ? aiolos::run_request(*agent->agent, *parsed) : aiolos::to_json(parsed.error());
  // Text from outside (libvirt, commands) that is no UTF-8 must not cost the answer.
  return copy(answer.dump(-1, ' ', false, Json::error_handler_t::replace));
} catch (const std::exception& failure) {
  return copy(aiolos::to_json(unexpected(failure)).dump());
}

void aiolos_free(char* text) { std::free(text); }

void aiolos_close(aiolos_agent* agent) { delete agent; }
