// Any bytes as a token shard, alone and as a folder's train.bin: read, or refused with one line.

#include <algorithm>

#include "base/error.h"
#include "data/data.h"
#include "memory_file.h"
#include "temporary.h"

namespace {

void read_shard(const base::Path& path, std::optional<data::ShardFormat> format,
                std::size_t bytes) {
  try {
    const data::Shard shard(path, format);
    std::uint64_t sum = 0;
    for (const data::TokenId id : shard.tokens()) sum += id;
    if (shard.tokens().size() * sizeof(data::TokenId) > bytes) std::abort();
    volatile std::uint64_t kept = sum;
    (void)kept;
  } catch (const base::Error& error) {
    fuzz::check_message(error);
  }
}

void read_folder(const base::Path& folder) {
  constexpr std::int64_t kVocabulary = 50257;
  try {
    const auto stream = data::TokenStream::open(folder, data::Split::kTrain);
    std::vector<std::int32_t> ids(static_cast<std::size_t>(stream.tokens()));
    stream.read(0, kVocabulary, ids);
    if (std::any_of(ids.begin(), ids.end(), [](auto id) { return id < 0 || id >= kVocabulary; })) {
      std::abort();
    }
    data::Loader loader(stream, 2, 3, data::Order::kShuffled, 1, kVocabulary);
    std::vector<std::int32_t> inputs(6), targets(6);
    for (int i = 0; i < 3; ++i) loader.next(inputs, targets);
  } catch (const base::Error& error) {
    fuzz::check_message(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("shard");
  static const base::Path name = folder.path() / "train.bin";
  const fuzz::MemoryFile memory(std::as_bytes(std::span(data, size)));
  read_shard(memory.path(), data::ShardFormat::kLlmc, size);
  read_shard(memory.path(), data::ShardFormat::kNanogpt, size);
  std::filesystem::remove(name);
  std::filesystem::create_symlink(memory.path(), name);
  read_shard(name, std::nullopt, size);
  read_folder(folder.path());
  return 0;
}
