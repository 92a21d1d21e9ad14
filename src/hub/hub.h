#pragma once
/// The Hugging Face hub: repositories of models and data sets -> files in the user's cache.
///
/// Law: the network lives here and nowhere else. What appears under a name in the cache is complete
/// and its hash was checked; the cache is laid out as huggingface_hub's, so that both share it. The
/// token goes to the hub alone, never to a host that it redirects to.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace hub {

inline constexpr std::string_view kDefaultRevision = "main";

/// Where the hub is, who asks, where files are kept, and how patient to be.
struct Settings {
  std::string endpoint = "https://huggingface.co";
  std::string token;                  ///< "" to ask as nobody
  base::Path token_file;              ///< named in advice
  base::Path cache;                   ///< holds models--OWNER--NAME, datasets--OWNER--NAME, .locks
  bool offline = false;               ///< never touch the network
  double stall_seconds = 30;          ///< a connection that brings nothing for so long is cut
  int attempts = 6;                   ///< in a row that bring nothing, before giving up
  double first_wait_seconds = 1;      ///< before the second attempt; doubles with each
  double longest_wait_seconds = 300;  ///< a server that asks for more is an error
};

/// The value of an environment variable, or nothing.
using Lookup = std::function<std::optional<std::string>(const char* name)>;

/// Settings as huggingface_hub reads them: HF_ENDPOINT, HF_TOKEN (or the file HF_TOKEN_PATH, else
/// HF_HOME/token), HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_HUB_DOWNLOAD_TIMEOUT; XDG_CACHE_HOME
/// and HOME where those are absent. Throws Error for a value that cannot be used.
Settings settings_from(const Lookup& variable);

enum class Kind { kModel, kDataset };

/// What to fetch.
struct Spec {
  Kind kind = Kind::kModel;
  std::string repository;                  ///< OWNER/NAME
  std::string revision{kDefaultRevision};  ///< branch, tag or commit
  std::string glob;                        ///< of files; "" for the usual ones
};

/// True for a word that begins with "hf:".
bool is_hub_spec(std::string_view word);
/// Reads "hf:OWNER/NAME[@revision][:glob]". Throws Error naming what is wrong with it.
Spec parse_dataset(std::string_view word);
/// A model's name, with or without "hf:", and its revision. Throws Error naming what is wrong.
Spec parse_model(std::string_view name, std::string_view revision);

/// How far a fetch is; given about ten times a second, from the calling thread.
struct Progress {
  std::string file;  ///< being fetched
  std::size_t files_done = 0;
  std::size_t files_total = 0;
  std::uint64_t bytes_done = 0;  ///< of all files, those in the cache before included
  std::uint64_t bytes_total = 0;
  std::uint64_t bytes_received = 0;  ///< by this call
  double seconds = 0;
  double wait_seconds = 0;  ///< above 0: nothing happens for so long, because of `reason`
  std::string reason;
};
using Report = std::function<void(const Progress&)>;

/// What a fetch brought.
struct Fetched {
  base::Path folder;               ///< the snapshot in the cache: links to the files' content
  std::vector<std::string> names;  ///< of the files below it, sorted
  std::string commit;
  std::uint64_t bytes_received = 0;
  std::string unreachable;  ///< why the hub did not answer, where the cache served instead
  /// folder / name of each.
  std::vector<base::Path> paths() const;
};

/// Brings what a model directory needs (config, safetensors, tokenizer files) into the cache.
/// An interrupted fetch goes on where it ended. Without the hub a complete model in the cache
/// serves. Throws Error in one line for all that can go wrong.
Fetched fetch_model(const Settings& settings, const Spec& spec, const Report& report);

/// The same for a data set's files: those that the glob matches ('*' also matches '/'), else all
/// its Parquet files, else all its JSONL files.
Fetched fetch_dataset(const Settings& settings, const Spec& spec, const Report& report);

/// Copies fetched files into `folder`, each complete or not at all; files of the same name are
/// replaced.
void copy_to(const Fetched& fetched, const base::Path& folder);

}  // namespace hub
