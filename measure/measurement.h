// SPDX-License-Identifier: Apache-2.0
// A measurement on this host, from what is asked to what is kept of it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "report.h"
#include "runner.h"

namespace aiolos::measure {

/// Measures what is at a path, with what this host's kernel and QEMU say of themselves: in a folder images that are
/// made there, else the image or block device as it is.
/// @param plan its path and volume_type are set from `storage`.
/// @param storage may name its path in any way; an empty volume_type is what is usual for such a path.
/// @return ErrorKind::bad_input if there is nothing at the path; ErrorKind::refused if the guest is emulated and the
/// plan decides; errors as find_guest_machine(), measure_volume() and measure_folder(). Everything that was started and
/// made is gone by then.
Result<Report> measure_storage(Plan plan, Volume storage, const Stop& stop,
                               const std::function<void(const Progress&)>& progress);

/// Whether a page can be written there, which is better asked before the measurement. ErrorKind::bad_input.
Result<void> check_page(const std::string& file);

/// Writes the report as a page. ErrorKind::storage.
Result<void> write_page(const std::string& file, const Report& report);

/// Keeps for the AIO policy what follows from the report for each class of storage.
/// @param state the state folder. @return the files; none where less than two modes could be measured.
Result<std::vector<std::string>> save_profiles(const std::string& state, const Report& report);

}  // namespace aiolos::measure
