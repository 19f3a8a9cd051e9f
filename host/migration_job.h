// SPDX-License-Identifier: Apache-2.0
// What goes into libvirt for a migration and what comes out of it: flags, parameters, job statistics. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "aiolos/core/facts.h"
#include "aiolos/core/migration.h"
#include "libvirt_api.h"
#include "typed_parameters.h"

namespace aiolos {

/// The flags of virDomainMigrateToURI3. @param persistent the source has the guest defined. @param libvirt the
/// source's version. @return ErrorKind::refused for a setting that this libvirt does not know.
Result<unsigned> migration_flags(const MigrationSettings& settings, bool persistent, Version libvirt);

/// The parameters of virDomainMigrateToURI3. False with libvirt's last error set. @param flags as migration_flags gave.
bool add_migration_parameters(const MigrationOrder& order, unsigned flags, TypedParameters& parameters);

/// A job's statistics: the numbers by VIR_DOMAIN_JOB_*.
using JobFields = std::map<std::string, std::uint64_t, std::less<>>;
JobFields job_fields(const virTypedParameter* parameters, int count);

MigrationProgress progress_of(const JobFields& fields);
MigrationResult result_of(const JobFields& fields);

/// A failed migration's error, its kind as migrations.h has it while the guest is known to run here.
Error migration_error(int code, int domain, const std::string& text, const std::string& what);

}  // namespace aiolos
