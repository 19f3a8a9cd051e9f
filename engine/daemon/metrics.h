// SPDX-License-Identifier: Apache-2.0
// The engine's figures for Prometheus.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <memory>
#include <string>

#include "service.h"

namespace aiolos::engine {

/// Makes metric families of the disks' statistics whenever they are asked for.
class DiskMetrics : public prometheus::Collectable {
 public:
  explicit DiskMetrics(const Service& service) : service_(service) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const Service& service_;
};

/// Serves the metrics over HTTP, in a thread of its own, while it lives.
class MetricsServer {
 public:
  /// @param address "127.0.0.1:PORT" or "[::1]:PORT": nobody is asked who they are.
  static Result<std::unique_ptr<MetricsServer>> start(const std::string& address, const Service& service);

 private:
  MetricsServer() = default;
  std::shared_ptr<DiskMetrics> metrics_;
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace aiolos::engine
