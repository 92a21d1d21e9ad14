// The state as JSON.

#include "prepare/state.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace prepare {
namespace {

using nlohmann::json;

constexpr int kVersion = 2;  // 1: rows of nulls were not counted in positions

json to_json(const SequenceState& state) {
  json shards = json::array();
  for (const data::ShardInfo& shard : state.shards) {
    shards.push_back({shard.file, shard.tokens, shard.crc32c});
  }
  json object = {{"tokens", state.tokens}, {"last", state.last}, {"shards", shards}};
  if (state.open) object["open"] = {state.open->tokens, state.open->crc32c};
  return object;
}

SequenceState sequence_of(const json& object) {
  SequenceState state;
  object.at("tokens").get_to(state.tokens);
  object.at("last").get_to(state.last);
  for (const json& shard : object.at("shards")) {
    state.shards.push_back({shard.at(0), shard.at(1), shard.at(2)});
  }
  if (object.contains("open")) {
    state.open = data::ShardProgress{object["open"].at(0), object["open"].at(1)};
  }
  return state;
}

State state_of(const json& object) {
  if (object.at("version") != kVersion) base::fail("expected version {}", kVersion);
  State state;
  const json& position = object.at("position");
  state.position = {position.at("input"), position.at("record"), position.at("offset"),
                    position.at("text_offset")};
  const json& splitter = object.at("splitter");
  state.splitter = {splitter.at("document"), splitter.at("piece"), splitter.at("piece_tokens")};
  state.train = sequence_of(object.at("train"));
  state.validation = sequence_of(object.at("val"));
  object.at("dropping").get_to(state.dropping);
  object.at("records").get_to(state.records);
  object.at("rejected").get_to(state.rejected);
  object.at("first_rejected").get_to(state.first_rejected);
  object.at("duplicates").get_to(state.duplicates);
  object.at("rejected_bytes").get_to(state.rejected_bytes);
  object.at("hashes").get_to(state.hashes);
  object.at("text_bytes").get_to(state.text_bytes);
  object.at("bytes_done").get_to(state.bytes_done);
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
                       {"train", to_json(state.train)},
                       {"val", to_json(state.validation)},
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
