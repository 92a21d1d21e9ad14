// The state as JSON.

#include "prepare/state.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_integer.h"

namespace prepare {
namespace {

using nlohmann::json;

constexpr int kVersion = 2;  // 1: rows of nulls were not counted in positions

/// Becomes an integer of the type that is wanted, or an Error.
struct Integer {
  const json& value;
  template <class T>
  operator T() const {  // NOLINT(google-explicit-constructor): this is what it is for
    return base::json_integer<T>(value);
  }
};

/// The keys of masks only where there are masks.
json to_json(const SequenceState& state, bool masks) {
  json shards = json::array();
  for (const data::ShardInfo& shard : state.shards) {
    json entry = {shard.file, shard.tokens, shard.crc32c};
    if (shard.mask_crc32c) entry.push_back(*shard.mask_crc32c);
    shards.push_back(std::move(entry));
  }
  json object = {{"tokens", state.tokens}, {"last", state.last}, {"shards", shards}};
  if (state.open) object["open"] = {state.open->tokens, state.open->crc32c};
  if (!masks) return object;
  if (state.open_mask) object["open_mask"] = {state.open_mask->crc32c, state.open_mask->bits};
  object["last_learnt"] = state.last_learnt;
  object["answered"] = state.answered;
  object["learnt"] = state.learnt;
  return object;
}

SequenceState sequence_of(const json& object) {
  SequenceState state;
  state.tokens = Integer{object.at("tokens")};
  state.last = Integer{object.at("last")};
  for (const json& shard : object.at("shards")) {
    data::ShardInfo& info = state.shards.emplace_back();
    info.file = shard.at(0).get<std::string>();
    info.tokens = Integer{shard.at(1)};
    info.crc32c = Integer{shard.at(2)};
    if (shard.size() > 3) info.mask_crc32c = base::json_integer<std::uint32_t>(shard.at(3));
  }
  if (object.contains("open")) {
    state.open = data::ShardProgress{Integer{object["open"].at(0)}, Integer{object["open"].at(1)}};
  }
  if (object.contains("open_mask")) {
    state.open_mask =
        data::MaskProgress{Integer{object["open_mask"].at(0)}, Integer{object["open_mask"].at(1)}};
  }
  state.last_learnt = object.value("last_learnt", false);
  state.answered = object.value("answered", false);
  if (object.contains("learnt")) state.learnt = Integer{object["learnt"]};
  return state;
}

State state_of(const json& object) {
  if (object.at("version") != kVersion) base::fail("expected version {}", kVersion);
  State state;
  const json& position = object.at("position");
  state.position = {Integer{position.at("input")}, Integer{position.at("record")},
                    Integer{position.at("offset")}, Integer{position.at("text_offset")}};
  const json& splitter = object.at("splitter");
  state.splitter = {Integer{splitter.at("document")}, Integer{splitter.at("piece")},
                    Integer{splitter.at("piece_tokens")}};
  state.train = sequence_of(object.at("train"));
  state.validation = sequence_of(object.at("val"));
  object.at("dropping").get_to(state.dropping);
  state.records = Integer{object.at("records")};
  state.rejected = Integer{object.at("rejected")};
  object.at("first_rejected").get_to(state.first_rejected);
  state.duplicates = Integer{object.at("duplicates")};
  state.rejected_bytes = Integer{object.at("rejected_bytes")};
  state.hashes = Integer{object.at("hashes")};
  state.text_bytes = Integer{object.at("text_bytes")};
  state.bytes_done = Integer{object.at("bytes_done")};
  return state;
}

}  // namespace

void write_state(const base::Path& folder, const State& state) {
  const json object = {{"version", kVersion},
                       {"position",
                        {{"input", state.position.input},
                         {"record", state.position.record},
                         {"offset", state.position.offset},
                         {"text_offset", state.position.text_offset}}},
                       {"splitter",
                        {{"document", state.splitter.document},
                         {"piece", state.splitter.piece},
                         {"piece_tokens", state.splitter.piece_tokens}}},
                       {"train", to_json(state.train, state.masks)},
                       {"val", to_json(state.validation, state.masks)},
                       {"dropping", state.dropping},
                       {"records", state.records},
                       {"rejected", state.rejected},
                       {"first_rejected", state.first_rejected},
                       {"duplicates", state.duplicates},
                       {"rejected_bytes", state.rejected_bytes},
                       {"hashes", state.hashes},
                       {"text_bytes", state.text_bytes},
                       {"bytes_done", state.bytes_done}};
  base::write_file(folder / kStateName,
                   object.dump(1, ' ', false, json::error_handler_t::replace) + "\n");
}

std::optional<State> read_state(const base::Path& folder) {
  const base::Path path = folder / kStateName;
  if (!std::filesystem::exists(path)) return std::nullopt;
  try {
    return state_of(json::parse(base::read_file(path)));
  } catch (const std::exception& error) {
    base::fail("{} is broken ({}); begin again with --restart", path.string(), error.what());
  }
}

}  // namespace prepare
