#pragma once
/// The folder of one repository in the cache, laid out as huggingface_hub's:
///
///   models--OWNER--NAME/blobs/HASH                content
///                       refs/REVISION             the commit that a branch or tag meant last
///                       snapshots/COMMIT/FILE     relative links into blobs/
///                       trees/COMMIT.json         all files of a commit
///   .locks/models--OWNER--NAME/HASH.lock

#include <map>
#include <optional>
#include <string>

#include "base/file.h"
#include "hub/hub.h"

namespace hub {

/// A file of a commit.
struct Entry {
  std::uint64_t size = 0;
  std::string blob_id;   ///< git's SHA-1
  std::string sha256;    ///< of a large file's content, else ""
  std::string xet_hash;  ///< not ours; kept for huggingface_hub
  /// What the content is named by.
  const std::string& hash() const { return sha256.empty() ? blob_id : sha256; }
};
using Tree = std::map<std::string, Entry>;

/// True for a name that stays inside the folder it is put under, without control characters.
bool is_safe_name(std::string_view name);

class Cache {
 public:
  Cache(const base::Path& root, const Spec& spec);

  /// The commit that `revision` is, or meant last; nothing when unknown.
  std::optional<std::string> commit_of(const std::string& revision) const;
  void remember(const std::string& revision, const std::string& commit) const;
  /// The files of a commit; nothing when they were never listed, or not readably.
  std::optional<Tree> tree(const std::string& commit) const;
  void remember(const std::string& commit, const Tree& tree) const;

  base::Path snapshot(const std::string& commit) const;
  base::Path blob(const std::string& hash) const;
  base::Path lock(const std::string& hash) const;
  /// True when the snapshot's file is there with its content.
  bool holds(const std::string& commit, const std::string& name) const;
  /// Names of the files that are there, sorted.
  std::vector<std::string> names_of(const std::string& commit) const;
  /// Makes the snapshot's file a link to the content.
  void link(const std::string& commit, const std::string& name, const std::string& hash) const;
  /// Creates the folders that content and locks go to.
  void create() const;
  const base::Path& folder() const { return folder_; }

 private:
  base::Path root_;
  base::Path folder_;
};

}  // namespace hub
