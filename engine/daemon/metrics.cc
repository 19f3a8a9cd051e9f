// SPDX-License-Identifier: Apache-2.0
#include "metrics.h"

#include <fmt/format.h>
#include <prometheus/metric_family.h>

#include <functional>
#include <limits>

namespace aiolos::engine {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

ClientMetric metric_of(const DiskReport& disk, const char* operation = nullptr) {
  ClientMetric metric;
  metric.label = {{"disk", disk.settings.name}, {"group", disk.settings.group}};
  if (operation) metric.label.push_back({"operation", operation});
  return metric;
}

/// A number of each disk.
struct DiskFigure {
  const char* name;
  const char* help;
  MetricType type;
  double scale;
  const Figure DiskStatistics::*figure;
};

constexpr double kNanosecond = 1e-9;

const DiskFigure kDiskFigures[] = {
    {"aiolos_engine_connected", "1 while a front end is connected", MetricType::Gauge, 1, &DiskStatistics::connected},
    {"aiolos_engine_connections_total", "Front ends that have connected", MetricType::Counter, 1,
     &DiskStatistics::connections},
    {"aiolos_engine_pops_total", "Requests taken from the guest's rings", MetricType::Counter, 1,
     &DiskStatistics::pops},
    {"aiolos_engine_in_flight", "Requests in flight", MetricType::Gauge, 1, &DiskStatistics::in_flight},
    {"aiolos_engine_in_flight_max", "Most requests that were in flight", MetricType::Gauge, 1,
     &DiskStatistics::most_in_flight},
    {"aiolos_engine_share", "Share of the engine's queue", MetricType::Gauge, 1, &DiskStatistics::share},
    {"aiolos_engine_window", "Requests that may be in flight without borrowing", MetricType::Gauge, 1,
     &DiskStatistics::window},
    {"aiolos_engine_broken_rings_total", "Rings that made no sense", MetricType::Counter, 1,
     &DiskStatistics::broken_rings},
    {"aiolos_engine_drains_total", "Rings that a front end took away", MetricType::Counter, 1, &DiskStatistics::drains},
    {"aiolos_engine_drains_over_target_total", "Drains that took longer than their group's target", MetricType::Counter,
     1, &DiskStatistics::drains_over_target},
    {"aiolos_engine_drain_target_seconds", "How long a drain may take; 0 for no target", MetricType::Gauge, kNanosecond,
     &DiskStatistics::drain_target_ns},
    {"aiolos_engine_drain_forecast_seconds", "What a drain would take now", MetricType::Gauge, kNanosecond,
     &DiskStatistics::drain_forecast_ns},
    {"aiolos_engine_drain_bound_seconds", "What a drain takes at most while the guest migrates", MetricType::Gauge,
     kNanosecond, &DiskStatistics::drain_bound_ns},
    {"aiolos_engine_drain_last_seconds", "How long the last drain took", MetricType::Gauge, kNanosecond,
     &DiskStatistics::drain_last_ns},
    {"aiolos_engine_drain_max_seconds", "How long the longest drain took", MetricType::Gauge, kNanosecond,
     &DiskStatistics::drain_most_ns},
};

MetricFamily family(const DiskFigure& what, const std::vector<DiskReport>& disks) {
  MetricFamily family{what.name, what.help, what.type, {}};
  for (const DiskReport& disk : disks) {
    ClientMetric metric = metric_of(disk);
    const double value = static_cast<double>(((*disk.statistics).*what.figure).get()) * what.scale;
    if (what.type == MetricType::Counter)
      metric.counter.value = value;
    else
      metric.gauge.value = value;
    family.metric.push_back(std::move(metric));
  }
  return family;
}

MetricFamily operations(const char* name, const char* help, const Figure OperationStatistics::*figure,
                        const std::vector<DiskReport>& disks) {
  MetricFamily family{name, help, MetricType::Counter, {}};
  for (const DiskReport& disk : disks)
    for (const auto& [operation, label] : kOperationNames) {
      ClientMetric metric = metric_of(disk, label);
      metric.counter.value = static_cast<double>((disk.statistics->of(operation).*figure).get());
      family.metric.push_back(std::move(metric));
    }
  return family;
}

MetricFamily latencies(const std::vector<DiskReport>& disks) {
  MetricFamily family{
      "aiolos_engine_latency_seconds", "From taking a request to its completion", MetricType::Histogram, {}};
  for (const DiskReport& disk : disks)
    for (const auto& [operation, label] : kOperationNames) {
      const LatencyHistogram& histogram = disk.statistics->of(operation).latency;
      ClientMetric metric = metric_of(disk, label);
      std::uint64_t count = 0;
      for (std::size_t i = 0; i < LatencyHistogram::kBuckets; ++i) {
        count += histogram.buckets[i].get();
        const bool last = i + 1 == LatencyHistogram::kBuckets;
        const double bound =
            last ? std::numeric_limits<double>::infinity() : static_cast<double>(LatencyHistogram::upper_us(i)) * 1e-6;
        metric.histogram.bucket.push_back({count, bound});
      }
      metric.histogram.sample_count = count;
      metric.histogram.sample_sum = static_cast<double>(histogram.sum_ns.get()) * kNanosecond;
      family.metric.push_back(std::move(metric));
    }
  return family;
}

bool is_loopback(const std::string& address) {
  return address.rfind("127.", 0) == 0 || address.rfind("[::1]:", 0) == 0 || address.rfind("localhost:", 0) == 0;
}

}  // namespace

std::vector<MetricFamily> DiskMetrics::Collect() const {
  const std::vector<DiskReport> disks = service_.reports();
  std::vector<MetricFamily> families;
  for (const DiskFigure& figure : kDiskFigures) families.push_back(family(figure, disks));
  families.push_back(
      operations("aiolos_engine_requests_total", "Requests completed", &OperationStatistics::requests, disks));
  families.push_back(
      operations("aiolos_engine_bytes_total", "Bytes of completed requests", &OperationStatistics::bytes, disks));
  families.push_back(
      operations("aiolos_engine_errors_total", "Requests that failed", &OperationStatistics::errors, disks));
  families.push_back(latencies(disks));
  return families;
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const std::string& address, const Service& service) {
  if (!is_loopback(address))
    return fail(ErrorKind::refused, fmt::format("metrics at '{}' could be read from other machines", address),
                "use 127.0.0.1:PORT, and a proxy where more is wanted");
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  server->metrics_ = std::make_shared<DiskMetrics>(service);
  try {
    server->exposer_ = std::make_unique<prometheus::Exposer>(address, 1);
  } catch (const std::exception& error) {
    return fail(ErrorKind::configuration, fmt::format("cannot serve metrics at '{}': {}", address, error.what()),
                "use a port that is free");
  }
  server->exposer_->RegisterCollectable(server->metrics_);
  return server;
}

}  // namespace aiolos::engine
