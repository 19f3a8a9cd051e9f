// SPDX-License-Identifier: Apache-2.0
#include "image.h"

namespace aiolos::rbd {

std::string Image::monitors_text() const {
  std::string text;
  for (const SourceHost& host : monitors)
    text += (text.empty() ? "" : ", ") + host.name + (host.port.empty() ? "" : ":" + host.port);
  return text.empty() ? "those that ceph.conf names" : text;
}

Result<Image> image_of(const DiskSource& source) {
  const std::string& path = source.name.value_or("");
  const std::size_t slash = path.find('/');
  if (slash == std::string::npos || slash == 0 || slash + 1 == path.size())
    return fail(ErrorKind::bad_input, "'" + path + "' does not name an RBD image", "give it as pool/image",
                "/data/name");
  return Image{path.substr(0, slash), path.substr(slash + 1), source.hosts, source.auth};
}

}  // namespace aiolos::rbd
