// SPDX-License-Identifier: Apache-2.0
#include "migration_job.h"

#include <fmt/format.h>

#include <array>
#include <string_view>

#include "libvirt_error.h"

namespace aiolos {
namespace {

// VIR_MIGRATE_ZEROCOPY, which headers before libvirt 8.5 do not have. Source: libvirt/libvirt-domain.h.
constexpr unsigned kZeroCopy = 1u << 20;
constexpr Version kZeroCopySince = version(8, 5);

struct CodeRow {
  int code;
  ErrorKind kind;
  std::string_view next;
};

// What migrations say in words of their own; the other codes are libvirt_error's.
constexpr std::array kCodes{
    CodeRow{VIR_ERR_MIGRATE_UNSAFE, ErrorKind::refused,
            "have its disks on storage that both hosts share, with cache 'none' or 'directsync'; or, if they are and "
            "libvirt does not know it, allow it: migration.unsafe"},
    CodeRow{VIR_ERR_OPERATION_ABORTED, ErrorKind::hypervisor, "it was ended on request: migrate again when you like"},
    CodeRow{VIR_ERR_ARGUMENT_UNSUPPORTED, ErrorKind::refused, "take the setting that libvirt names out of 'migration'"},
    CodeRow{VIR_ERR_INVALID_ARG, ErrorKind::refused, "correct the setting of 'migration' that libvirt names"},
    CodeRow{VIR_ERR_CONFIG_UNSUPPORTED, ErrorKind::hypervisor,
            "the destination's libvirt or QEMU can't have this guest as it is: mend what libvirt names"},
    CodeRow{VIR_ERR_OPERATION_TIMEOUT, ErrorKind::hypervisor,
            "libvirt is busy with this guest: migrate when its other job has ended (virsh domjobinfo)"},
    CodeRow{VIR_ERR_OPERATION_FAILED, ErrorKind::hypervisor,
            "see the guest's own log (qemu/NAME.log in libvirt's log folder) on both hosts for QEMU's words"},
    CodeRow{VIR_ERR_INTERNAL_ERROR, ErrorKind::hypervisor,
            "see the guest's own log (qemu/NAME.log in libvirt's log folder) on both hosts for QEMU's words"},
};

std::uint64_t field(const JobFields& fields, std::string_view name) {
  const auto found = fields.find(name);
  return found == fields.end() ? 0 : found->second;
}

std::optional<std::uint64_t> field_if_any(const JobFields& fields, std::string_view name) {
  const auto found = fields.find(name);
  return found == fields.end() ? std::nullopt : std::optional(found->second);
}

/// What a typed parameter says, if it is a number.
std::optional<std::uint64_t> number(const virTypedParameter& parameter) {
  switch (parameter.type) {
    case VIR_TYPED_PARAM_INT:
      return static_cast<std::uint64_t>(std::max(parameter.value.i, 0));
    case VIR_TYPED_PARAM_UINT:
      return parameter.value.ui;
    case VIR_TYPED_PARAM_LLONG:
      return static_cast<std::uint64_t>(std::max(parameter.value.l, 0LL));
    case VIR_TYPED_PARAM_ULLONG:
      return parameter.value.ul;
    default:
      return std::nullopt;
  }
}

}  // namespace

Result<unsigned> migration_flags(const MigrationSettings& settings, bool persistent, Version libvirt) {
  if (settings.zero_copy && libvirt < kZeroCopySince)
    return fail(ErrorKind::refused,
                fmt::format("migration.zero_copy needs libvirt {}, and this is {}", version_string(kZeroCopySince),
                            version_string(libvirt)),
                "take migration.zero_copy out of the configuration, or use a newer libvirt");
  const struct {
    bool wanted;
    unsigned flag;
  } rows[] = {
      {persistent && settings.persistent, VIR_MIGRATE_PERSIST_DEST | VIR_MIGRATE_UNDEFINE_SOURCE},
      {settings.connections > 1, VIR_MIGRATE_PARALLEL},
      {!settings.compression.empty(), VIR_MIGRATE_COMPRESSED},
      {settings.auto_converge, VIR_MIGRATE_AUTO_CONVERGE},
      {settings.post_copy, VIR_MIGRATE_POSTCOPY},
      {settings.tls, VIR_MIGRATE_TLS},
      {settings.zero_copy, kZeroCopy},
      {settings.unsafe, VIR_MIGRATE_UNSAFE},
  };
  unsigned flags = VIR_MIGRATE_LIVE | VIR_MIGRATE_PEER2PEER | VIR_MIGRATE_ABORT_ON_ERROR;
  for (const auto& row : rows)
    if (row.wanted) flags |= row.flag;
  return flags;
}

bool add_migration_parameters(const MigrationOrder& order, unsigned flags, TypedParameters& parameters) {
  const MigrationSettings& settings = order.settings;
  const auto has = [&](unsigned flag) { return (flags & flag) != 0; };
  // Absent is the default of libvirt or QEMU, and libvirt refuses a parameter without its flag.
  const auto text = [&](bool wanted, const char* name, const std::string& value) {
    return !wanted || value.empty() || parameters.add(name, value);
  };
  const auto count = [&](bool wanted, const char* name, std::optional<unsigned> value) {
    return !wanted || !value || parameters.add(name, static_cast<int>(*value));
  };
  bool complete =
      text(true, VIR_MIGRATE_PARAM_DEST_XML, order.xml) && text(true, VIR_MIGRATE_PARAM_URI, settings.uri) &&
      text(has(VIR_MIGRATE_PERSIST_DEST), VIR_MIGRATE_PARAM_PERSIST_XML, order.persistent_xml) &&
      text(settings.tls, VIR_MIGRATE_PARAM_TLS_DESTINATION, settings.tls_destination) &&
      (!settings.bandwidth_mib_s || parameters.add(VIR_MIGRATE_PARAM_BANDWIDTH, *settings.bandwidth_mib_s)) &&
      count(has(VIR_MIGRATE_PARALLEL), VIR_MIGRATE_PARAM_PARALLEL_CONNECTIONS, settings.connections) &&
      count(settings.auto_converge, VIR_MIGRATE_PARAM_AUTO_CONVERGE_INITIAL, settings.auto_converge_initial) &&
      count(settings.auto_converge, VIR_MIGRATE_PARAM_AUTO_CONVERGE_INCREMENT, settings.auto_converge_increment);
  for (const std::string& method : settings.compression)
    complete = complete && parameters.add(VIR_MIGRATE_PARAM_COMPRESSION, method);
  return complete;
}

JobFields job_fields(const virTypedParameter* parameters, int count) {
  JobFields fields;
  for (int i = 0; i < count; ++i)
    if (const auto value = number(parameters[i])) fields.emplace(parameters[i].field, *value);
  return fields;
}

MigrationProgress progress_of(const JobFields& fields) {
  MigrationProgress progress;
  progress.elapsed = std::chrono::milliseconds(field(fields, VIR_DOMAIN_JOB_TIME_ELAPSED));
  progress.remaining_bytes = field(fields, VIR_DOMAIN_JOB_MEMORY_REMAINING);
  progress.total_bytes = field(fields, VIR_DOMAIN_JOB_MEMORY_TOTAL);
  progress.bandwidth = field(fields, VIR_DOMAIN_JOB_MEMORY_BPS);
  // libvirt counts pages.
  progress.dirty_rate =
      field(fields, VIR_DOMAIN_JOB_MEMORY_DIRTY_RATE) * field(fields, VIR_DOMAIN_JOB_MEMORY_PAGE_SIZE);
  progress.iterations = field(fields, VIR_DOMAIN_JOB_MEMORY_ITERATION);
  progress.downtime_ms = field_if_any(fields, VIR_DOMAIN_JOB_DOWNTIME);
  return progress;
}

MigrationResult result_of(const JobFields& fields) {
  MigrationResult result;
  result.total = std::chrono::milliseconds(field(fields, VIR_DOMAIN_JOB_TIME_ELAPSED));
  result.downtime_ms = field_if_any(fields, VIR_DOMAIN_JOB_DOWNTIME);
  result.iterations = field(fields, VIR_DOMAIN_JOB_MEMORY_ITERATION);
  return result;
}

Error migration_error(int code, int domain, const std::string& text, const std::string& what) {
  Error error = libvirt_error(code, domain, text, what);
  for (const CodeRow& row : kCodes)
    if (row.code == code) {
      error.kind = row.kind;
      error.next = row.next;
    }
  // The daemon is a client of the destination's, and says so as ours does of the daemon.
  if (code == VIR_ERR_NO_CONNECT || domain == VIR_FROM_RPC || domain == VIR_FROM_REMOTE) {
    error.kind = ErrorKind::configuration;
    error.next =
        "see that the destination's libvirt runs and that this host's daemon reaches it by this URI: as its user, "
        "virsh "
        "-c URI list";
  }
  // Anything that is not here has to wait for more than time: ErrorKind::retry says that the guest's place is not
  // known.
  if (error.kind == ErrorKind::retry) error.kind = ErrorKind::hypervisor;
  return error;
}

}  // namespace aiolos
