// SPDX-License-Identifier: Apache-2.0
// The lock that every iscsiadm and iscsid takes for the moment of one record: a hard link, which outlives a process
// that is killed with it. The next iscsiadm waits 30 s for it, longer than anybody waits for an iscsiadm here. Source:
// open-iscsi, usr/idbm.c, idbm_lock().
#pragma once

#include <chrono>
#include <string>

namespace aiolos::iscsi {

/// Waits until nobody has the lock, and takes it away from one that has had it, the same all the time, for `patience`:
/// it is held for less than a millisecond, so that one was killed. Where others take it in turn all the time, it waits
/// for five times that at most: iscsiadm queues behind them by itself.
/// @param folder open-iscsi's LOCK_DIR, or what a test puts in its place.
void wait_for_database(const std::string& folder = "/run/lock/iscsi",
                       std::chrono::milliseconds patience = std::chrono::seconds(2));

}  // namespace aiolos::iscsi
