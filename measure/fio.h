// SPDX-License-Identifier: Apache-2.0
// fio: on this host what the same files give without QEMU, which is the limit; in a guest what loads its disks.
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

/// The longest that such a command takes on storage that answers.
std::chrono::seconds fio_deadline(const RunOptions& options);

/// The figures of all jobs together in the JSON of such a command. Pure. ErrorKind::storage if there are none.
Result<RunFigures> fio_figures(std::string_view json, Operation operation);

/// Runs fio on this host.
Result<RunFigures> run_fio(const std::vector<std::string>& files, const LoadCase& load, const RunOptions& options,
                           const std::string& engine, const TemporaryFolder& folder, const Stop& stop);

}  // namespace aiolos::measure
