// SPDX-License-Identifier: Apache-2.0
#include "input.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>

#include <fmt/format.h>

#include "aiolos/core/posix.h"

namespace aiolos::cli {
namespace {

/// The rest of `file`. @param name what to call it. A directory opens well, and fails here.
Result<std::string> read_rest(std::FILE* file, const std::string& name) {
  std::string text;
  std::array<char, 1 << 16> part;
  while (const std::size_t got = std::fread(part.data(), 1, part.size(), file)) text.append(part.data(), got);
  if (std::ferror(file))
    return fail(ErrorKind::bad_input, fmt::format("cannot read {}: {}", name, errno_text(errno)),
                "name a readable file; '-' is standard input");
  return text;
}

}  // namespace

Result<std::string> read_text(const std::string& path) {
  if (path == "-") {
    static bool read_before = false;
    if (read_before)
      return fail(ErrorKind::bad_input, "standard input is named twice", "give one of the documents as a file");
    read_before = true;
    return read_rest(stdin, "standard input");
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (!file)
    return fail(ErrorKind::bad_input, fmt::format("cannot open {}: {}", path, errno_text(errno)),
                "check the path; '-' is standard input");
  return read_rest(file.get(), path);
}

Result<Json> read_json(const std::string& path) {
  return read_text(path).and_then(
      [&](const std::string& text) { return parse_json(text, path == "-" ? "standard input" : path); });
}

}  // namespace aiolos::cli
