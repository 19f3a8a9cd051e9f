// SPDX-License-Identifier: Apache-2.0
// `<disk>` as XML: emit, parse, compare and validate. All four follow one property table (property_table.cc).
//
// Every function here is pure: it opens nothing, keeps no state, and may be called from any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "aiolos/core/result.h"
#include "aiolos/disk/disk_config.h"

namespace aiolos::disk {

/// How emitted XML is laid out.
struct Indent {
  int width = 2;              ///< Blanks a level; 0 puts everything on one line.
  int level = 0;              ///< The level that `<disk>` itself stands on.
  bool final_newline = true;  ///< Whether a newline follows `</disk>`; never with width 0.
};

/// `disk` as libvirt formats it: its order of attributes and elements, single quotes, `/>` for empty elements. What the
/// model does not know stands where it was parsed. Emitting cannot fail; `validate` says what libvirt would refuse.
std::string emit(const DiskConfig& disk, Indent indent = {});

/// Appends to `out` instead; for batches, where one buffer serves many disks.
void emit_to(std::string& out, const DiskConfig& disk, Indent indent = {});

/// Appends the same as a JSON string, quotes included; what is no UTF-8 becomes U+FFFD.
void emit_json_to(std::string& out, const DiskConfig& disk, Indent indent = {});

/// Something in a document that the model does not know and keeps as it is.
struct Unknown {
  enum class Kind { element, attribute, value, text, repeated };
  Kind kind = Kind::element;
  std::string path;        ///< Such as `disk/driver/@cache` or `disk/source/host[2]/frobnicate`.
  std::string value;       ///< The attribute's or property's value; empty for elements.
  std::size_t line = 0;    ///< From 1, in the text that was parsed.
  std::size_t column = 0;  ///< From 1, in bytes.
};

/// `3:14: unknown attribute disk/driver/@colour='red'`.
std::string describe(const Unknown& unknown);

struct Parsed {
  DiskConfig disk;
  std::vector<Unknown> unknown;  ///< In document order. Comments are kept too, but not reported.
};

/// Reads a document whose root is `<disk>`.
/// Fails with bad_input for text that is no well-formed UTF-8 XML (`where` is `line:column`), for a reference to an
/// entity that a document type defines, for another root, and for elements nested deeper than the 256 levels that
/// libvirt reads. Nothing else fails: whatever the model cannot hold is kept, emitted in place, and listed in
/// `unknown`.
Result<Parsed> parse(std::string_view xml);

struct FoundDisk {
  Parsed parsed;
  std::string path;      ///< The elements above it, such as `domain/devices/disk`.
  std::size_t line = 0;  ///< Where its `<` stands, from 1.
  bool is_domain_disk =
      false;  ///< Stands in a domain's `<devices>`, or is the root itself; else of a snapshot or backup.
};

/// Every `<disk>` of a document, in order: the root, or wherever it stands below (a domain, a snapshot, a backup).
/// Fails as `parse` does, and with bad_input if there is no disk at all.
Result<std::vector<FoundDisk>> parse_document(std::string_view xml);

/// One property in which two disks differ; an empty side is a property that is not set there.
struct Difference {
  std::string path;  ///< Such as `disk/driver/@cache`.
  std::optional<std::string> left;
  std::optional<std::string> right;
};

/// Where `left` and `right` differ in meaning. The order of attributes and elements of different names, comments, and
/// the spelling of numbers do not count; the order of repeated elements does, and so does what the model does not know.
/// Absent and default are different things here.
std::vector<Difference> compare(const DiskConfig& left, const DiskConfig& right);

/// `disk/driver/@cache: 'none' and (not set)`.
std::string describe(const Difference& difference);

/// One rule that a disk breaks.
struct Violation {
  std::string path;     ///< The property that is wrong.
  std::string value;    ///< Its value.
  std::string message;  ///< What is wrong, naming both.
  std::string next;     ///< What to do about it.
};

/// Every rule of libvirt and QEMU that `disk` breaks and the schema does not check.
std::vector<Violation> violations(const DiskConfig& disk);

/// Fails with bad_input, naming all violations in one message, if there are any.
Result<void> validate(const DiskConfig& disk);

}  // namespace aiolos::disk
