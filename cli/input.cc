// SPDX-License-Identifier: Apache-2.0
#include "input.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

#include <fmt/format.h>

namespace aiolos::cli {

Result<std::string> read_text(const std::string& path) {
  if (path == "-") {
    static bool read_before = false;
    if (read_before)
      return fail(ErrorKind::bad_input, "standard input is named twice", "give one of the documents as a file");
    read_before = true;
    return std::string(std::istreambuf_iterator<char>(std::cin), {});
  }
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return fail(ErrorKind::bad_input, fmt::format("cannot open {}: {}", path, std::strerror(errno)),
                "check the path; '-' is standard input");
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (file.bad())
    return fail(ErrorKind::bad_input, fmt::format("cannot read {}: {}", path, std::strerror(errno)),
                "name a readable file; '-' is standard input");
  return text;
}

Result<Json> read_json(const std::string& path) {
  return read_text(path).and_then(
      [&](const std::string& text) { return parse_json(text, path == "-" ? "standard input" : path); });
}

}  // namespace aiolos::cli
