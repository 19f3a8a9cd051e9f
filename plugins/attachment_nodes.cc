// SPDX-License-Identifier: Apache-2.0
#include "attachment_nodes.h"

namespace aiolos {

AttachmentNodes::AttachmentNodes(const Attachment& attachment) : state_(attachment.state) {
  const DiskSource& source = attachment.source;
  source_.add("type", JsonNode::of(to_string(source.kind)));
  source_.add_if_any("path", source.path);
  source_.add_if_any("protocol", source.protocol);
  source_.add_if_any("config_file", source.config_file);
  if (source.name) source_.add("name", JsonNode::of(std::string_view(*source.name)));
  if (!source.hosts.empty()) add_hosts(source.hosts);
  if (source.auth) add_auth(*source.auth);
  attachment_.add("source", source_.node());
  attachment_.add("format", JsonNode::of(std::string_view(attachment.format)));
  if (!attachment.state.is_null()) attachment_.add("state", state_.root());
  root_ = attachment_.node();
}

void AttachmentNodes::add_hosts(const std::vector<SourceHost>& hosts) {
  hosts_.resize(hosts.size());
  for (std::size_t i = 0; i < hosts.size(); ++i) {
    hosts_[i].add_if_any("name", hosts[i].name);
    hosts_[i].add_if_any("port", hosts[i].port);
    hosts_[i].add_if_any("transport", hosts[i].transport);
    hosts_[i].add_if_any("socket", hosts[i].socket);
    host_nodes_.push_back(hosts_[i].node());
  }
  source_.add("hosts", JsonNode::array(host_nodes_.data(), host_nodes_.size()));
}

void AttachmentNodes::add_auth(const SourceAuth& auth) {
  auth_.add_if_any("username", auth.username);
  auth_.add_if_any("secret_type", auth.secret_type);
  auth_.add_if_any("secret_uuid", auth.secret_uuid);
  source_.add("auth", auth_.node());
}

}  // namespace aiolos
