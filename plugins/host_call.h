// SPDX-License-Identifier: Apache-2.0
// One call of a plugin's slot, seen from the host: what the slot may read, and what it hands back.
#pragma once

#include <array>
#include <forward_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "aiolos/core/json_document.h"
#include "aiolos/core/result.h"
#include "aiolos/plugins/registry.h"
#include "result_draft.h"

/// The ABI's opaque call. Lives on the stack of the thread that calls the slot; used by that thread alone.
struct aiolos_call {
  const aiolos::PluginServices* services;
  /// The plugin's name, or its file's while it has none yet; for the log.
  std::string_view plugin;
  /// The driver's section of the configuration and its key; nullptr if it has none.
  const aiolos::JsonNode* configuration = nullptr;
  std::string_view configuration_key = {};
  /// What the slot was given, for value_pointer to search.
  std::array<const aiolos::JsonNode*, 2> documents = {nullptr, nullptr};

  /// What put_* and publish built.
  aiolos::ResultDraft result = aiolos::ResultDraft();
  std::optional<aiolos::Error> error = std::nullopt;

  // What services handed out, alive until the slot has returned. Addresses are stable, and empty lists allocate
  // nothing.
  std::forward_list<std::string> texts = {};
  std::forward_list<aiolos::JsonDocument> values = {};
  std::forward_list<aiolos::CommandResult> commands = {};
  std::forward_list<aiolos::Error> errors = {};

  /// Of the volume, in the verbs that change this host; nullptr elsewhere.
  aiolos::VolumeJournal* journal = nullptr;
  struct NamedLock {
    std::string name;
    std::unique_ptr<aiolos::HostLocks::Held> held;
  };
  std::forward_list<NamedLock> locks = {};
};

namespace aiolos {

/// The table of services that every plugin gets: constant, the same for all.
const aiolos_host& host_table();

/// What plugins read: nodes of documents, whoever made them.
inline const aiolos_value* to_abi(const JsonNode* value) { return reinterpret_cast<const aiolos_value*>(value); }
inline const JsonNode* from_abi(const aiolos_value* value) { return reinterpret_cast<const JsonNode*>(value); }

/// Whether `text` is UTF-8; everything that leaves as JSON must be.
bool is_utf8(std::string_view text);

/// `text` with what is not UTF-8 replaced, for people to read.
std::string readable(std::string_view text);

}  // namespace aiolos
