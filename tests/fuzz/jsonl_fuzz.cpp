// Any bytes as lines of JSON: the text that a general parser finds, the same documents and
// refusals however the lines arrive, and the same from the middle on.

#include <nlohmann/json.hpp>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "data/json_text.h"
#include "data/source.h"
#include "memory_file.h"

namespace {

/// A stream that gives all it is asked for.
class MemoryStream final : public data::ByteStream {
 public:
  explicit MemoryStream(std::string_view bytes) : bytes_(bytes) {}
  std::size_t read(std::span<char> to) override {
    const std::size_t count = std::min(to.size(), bytes_.size() - at_);
    if (count > 0) std::memcpy(to.data(), bytes_.data() + at_, count);
    at_ += count;
    return count;
  }
  void skip(std::uint64_t bytes) override {
    if (bytes > bytes_.size() - at_) std::abort();
    at_ += bytes;
  }
  std::uint64_t source_bytes() const override { return at_; }

 private:
  std::string_view bytes_;
  std::size_t at_ = 0;
};

/// What a reader gave: text or reason, and where to go on.
struct Given {
  std::string text;
  bool broken;
  data::Position next;
  bool operator==(const Given&) const = default;
};

std::vector<Given> read_from(std::string_view bytes, const data::Position& from) {
  data::SourceContext context;
  context.path = "fuzz.jsonl";
  auto options = std::make_shared<data::ReaderOptions>();
  options->text_field = "text";
  options->pieces.last_cut = [](std::string_view) { return std::size_t{0}; };
  context.options = options;
  context.field =
      std::make_shared<const std::vector<std::string>>(data::split_field(options->text_field));
  const auto source = data::make_line_source(context, std::make_unique<MemoryStream>(bytes));
  if (from != data::Position()) source->seek(from);
  std::vector<Given> given;
  for (;;) {
    data::Chunk chunk;
    chunk.path = context.path;
    chunk.options = context.options;
    chunk.field = context.field;
    if (!source->next(chunk)) return given;
    chunk.parse(
        [&](const data::Document& document) {
          given.push_back({std::string(document.text), false, document.next});
        },
        [&](const data::BrokenRecord& record, const data::Position& next) {
          if (std::strchr(record.what(), '\n') != nullptr) std::abort();
          given.push_back({record.reason(), true, next});
        });
  }
}

/// The field by nlohmann's parser, which knows no bytes that are not UTF-8.
void compare(std::string_view line) {
  // To theirs a NUL is the end, and a byte order mark is nothing.
  if (line.find('\0') != std::string_view::npos || line.starts_with("\xEF\xBB\xBF")) return;
  static const std::vector<std::string> field = {"text"};
  std::string copy(line);
  std::string_view text;
  const std::string wrong = data::find_text({copy.data(), copy.size()}, field, text);
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) {
    // Theirs also refuses what is not UTF-8, ours keeps it.
    const bool ascii = std::all_of(line.begin(), line.end(), [](char c) { return c >= 0; });
    if (ascii && wrong.empty()) std::abort();
    return;
  }
  const bool has = json.is_object() && json.contains("text") && json["text"].is_string();
  if (has != wrong.empty()) std::abort();
  if (has && json["text"].get_ref<const std::string&>() != text) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  for (std::size_t from = 0; from < size;) {
    const std::size_t newline = std::min(bytes.find('\n', from), size);
    compare(bytes.substr(from, newline - from));
    from = newline + 1;
  }
  const std::vector<Given> all = read_from(bytes, {});
  for (std::size_t i = 0; i < all.size(); i += 1 + all.size() / 4) {
    const std::vector<Given> rest = read_from(bytes, all[i].next);
    if (!std::equal(rest.begin(), rest.end(), all.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                    all.end())) {
      std::abort();
    }
  }
  return 0;
}
