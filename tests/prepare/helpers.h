#pragma once
/// Prepared folders as the tests look at them.

#include <sys/mount.h>

#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/rng.h"
#include "data/helpers.h"
#include "prepare/prepare.h"

namespace prepare_test {

/// Name -> content of every file in a folder.
inline std::map<std::string, std::string> files_in(const base::Path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files[entry.path().filename().string()] = base::read_file(entry.path());
  }
  return files;
}

inline std::vector<std::string> names_in(const base::Path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

inline std::vector<data::TokenId> read_split(const base::Path& folder, data::Split split) {
  const auto stream = data::TokenStream::open(folder, split);
  std::vector<std::int32_t> wide(static_cast<std::size_t>(stream.tokens()));
  stream.read(0, 65536, wide);
  return {wide.begin(), wide.end()};
}

inline prepare::Result prepare_folder(const prepare::Options& options) {
  return prepare::run(options, text::Tokenizer::gpt2(), {});
}

/// A file system of its own at a folder, where the tests may mount one (as root).
class Mount {
 public:
  Mount(const base::Path& folder, unsigned long flags, const std::string& options)
      : folder_(folder),
        mounted_(::mount("tmpfs", folder.c_str(), "tmpfs", flags, options.c_str()) == 0) {}
  ~Mount() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;
  bool mounted() const { return mounted_; }

 private:
  base::Path folder_;
  bool mounted_;
};

/// Words and punctuation, the same for the same seed.
inline std::string sample_text(std::uint64_t seed, std::size_t bytes) {
  static const std::vector<std::string> words = {"the",
                                                 "of",
                                                 "universally",
                                                 "it's",
                                                 "Bennet",
                                                 "1813",
                                                 "caf\xC3\xA9",
                                                 "zyzzyva",
                                                 "a",
                                                 "and",
                                                 "\"well,\"",
                                                 "they'll",
                                                 "--",
                                                 "antidisestablishmentarianism",
                                                 "\xE4\xBD\xA0\xE5\xA5\xBD",
                                                 "\xF0\x9F\x98\x80",
                                                 "x=f(y);"};
  std::string text;
  for (std::uint64_t i = 0; text.size() < bytes; ++i) {
    const std::uint64_t draw = base::random_bits(seed, 0, i);
    text += words[draw % words.size()];
    text += (draw >> 32) % 13 == 0 ? ".\n\n" : (draw >> 32) % 7 == 0 ? ", " : " ";
  }
  return text;
}

}  // namespace prepare_test
