// SPDX-License-Identifier: Apache-2.0
// Reads disks from XML by the property table, and keeps what the table does not know where it stood.
#include <algorithm>
#include <pugixml.hpp>

#include "aiolos/disk/disk_xml.h"
#include "property_table.h"
#include "xml_text.h"

namespace aiolos::disk {
namespace {

/// libxml2, and so libvirt, reads no deeper either.
constexpr std::size_t kMaxDepth = 256;

constexpr unsigned kParseFlags = pugi::parse_cdata | pugi::parse_escapes | pugi::parse_wconv_attribute |
                                 pugi::parse_eol | pugi::parse_comments | pugi::parse_pi | pugi::parse_ws_pcdata_single;

constexpr std::string_view kSchemaHint = "give a libvirt <disk>, or a document that has one; `xmllint FILE` shows more";

/// The way from the root to an element, for reports.
struct Frame {
  const Frame* parent;
  std::string_view name;
  std::size_t ordinal;  ///< From 1 in a list, else 0.
  std::size_t depth;

  std::string path() const {
    std::string out = parent ? parent->path() + '/' : std::string();
    out += name;
    if (ordinal > 0) out += '[' + std::to_string(ordinal) + ']';
    return out;
  }
};

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n") == std::string_view::npos; }

bool is_text(pugi::xml_node node) { return node.type() == pugi::node_pcdata || node.type() == pugi::node_cdata; }

bool has_only_text(pugi::xml_node node, bool blank) {
  for (const pugi::xml_node child : node.children())
    if (!is_text(child) || (blank && !is_blank(child.value()))) return false;
  return true;
}

/// The text of an element with comments and elements left out.
std::string all_text(pugi::xml_node node) {
  std::string text;
  for (const pugi::xml_node child : node.children())
    if (is_text(child)) text += child.value();
  return text;
}

/// An XML document, and the text that each of its parts came from.
class Document {
 public:
  /// Checks what pugixml does not: the encoding, and that there is one root and nothing beside it.
  Result<void> load(std::string_view xml) {
    if (xml.starts_with("\xEF\xBB\xBF")) xml.remove_prefix(3);
    xml_ = xml;
    const std::string_view encoding = declared_encoding(xml);
    if (!encoding.empty() && !is_utf8_name(encoding))
      return fail(ErrorKind::bad_input, "XML encoding '" + std::string(encoding) + "' is not supported",
                  "convert the document to UTF-8", to_string(position_of(xml, 0)));
    if (const auto bad = find_bad_character(xml))
      return error_at(*bad, "a byte that is no UTF-8 character or not allowed in XML",
                      "convert the document to UTF-8 and remove control characters");
    if (const auto bad = find_bad_reference(xml))
      return error_at(*bad, "'&' begins no reference to a character or to one of XML's own five entities",
                      "write '&' itself as '&amp;', and the text of any other entity in its place");
    buffer_.assign(xml);
    const auto result = document_.load_buffer_inplace(buffer_.data(), buffer_.size(), kParseFlags, pugi::encoding_utf8);
    if (!result) return error_at(static_cast<std::size_t>(result.offset), result.description(), kSchemaHint);
    const std::size_t outside = stands_alone(root()) ? std::string_view::npos : find_outside_root(xml);
    if (outside != std::string_view::npos)
      return error_at(outside, "text or a second element beside the root element", "remove it");
    return {};
  }

  tl::unexpected<Error> error_at(std::size_t offset, std::string_view what, std::string_view next) const {
    return fail(ErrorKind::bad_input, "not well-formed XML: " + std::string(what), std::string(next),
                to_string(position_of(xml_, offset)));
  }

  pugi::xml_node root() const { return document_.document_element(); }
  pugi::xml_node top() const { return document_; }

  /// Where a name or value of the parsed document stands in the text; pugixml parses in place, so it points there.
  std::size_t offset_of(const char* in_buffer) const { return static_cast<std::size_t>(in_buffer - buffer_.data()); }

  std::size_t begin_of(pugi::xml_node node) const {
    switch (node.type()) {
      case pugi::node_comment:
        return offset_of(node.value()) - std::string_view("<!--").size();
      case pugi::node_cdata:
        return offset_of(node.value()) - std::string_view("<![CDATA[").size();
      case pugi::node_pcdata:
        return offset_of(node.value());
      case pugi::node_pi:
        return offset_of(node.name()) - std::string_view("<?").size();
      default:
        return offset_of(node.name()) - std::string_view("<").size();
    }
  }

  /// The text of a node as it stood in the document.
  std::string_view source_of(pugi::xml_node node) const {
    const std::size_t begin = begin_of(node);
    const std::size_t end = node.type() == pugi::node_pcdata ? xml_.find('<', begin) : end_of_markup(xml_, begin);
    return xml_.substr(begin, end - begin);
  }

  /// Cheap for offsets that rise from call to call.
  Position position(std::size_t offset) const {
    if (offset < known_offset_) return position_of(xml_, offset);
    const Position further = position_of(xml_.substr(known_offset_), offset - known_offset_);
    known_.column = further.line == 1 ? known_.column + further.column - 1 : further.column;
    known_.line += further.line - 1;
    known_offset_ = offset;
    return known_;
  }

 private:
  /// The quick answer for a document that is nothing but its root, perhaps behind a declaration. pugixml drops text
  /// beside the root without a word, so the text itself is looked at.
  bool stands_alone(pugi::xml_node root) const {
    if (document_.first_child() != root || root.next_sibling()) return false;
    const std::size_t begin = xml_.starts_with("<?xml") ? xml_.find("?>") + 2 : 0;
    const std::size_t root_begin = begin_of(root);
    return is_blank(xml_.substr(begin, root_begin - begin)) && is_blank(xml_.substr(xml_.rfind('>') + 1));
  }

  static bool is_utf8_name(std::string_view name) {
    for (const std::string_view known : {"UTF-8", "utf-8", "UTF8", "utf8", "US-ASCII", "us-ascii", "ASCII", "ascii"})
      if (name == known) return true;
    return false;
  }

  std::string_view xml_;
  std::string buffer_;
  pugi::xml_document document_;
  mutable std::size_t known_offset_ = 0;
  mutable Position known_;  ///< Where `known_offset_` stands.
};

/// Fills structs from elements. What is well-formed never stops it, but for the two rules of `error`.
class Reader {
 public:
  Reader(const Document& document, std::vector<Unknown>& unknown) : document_(document), unknown_(unknown) {}

  /// `optional`: whether the element's presence is kept by what holds it; else an empty one must be marked.
  void read(pugi::xml_node node, const Table& table, void* owner, const Frame& frame, bool optional) {
    if (frame.depth > kMaxDepth) {
      stop(document_.begin_of(node), "elements nested too deeply (libvirt reads 256 levels)");
      return;
    }
    attributes(node, table, owner, frame);
    const bool has_known_child = children(node, table, owner, frame);
    if (!optional && !has_known_child && !node.first_attribute()) table.extra(owner).mark_present();
  }

  /// What made the document unreadable all the same: the first duplicate attribute, or too deep nesting.
  const std::optional<Error>& error() const { return error_; }

 private:
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  /// The row of that name in [begin, end), looked for from `hint` on, since documents mostly follow the table's order.
  static std::size_t find(std::span<const Row> rows, std::size_t begin, std::size_t end, std::size_t hint,
                          std::string_view name) {
    for (std::size_t i = hint; i < end; ++i)
      if (rows[i].name == name) return i;
    for (std::size_t i = begin; i < hint; ++i)
      if (rows[i].name == name) return i;
    return kNone;
  }

  void attributes(pugi::xml_node node, const Table& table, void* owner, const Frame& frame) {
    if (table.first_decides)
      if (const pugi::xml_attribute first = node.attribute(table.rows[0].name.data()))
        table.rows[0].set(owner, first.value());
    std::uint64_t seen = 0;
    std::size_t last = kNone;
    for (auto attribute = node.first_attribute(); attribute; attribute = attribute.next_attribute()) {
      const std::string_view name = attribute.name();
      const std::size_t i = find(table.rows, 0, table.attributes, last == kNone ? 0 : last, name);
      if (i == kNone) {
        unknown_attribute(node, attribute, table.extra(owner), row_number(last), frame);
        continue;
      }
      if ((seen >> i & 1U) != 0) duplicate(attribute);
      seen |= std::uint64_t{1} << i;
      set(
          table, i, owner, attribute.value(), [&] { return attribute.value(); }, attribute.name(), frame);
      last = i;
    }
  }

  static std::int16_t row_number(std::size_t row) {
    return row == kNone ? ExtraItem::kAtStart : static_cast<std::int16_t>(row);
  }

  void duplicate(pugi::xml_attribute attribute) {
    stop(document_.offset_of(attribute.name()), "attribute '" + std::string(attribute.name()) + "' stands twice");
  }

  void unknown_attribute(pugi::xml_node node, pugi::xml_attribute attribute, Extra& extra, std::int16_t after,
                         const Frame& frame) {
    if (node.attribute(attribute.name()) != attribute) duplicate(attribute);
    extra.add({ExtraItem::Kind::attribute, after, 0, attribute.name(), attribute.value()});
    report(Unknown::Kind::attribute, frame.path() + "/@" + attribute.name(), attribute.value(), attribute.name());
  }

  /// Sets a scalar, and keeps what `verbatim()` gives where that says more than the canonical form. `at` is its place.
  template <typename Verbatim>
  void set(const Table& table, std::size_t i, void* owner, std::string_view value, const Verbatim& verbatim,
           const char* at, const Frame& frame) {
    const Row& row = table.rows[i];
    if (!row.set(owner, value)) {
      table.extra(owner).add(
          {ExtraItem::Kind::value, row_number(i), 0, std::string(row.name), std::string(verbatim())});
      report(Unknown::Kind::value, path_of(row, frame), std::string(value), at);
    } else if (row.value == Row::Value::number) {
      std::string_view canonical;
      row.get(owner, scratch_, canonical);
      if (canonical != value) keep_spelling(table, i, owner, verbatim());
    }
  }

  static std::string path_of(const Row& row, const Frame& frame) {
    if (row.shape == Row::Shape::content) return frame.path();
    return frame.path() + (row.shape == Row::Shape::attribute ? "/@" : "/") + std::string(row.name);
  }

  void keep_spelling(const Table& table, std::size_t i, void* owner, std::string_view verbatim) {
    std::string_view canonical;
    table.rows[i].get(owner, scratch_, canonical);
    table.extra(owner).add(
        {ExtraItem::Kind::spelling, row_number(i), 0, std::string(canonical), std::string(verbatim)});
  }

  /// A place among an element's children: behind a known one.
  struct Place {
    std::size_t row = kNone;
    std::size_t occurrence = 0;  ///< Which one of that row, from 0.
  };

  /// Where in an element's children the reader is.
  struct Progress {
    std::uint64_t seen = 0;
    Place last;
    Place furthest;  ///< In the table's order. What is kept behind it stays in its order, whatever that of the known.

    void pass(Place place) {
      last = place;
      if (furthest.row == kNone || place.row >= furthest.row) furthest = place;
    }
  };

  /// Whether there was a child that the table knows.
  bool children(pugi::xml_node node, const Table& table, void* owner, const Frame& frame) {
    Progress progress;
    for (auto child = node.first_child(); child; child = child.next_sibling()) {
      if (child.type() == pugi::node_element)
        element(child, table, owner, frame, progress);
      else if (is_text(child))
        text(child, table, owner, frame, progress);
      else
        keep(child, ExtraItem::Kind::comment, table.extra(owner), progress.last);
    }
    return progress.last.row != kNone;
  }

  void element(pugi::xml_node child, const Table& table, void* owner, const Frame& frame, Progress& progress) {
    const std::string_view name = child.name();
    const std::size_t hint = progress.last.row == kNone ? table.attributes : progress.last.row;
    const std::size_t i = find(table.rows, table.attributes, table.rows.size(), hint, name);
    if (i == kNone || table.rows[i].shape == Row::Shape::content) {
      unknown_element(child, Unknown::Kind::element, table.extra(owner), frame, progress);
      return;
    }
    const Row& row = table.rows[i];
    const bool seen = (progress.seen >> i & 1U) != 0;
    if (seen && !row.repeats) {
      unknown_element(child, Unknown::Kind::repeated, table.extra(owner), frame, progress);
      return;
    }
    progress.seen |= std::uint64_t{1} << i;
    std::size_t occurrence = 0;
    if (row.shape == Row::Shape::element) {
      occurrence = row.repeats ? row.count(owner) : 0;
      const Frame inner{&frame, row.name, row.repeats ? occurrence + 1 : 0, frame.depth + 1};
      read(child, row.table(), row.add(owner), inner, row.optional);
    } else {
      text_element(child, table, i, owner, frame);
    }
    progress.pass({i, occurrence});
  }

  void unknown_element(pugi::xml_node child, Unknown::Kind kind, Extra& extra, const Frame& frame,
                       const Progress& progress) {
    keep(child, ExtraItem::Kind::element, extra, progress.furthest);
    report(kind, frame.path() + '/' + child.name(), {}, child.name());
  }

  void keep(pugi::xml_node child, ExtraItem::Kind kind, Extra& extra, Place behind) {
    extra.add({kind, row_number(behind.row),
               static_cast<std::uint16_t>(std::min<std::size_t>(behind.occurrence, 0xFFFF)), child.name(),
               std::string(document_.source_of(child))});
  }

  void text(pugi::xml_node child, const Table& table, void* owner, const Frame& frame, Progress& progress) {
    const std::size_t last_row = table.rows.size() - 1;
    const bool has_content = table.rows[last_row].shape == Row::Shape::content;
    if (has_content && progress.last.row != last_row) {
      set(
          table, last_row, owner, child.value(), [&] { return document_.source_of(child); }, child.value(), frame);
      progress.pass({last_row, 0});
    } else if (!is_blank(child.value()) || child.type() == pugi::node_cdata) {
      keep(child, ExtraItem::Kind::text, table.extra(owner), progress.furthest);
      report(Unknown::Kind::text, frame.path(), child.value(), child.value());
    }
  }

  /// `<name>value</name>` or `<name/>`. One that has more to it than a value is kept verbatim beside the value.
  void text_element(pugi::xml_node child, const Table& table, std::size_t i, void* owner, const Frame& frame) {
    const bool simple = !child.first_attribute() && has_only_text(child, table.rows[i].shape == Row::Shape::flag);
    const bool one_text = !child.first_child().next_sibling();
    const std::string joined = one_text ? std::string() : all_text(child);
    const auto verbatim = [&] { return document_.source_of(child); };
    set(table, i, owner, one_text ? child.child_value() : joined.c_str(), verbatim, child.name(), frame);
    if (simple) return;
    std::string_view value;
    if (table.rows[i].get(owner, scratch_, value)) keep_spelling(table, i, owner, document_.source_of(child));
    report_insides(child, {&frame, table.rows[i].name, 0, frame.depth + 1});
  }

  void report_insides(pugi::xml_node node, const Frame& frame) {
    for (const pugi::xml_attribute attribute : node.attributes())
      report(Unknown::Kind::attribute, frame.path() + "/@" + attribute.name(), attribute.value(), attribute.name());
    for (const pugi::xml_node child : node.children())
      if (child.type() == pugi::node_element)
        report(Unknown::Kind::element, frame.path() + '/' + child.name(), {}, child.name());
  }

  void report(Unknown::Kind kind, std::string path, std::string value, const char* at) {
    const Position position = document_.position(document_.offset_of(at));
    unknown_.push_back({kind, std::move(path), std::move(value), position.line, position.column});
  }

  void stop(std::size_t offset, std::string_view what) {
    if (!error_) error_ = document_.error_at(offset, what, kSchemaHint).value();
  }

  const Document& document_;
  std::vector<Unknown>& unknown_;
  std::optional<Error> error_;
  char scratch_[kScratchSize];
};

Result<Parsed> read_disk(const Document& document, pugi::xml_node node) {
  Result<Parsed> parsed;
  Reader reader(document, parsed->unknown);
  reader.read(node, disk_table(), &parsed->disk, {nullptr, "disk", 0, 1}, true);
  if (reader.error()) return tl::unexpected<Error>(*reader.error());
  return parsed;
}

pugi::xml_node next_in_document(pugi::xml_node node, bool descend) {
  if (descend && node.first_child()) return node.first_child();
  while (node && !node.next_sibling()) node = node.parent();
  return node ? node.next_sibling() : node;
}

std::string path_to(pugi::xml_node node) {
  std::string path = node.name();
  for (node = node.parent(); node && node.type() == pugi::node_element; node = node.parent())
    path = std::string(node.name()) + '/' + path;
  return path;
}

/// Declares on the disk the name spaces that it has from the elements around it: the default one, and the prefixes that
/// `source`, its text, uses.
void inherit_name_spaces(pugi::xml_node node, std::string_view source, Extra& extra) {
  constexpr std::string_view declaration = "xmlns";
  std::vector<std::string_view> declared;
  for (pugi::xml_node at = node; at; at = at.parent()) {
    for (const pugi::xml_attribute attribute : at.attributes()) {
      std::string_view prefix = attribute.name();
      if (!prefix.starts_with(declaration)) continue;
      prefix.remove_prefix(declaration.size());
      if (!prefix.empty() && !prefix.starts_with(':')) continue;
      if (std::find(declared.begin(), declared.end(), prefix) != declared.end()) continue;
      declared.push_back(prefix);
      const bool used = prefix.empty() ? *attribute.value() != '\0'
                                       : source.find(std::string(prefix.substr(1)) + ':') != std::string_view::npos;
      if (at != node && used)
        extra.add({ExtraItem::Kind::attribute, ExtraItem::kAtStart, 0, attribute.name(), attribute.value()});
    }
  }
}

bool stands_in_domain(pugi::xml_node node) {
  const pugi::xml_node devices = node.parent();
  if (devices.type() == pugi::node_document) return true;
  return std::string_view(devices.name()) == "devices" && std::string_view(devices.parent().name()) == "domain";
}

}  // namespace

Result<Parsed> parse(std::string_view xml) {
  Document document;
  if (auto loaded = document.load(xml); !loaded) return tl::unexpected<Error>(loaded.error());
  const pugi::xml_node root = document.root();
  if (std::string_view(root.name()) != "disk")
    return fail(ErrorKind::bad_input, "the root element is <" + std::string(root.name()) + ">, not <disk>",
                std::string(kSchemaHint), to_string(document.position(document.begin_of(root))));
  return read_disk(document, root);
}

Result<std::vector<FoundDisk>> parse_document(std::string_view xml) {
  Document document;
  if (auto loaded = document.load(xml); !loaded) return tl::unexpected<Error>(loaded.error());
  std::vector<FoundDisk> found;
  for (pugi::xml_node node = document.root(); node;) {
    const bool is_disk = node.type() == pugi::node_element && std::string_view(node.name()) == "disk";
    if (is_disk) {
      const std::size_t line = document.position(document.begin_of(node)).line;
      auto parsed = read_disk(document, node);
      if (!parsed) return tl::unexpected<Error>(parsed.error());
      // Only what is unknown has a prefix.
      const std::string_view source = parsed->unknown.empty() ? std::string_view{} : document.source_of(node);
      inherit_name_spaces(node, source, parsed->disk.extra);
      found.push_back({std::move(*parsed), path_to(node), line, stands_in_domain(node)});
    }
    node = next_in_document(node, !is_disk);
  }
  if (found.empty())
    return fail(ErrorKind::bad_input, "there is no <disk> below <" + std::string(document.root().name()) + ">",
                std::string(kSchemaHint), to_string(document.position(document.begin_of(document.root()))));
  return found;
}

std::string describe(const Unknown& unknown) {
  static constexpr std::string_view kinds[] = {"unknown element", "unknown attribute", "unknown value of", "text in",
                                               "repeated element"};
  std::string out = to_string(Position{unknown.line, unknown.column}) + ": ";
  out.append(kinds[static_cast<std::size_t>(unknown.kind)]).append(1, ' ').append(unknown.path);
  if (unknown.kind != Unknown::Kind::element && unknown.kind != Unknown::Kind::repeated)
    out.append("='").append(unknown.value).append(1, '\'');
  return out;
}

}  // namespace aiolos::disk
