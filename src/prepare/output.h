#pragma once
/// The output folder: claimed by one run, finished or as it was before. Private to the room.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "data/data.h"
#include "prepare/state.h"

namespace prepare {

/// What decides the output: two runs with equal arguments write the same bytes.
nlohmann::json arguments_of(const data::Manifest& manifest);

/// The manifest of a finished output with the same arguments as `planned`; nothing where the folder
/// holds no finished output. Throws Error for one with other arguments, naming them, and for one
/// whose shards are damaged.
std::optional<data::Manifest> find_finished(const base::Path& folder,
                                            const data::Manifest& planned);

/// Hashes of the documents seen, for --dedup.
inline constexpr std::string_view kDocumentsName = "documents.seen";

/// A folder being filled. Locked against a second run; marked by a file with the arguments, so that
/// what a killed run left is recognised and the same command goes on with it.
class Output {
 public:
  /// Takes an absent folder (and creates it), an empty one, or one that a run with the same
  /// arguments and inputs left unfinished. With `restart`, takes any that is prepared or
  /// unfinished, and empties it. Throws Error, and leaves it as it is, for anything else.
  Output(base::Path folder, const data::Manifest& planned, bool restart = false);
  /// Without commit() and save(): removes what was written, and the folders that were created.
  ~Output();
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  const base::Path& folder() const { return folder_; }
  /// Where the unfinished run stands that was found here.
  const std::optional<State>& state() const { return state_; }
  /// Removes all files of a run but these.
  void remove_except(const std::vector<std::string>& kept);
  /// Keeps the state, and with it the folder.
  void save(const State& state);
  /// Writes the manifest, with which the output is finished.
  void commit(const data::Manifest& manifest);

 private:
  void create();
  void clear();
  void claim(const std::string& marker);
  void refuse_foreign_files() const;
  void remove_ours() noexcept;

  base::Path folder_;
  std::vector<base::Path> created_;  // innermost first
  std::optional<base::FolderLock> lock_;
  std::optional<State> state_;
  bool claimed_ = false;
  bool keep_ = false;
};

}  // namespace prepare
