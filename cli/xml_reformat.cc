// SPDX-License-Identifier: Apache-2.0
#include "xml_reformat.h"

#include <fmt/format.h>

#include "aiolos/disk/disk_xml.h"
#include "input.h"

namespace aiolos::cli {

Result<Reformatted> reformat(const std::string& path) {
  const auto text = read_text(path);
  if (!text) return tl::unexpected(text.error());
  const auto found = disk::parse_document(*text);
  if (!found) {
    Error error = found.error();
    error.where = error.where.empty() ? path : path + ":" + error.where;
    return tl::unexpected(std::move(error));
  }
  Reformatted result;
  for (const disk::FoundDisk& entry : *found) {
    disk::emit_to(result.xml, entry.parsed.disk);
    for (const disk::Unknown& unknown : entry.parsed.unknown)
      result.unknown.push_back(fmt::format("{}:{}", path, disk::describe(unknown)));
  }
  return result;
}

}  // namespace aiolos::cli
