// SPDX-License-Identifier: Apache-2.0
// The limit: what fio gets from the same files without QEMU.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "load_case.h"
#include "load_run.h"
#include "outside.h"

namespace aiolos::measure {

/// Pure. @param engine fio's ioengine. @param files as many as the load has disks. @param output where fio writes.
std::vector<std::string> fio_command(const std::vector<std::string>& files, const LoadCase& load,
                                     const RunOptions& options, const std::string& engine, const std::string& output);

/// The sum of all jobs' IOPS in fio's JSON. Pure. ErrorKind::storage if there is none.
Result<double> fio_iops(std::string_view json, Operation operation);

/// Runs fio and takes its IOPS.
Result<double> run_limit(const std::vector<std::string>& files, const LoadCase& load, const RunOptions& options,
                         const std::string& engine, const TemporaryFolder& folder, const Stop& stop);

}  // namespace aiolos::measure
