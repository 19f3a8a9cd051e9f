// SPDX-License-Identifier: Apache-2.0
// An Attachment as plugins read it.
#pragma once

#include <array>
#include <vector>

#include "aiolos/core/attachment.h"
#include "aiolos/core/json_document.h"

namespace aiolos {

/// The nodes that `to_json(attachment)` would have. They view the attachment, which must live on, unchanged: a disk's
/// XML shows every attachment to its driver's `aio_mode`.
class AttachmentNodes {
 public:
  explicit AttachmentNodes(const Attachment& attachment);
  AttachmentNodes(const AttachmentNodes&) = delete;
  AttachmentNodes& operator=(const AttachmentNodes&) = delete;

  const JsonNode& root() const { return root_; }

 private:
  /// Members of one object, as many as it has at most.
  template <std::size_t N>
  class Object {
   public:
    void add(std::string_view key, JsonNode value) { members_[count_++] = {key, value}; }
    void add_if_any(std::string_view key, const std::string& text) {
      if (!text.empty()) add(key, JsonNode::of(std::string_view(text)));
    }
    JsonNode node() const { return JsonNode::object(members_.data(), count_); }

   private:
    std::array<JsonMember, N> members_;
    std::size_t count_ = 0;
  };

  void add_hosts(const std::vector<SourceHost>& hosts);
  void add_auth(const SourceAuth& auth);

  JsonDocument state_;
  std::vector<Object<4>> hosts_;
  std::vector<JsonNode> host_nodes_;
  Object<3> auth_;
  Object<7> source_;
  Object<3> attachment_;
  JsonNode root_;
};

}  // namespace aiolos
