// Footers: the schema's tree and the row groups -> where the pages of one column lie.

#include <algorithm>
#include <array>
#include <limits>

#include "base/error.h"
#include "data/compact.h"
#include "data/parquet_format.h"

namespace data::parquet {
namespace {

using compact::Field;
using compact::Reader;

constexpr std::int32_t kByteArray = 6;  // parquet.thrift: Type
constexpr std::array kTypeNames = {"BOOLEAN", "INT32",  "INT64",      "INT96",
                                   "FLOAT",   "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"};
constexpr std::int32_t kRequired = 0;  // FieldRepetitionType
constexpr std::int32_t kRepeated = 2;
constexpr std::int32_t kDecimal = 5;        // ConvertedType: numbers kept as bytes
constexpr int kDecimalLogicalType = 5;      // field of the union LogicalType
constexpr std::size_t kNamesInMessage = 8;  // columns listed when one is not found
// No schema comes near these; with them a small file cannot ask for much memory.
constexpr std::size_t kMaxNodes = 100'000;
constexpr std::size_t kMaxDepth = 64;
constexpr std::size_t kMaxPathBytes = 1024;

/// A node of the schema, as the flattened tree lists it.
struct Node {
  std::string name;
  std::int32_t type = -1;  ///< -1: a group
  std::int32_t repetition = kRequired;
  std::int32_t children = 0;
  bool decimal = false;
};

/// A column of the schema with its place in the tree.
struct Leaf {
  std::string path;
  std::int32_t type = -1;
  int max_definition = 0;
  bool repeated = false;
  bool decimal = false;

  bool is_text() const { return type == kByteArray && !repeated && !decimal; }
};

Node read_node(Reader& in) {
  Node node;
  in.read_struct([&](const Field& field) {
    switch (field.id) {
      case 1:
        return in.take(field, node.type);
      case 3:
        return in.take(field, node.repetition);
      case 4:
        return in.take(field, node.name);
      case 5:
        return in.take(field, node.children);
      case 6: {
        std::int32_t converted = -1;
        const bool taken = in.take(field, converted);
        node.decimal = node.decimal || converted == kDecimal;
        return taken;
      }
      case 10:
        return in.take_struct(field, [&](const Field& logical) {
          node.decimal = node.decimal || logical.id == kDecimalLogicalType;
          return false;
        });
      default:
        return false;
    }
  });
  return node;
}

/// The leaves of the flattened tree, in order.
std::vector<Leaf> leaves_of(const std::vector<Node>& nodes, const std::string& file) {
  struct Group {
    Leaf down_to;  // path and levels that its children continue
    std::int32_t left = 0;
  };
  if (nodes.empty() || nodes[0].children < 0) base::fail("{}: the footer has no schema", file);
  std::vector<Leaf> leaves;
  std::vector<Group> open = {{Leaf{}, nodes[0].children}};
  for (std::size_t i = 1; i < nodes.size(); ++i) {
    while (!open.empty() && open.back().left == 0) open.pop_back();
    if (open.empty()) base::fail("{}: the footer's schema has more nodes than its groups", file);
    --open.back().left;
    const Node& node = nodes[i];
    Leaf leaf = open.back().down_to;
    leaf.path += leaf.path.empty() ? node.name : "." + node.name;
    if (leaf.path.size() > kMaxPathBytes) base::fail("{}: the footer's schema is too deep", file);
    leaf.max_definition += node.repetition != kRequired ? 1 : 0;
    leaf.repeated = leaf.repeated || node.repetition == kRepeated;
    leaf.decimal = node.decimal;
    leaf.type = node.type;
    if (node.type >= 0) {
      leaves.push_back(std::move(leaf));
    } else if (node.children >= 0) {
      if (open.size() > kMaxDepth) base::fail("{}: the footer's schema is too deep", file);
      open.push_back({std::move(leaf), node.children});
    } else {
      base::fail("{}: the footer's schema has a group with {} columns", file, node.children);
    }
  }
  if (std::any_of(open.begin(), open.end(), [](const Group& group) { return group.left > 0; })) {
    base::fail("{}: the footer's schema has fewer nodes than its groups promise", file);
  }
  return leaves;
}

/// A column's name for a message, whatever is in it.
std::string shown(std::string_view name) {
  constexpr std::size_t kMost = 100;
  std::string text(name.substr(0, kMost));
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = '?';
  }
  return name.size() > kMost ? text + "..." : text;
}

[[noreturn]] void fail_no_column(const std::vector<Leaf>& leaves, const std::string& file,
                                 const std::string& name) {
  std::string texts;
  std::size_t count = 0;
  bool group = false;
  for (const Leaf& leaf : leaves) {
    group = group || leaf.path.starts_with(name + ".");
    if (!leaf.is_text() || ++count > kNamesInMessage) continue;
    texts += (count > 1 ? ", '" : "'") + shown(leaf.path) + "'";
  }
  if (count > kNamesInMessage) texts += ", ...";
  const std::string others =
      count == 0 ? "the file has no column of strings" : "its columns of strings: " + texts;
  if (group) {
    base::fail("{}: column '{}': expected strings, got a list or group; {}", file, name, others);
  }
  base::fail("{}: there is no column '{}'; {}", file, name, others);
}

std::size_t find_leaf(const std::vector<Leaf>& leaves, const std::string& file,
                      const std::string& name) {
  const auto found = std::find_if(leaves.begin(), leaves.end(),
                                  [&](const Leaf& leaf) { return leaf.path == name; });
  if (found == leaves.end()) fail_no_column(leaves, file, name);
  if (found->repeated) {
    base::fail("{}: column '{}': expected one string a row, got a repeated column", file, name);
  }
  if (found->decimal) {
    base::fail("{}: column '{}': expected strings (BYTE_ARRAY), got decimal numbers", file, name);
  }
  if (found->type != kByteArray) {
    const auto type = static_cast<std::size_t>(found->type);
    base::fail("{}: column '{}': expected strings (BYTE_ARRAY), got {}", file, name,
               type < kTypeNames.size() ? kTypeNames[type] : "an unknown type");
  }
  return static_cast<std::size_t>(found - leaves.begin());
}

/// A column chunk's metadata as it stands in the file; -1: absent.
struct RawChunk {
  std::int32_t type = -1;
  std::int32_t codec = -1;
  std::int64_t values = -1;
  std::int64_t content_bytes = -1;
  std::int64_t bytes = -1;
  std::int64_t data_offset = -1;
  std::int64_t dictionary_offset = -1;
  bool elsewhere = false;
  bool encrypted = false;
};

RawChunk read_raw_chunk(Reader& in) {
  RawChunk chunk;
  const auto read_metadata = [&](const Field& field) {
    switch (field.id) {
      case 1:
        return in.take(field, chunk.type);
      case 4:
        return in.take(field, chunk.codec);
      case 5:
        return in.take(field, chunk.values);
      case 6:
        return in.take(field, chunk.content_bytes);
      case 7:
        return in.take(field, chunk.bytes);
      case 9:
        return in.take(field, chunk.data_offset);
      case 11:
        return in.take(field, chunk.dictionary_offset);
      default:
        return false;
    }
  };
  in.read_struct([&](const Field& field) {
    std::string other_file;
    switch (field.id) {
      case 1: {
        const bool taken = in.take(field, other_file);
        chunk.elsewhere = !other_file.empty();
        return taken;
      }
      case 3:
        return in.take_struct(field, read_metadata);
      case 8:
      case 9:
        chunk.encrypted = true;
        return false;
      default:
        return false;
    }
  });
  return chunk;
}

struct RawGroup {
  RawChunk chunk;  ///< of the column asked for
  std::size_t columns = 0;
  std::int64_t rows = -1;
};

RawGroup read_raw_group(Reader& in, std::size_t column) {
  RawGroup group;
  in.read_struct([&](const Field& field) {
    if (field.id == 3) return in.take(field, group.rows);
    if (field.id != 1) return false;
    return in.take_structs(field, [&] {
      const RawChunk chunk = read_raw_chunk(in);
      if (group.columns++ == column) group.chunk = chunk;
    });
  });
  return group;
}

/// Checks one row group against the file and adds it.
void add_group(const RawGroup& group, std::size_t columns, std::uint64_t data_end,
               const std::string& file, Column& column) {
  const std::string where = fmt::format("{}: row group {}", file, column.chunks.size());
  const RawChunk& raw = group.chunk;
  if (group.rows < 0 || group.rows > std::numeric_limits<std::int64_t>::max() - column.rows) {
    base::fail("{}: the footer gives it {} rows", where, group.rows);
  }
  if (group.columns != columns) {
    base::fail("{}: expected {} columns as in the schema, got {}", where, columns, group.columns);
  }
  if (raw.encrypted) base::fail("{}: the column is encrypted; only plain ones are read", where);
  if (raw.elsewhere) base::fail("{}: the column lies in another file; name that one", where);
  if (raw.type != kByteArray || raw.codec < 0 || raw.codec > 255 || raw.values < 0) {
    base::fail("{}: the footer's metadata of the column is incomplete or wrong", where);
  }
  if (raw.values != group.rows) {
    base::fail("{}: expected {} values for its rows, got {}", where, group.rows, raw.values);
  }
  // Some writers say 0 where there is no dictionary.
  const bool dictionary = raw.dictionary_offset > 0 && raw.dictionary_offset < raw.data_offset;
  const std::int64_t offset = dictionary ? raw.dictionary_offset : raw.data_offset;
  const auto begin = static_cast<std::uint64_t>(offset);
  if (group.rows > 0 && (offset < 4 || raw.bytes < 0 || begin > data_end ||
                         static_cast<std::uint64_t>(raw.bytes) > data_end - begin)) {
    base::fail("{}: the column should lie at byte {}, {} bytes long; the file's data ends at {}",
               where, offset, raw.bytes, data_end);
  }
  column.chunks.push_back({group.rows, column.rows, begin, static_cast<std::uint64_t>(raw.bytes),
                           static_cast<std::uint64_t>(std::max<std::int64_t>(raw.content_bytes, 0)),
                           static_cast<Codec>(raw.codec)});
  column.rows += group.rows;
}

void require(const Reader& in, const std::string& file) {
  if (!in.ok()) {
    base::fail("{}: corrupt footer at its byte {}: {}", file, in.position(), in.fault());
  }
}

}  // namespace

Column read_footer(std::span<const std::byte> footer, std::uint64_t data_end,
                   const std::string& file, const std::string& name) {
  // Twice: the schema says which column of a row group is wanted, wherever in the footer it stands.
  std::vector<Node> nodes;
  Reader schema(footer);
  schema.read_struct([&](const Field& field) {
    if (field.id != 2) return false;
    return schema.take_structs(field, [&] {
      if (nodes.size() == kMaxNodes) base::fail("{}: over {} columns and groups", file, kMaxNodes);
      nodes.push_back(read_node(schema));
    });
  });
  require(schema, file);
  const std::vector<Leaf> leaves = leaves_of(nodes, file);
  const std::size_t index = find_leaf(leaves, file, name);

  Column column;
  column.max_definition = leaves[index].max_definition;
  std::int64_t rows = -1;
  Reader groups(footer);
  groups.read_struct([&](const Field& field) {
    if (field.id == 3) return groups.take(field, rows);
    if (field.id != 4) return false;
    return groups.take_structs(field, [&] {
      const RawGroup group = read_raw_group(groups, index);
      if (groups.ok()) add_group(group, leaves.size(), data_end, file, column);
    });
  });
  require(groups, file);
  if (rows != column.rows) {
    base::fail("{}: expected {} rows as the footer says, its row groups have {}", file, rows,
               column.rows);
  }
  return column;
}

}  // namespace data::parquet
