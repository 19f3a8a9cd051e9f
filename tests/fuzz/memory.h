// SPDX-License-Identifier: Apache-2.0
// A guest's memory for the fuzz targets.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "guest_memory.h"

namespace aiolos::engine {

/// What a fuzz target must never see; ends the process, which libFuzzer reports with the input.
inline void require(bool condition) {
  if (!condition) std::abort();
}

inline UniqueFd make_memory(std::size_t size) {
  UniqueFd fd(::memfd_create("fuzz", MFD_CLOEXEC));
  require(fd && ::ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
  return fd;
}

}  // namespace aiolos::engine
