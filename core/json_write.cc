// SPDX-License-Identifier: Apache-2.0
// Text to JSON strings.
#include <algorithm>
#include <bit>
#include <cstring>

#include <simdjson.h>

#include "aiolos/core/json_document.h"

namespace aiolos {
namespace {

constexpr std::uint64_t kOnes = 0x0101010101010101U;
constexpr std::uint64_t kHighBits = 0x8080808080808080U;

/// The high bit of each byte of `word` that is zero; of higher bytes than the first also by mistake.
constexpr std::uint64_t zero_bytes(std::uint64_t word) { return (word - kOnes) & ~word & kHighBits; }

/// Copies what a JSON string may hold as it is, up to the first byte that it may not. @return how many bytes.
std::size_t copy_plain(char* out, const char* text, std::size_t size, bool& ascii) {
  std::size_t i = 0;
  for (; size - i >= sizeof(std::uint64_t); i += sizeof(std::uint64_t)) {
    std::uint64_t word;
    std::memcpy(&word, text + i, sizeof word);
    std::memcpy(out + i, &word, sizeof word);
    const std::uint64_t control = (word - 0x20 * kOnes) & ~word & kHighBits;
    const std::uint64_t special =
        control | zero_bytes(word ^ (std::uint64_t{'"'} * kOnes)) | zero_bytes(word ^ (std::uint64_t{'\\'} * kOnes));
    if ((word & kHighBits) != 0) ascii = false;
    if (special == 0) continue;
    if constexpr (std::endian::native == std::endian::little)
      return i + static_cast<std::size_t>(std::countr_zero(special)) / 8;
    break;
  }
  for (; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte < 0x20 || byte == '"' || byte == '\\') break;
    if (byte >= 0x80) ascii = false;
    out[i] = text[i];
  }
  return i;
}

/// Writes the escape of a byte. @return the place behind it.
char* escape(char* out, char c) {
  static constexpr char kHex[] = "0123456789abcdef";
  static constexpr std::string_view kShort = "\nn\tt\"\"\\\\\rr\bb\ff";
  *out++ = '\\';
  for (std::size_t i = 0; i < kShort.size(); i += 2)
    if (kShort[i] == c) {
      *out = kShort[i + 1];
      return out + 1;
    }
  out = std::copy_n("u00", 3, out);
  *out++ = kHex[static_cast<unsigned char>(c) >> 4];
  *out++ = kHex[c & 0xf];
  return out;
}

}  // namespace

void append_json_string(std::string& out, std::string_view text) {
  static constexpr std::size_t kLongestEscape = 6;
  const std::size_t before = out.size();
  bool ascii = true;
  out.resize(before + text.size() + text.size() / 8 + 2 * kLongestEscape);
  std::size_t at = before;
  out[at++] = '"';
  for (std::string_view rest = text;;) {
    const std::size_t run = copy_plain(out.data() + at, rest.data(), rest.size(), ascii);
    at += run;
    if (run == rest.size()) break;
    if (out.size() - at < rest.size() - run + 2 * kLongestEscape) out.resize(out.size() + text.size());
    at = static_cast<std::size_t>(escape(out.data() + at, rest[run]) - out.data());
    rest.remove_prefix(run + 1);
  }
  out[at++] = '"';
  out.resize(at);
  if (ascii || simdjson::validate_utf8(text.data(), text.size())) return;
  out.resize(before);
  out += Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace aiolos
