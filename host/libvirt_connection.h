// SPDX-License-Identifier: Apache-2.0
// One libvirt connection that opens when it is needed, with owners for what libvirt hands out.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "aiolos/host/hypervisor.h"
#include "libvirt_api.h"

namespace aiolos {

/// Frees a libvirt domain object.
struct DomainRelease {
  const LibvirtApi* api = nullptr;
  void operator()(virDomainPtr domain) const { api->virDomainFree(domain); }
};
using DomainHandle = std::unique_ptr<virDomain, DomainRelease>;

class LibvirtConnection {
 public:
  explicit LibvirtConnection(LibvirtOptions options);
  LibvirtConnection(const LibvirtConnection&) = delete;
  LibvirtConnection& operator=(const LibvirtConnection&) = delete;
  ~LibvirtConnection();

  struct Open {
    const LibvirtApi* api;
    virConnectPtr connection;  ///< Owned by the LibvirtConnection; libvirt's calls on it are thread-safe.
    virConnectPtr secrets;     ///< Where secrets are asked for: the same, or the embedded secret driver's.
  };
  /// Opens if needed. A connection that broke is left to those who still use it and another one is opened.
  Result<Open> open();

  const LibvirtOptions& options() const { return options_; }
  /// The folder of the embedded driver, if the URI names it.
  const std::optional<std::string>& root() const { return root_; }

 private:
  Result<void> connect(const LibvirtApi& api);

  LibvirtOptions options_;
  std::optional<std::string> root_;
  std::mutex mutex_;
  const LibvirtApi* api_ = nullptr;
  virConnectPtr connection_ = nullptr;
  virConnectPtr embedded_secrets_ = nullptr;
  std::vector<virConnectPtr> broken_;  ///< Closed with this object: another thread may be inside a call on them.
};

}  // namespace aiolos
