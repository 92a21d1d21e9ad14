// From a name to files in the cache: what is listed, what is there, what has to come.

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "hub/cache.h"
#include "hub/hub.h"
#include "hub/partial.h"
#include "hub/remote.h"
#include "hub/select.h"

namespace hub {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> names_of(const Tree& tree) {
  std::vector<std::string> names;
  for (const auto& [name, entry] : tree) names.push_back(name);
  return names;
}

/// One fetch of one repository.
class Fetch {
 public:
  Fetch(const Settings& settings, const Spec& spec, const Report& report)
      : settings_(settings),
        spec_(spec),
        report_(report),
        cache_(settings.cache, spec),
        remote_(settings, spec,
                [this](double seconds, const std::string& reason) { tell_wait(seconds, reason); }) {
  }

  Fetched run() {
    if (settings_.offline) return from_cache("HF_HUB_OFFLINE is set");
    std::optional<Held> held = complete_in_cache();
    // A commit never changes: where all of it is there, there is nothing to ask.
    if (held && held->listed && held->fetched.commit == spec_.revision) return held->fetched;
    std::string commit;
    Tree tree;
    try {
      // Nobody should wait long for what is there already.
      commit = remote_.commit(held ? std::min(2, settings_.attempts) : settings_.attempts);
      if (std::optional<Tree> known = cache_.tree(commit)) {
        tree = std::move(*known);
      } else {
        tree = remote_.tree(commit);
        cache_.remember(commit, tree);
      }
    } catch (const Unreachable& error) {
      if (!held) throw;
      held->fetched.unreachable = error.what();
      return held->fetched;
    }
    return bring(commit, tree);
  }

 private:
  /// What the cache holds of the revision, where that is all that is wanted.
  struct Held {
    Fetched fetched;
    bool listed = false;  ///< a list of the commit's files says so; else nobody knows
  };

  /// Nothing where a file is missing. A snapshot without a list (an older huggingface_hub kept
  /// none) passes for complete, which is better than nothing without a network, and only there.
  std::optional<Held> complete_in_cache() const {
    const std::optional<std::string> commit = cache_.commit_of(spec_.revision);
    if (!commit) return std::nullopt;
    const std::optional<Tree> tree = cache_.tree(*commit);
    const std::vector<std::string> names = tree ? names_of(*tree) : cache_.names_of(*commit);
    Held held{{cache_.snapshot(*commit), {}, *commit, 0, {}}, tree.has_value()};
    try {
      held.fetched.names = select(spec_, names, remote_.name());
    } catch (const base::Error&) {
      return std::nullopt;  // the hub may have more by now
    }
    for (const std::string& name : held.fetched.names) {
      if (!cache_.holds(*commit, name)) return std::nullopt;
    }
    return held;
  }

  Fetched from_cache(std::string_view why) const {
    if (const std::optional<Held> held = complete_in_cache()) return held->fetched;
    const std::optional<std::string> commit = cache_.commit_of(spec_.revision);
    const std::optional<Tree> tree = commit ? cache_.tree(*commit) : std::nullopt;
    if (tree) select(spec_, names_of(*tree), remote_.name());  // throws where that is the reason
    base::fail(
        "{}: revision '{}' is not complete in the cache {}, and {}; fetch it once with the "
        "network",
        remote_.name(), spec_.revision, settings_.cache.string(), why);
  }

  Fetched bring(const std::string& commit, const Tree& tree) {
    Fetched fetched{
        cache_.snapshot(commit), select(spec_, names_of(tree), remote_.name()), commit, 0, {}};
    std::vector<std::string> missing;
    for (const std::string& name : fetched.names) {
      const Entry& entry = tree.at(name);
      progress_.bytes_total += entry.size;
      if (cache_.holds(commit, name)) {
        done_bytes_ += entry.size;
      } else {
        missing.push_back(name);
      }
    }
    progress_.files_total = fetched.names.size();
    progress_.files_done = fetched.names.size() - missing.size();
    if (!missing.empty()) {
      cache_.create();
      check_space(missing, tree);
    }
    for (const std::string& name : missing) {
      bring_file(commit, name, tree.at(name));
      ++progress_.files_done;
      done_bytes_ += tree.at(name).size;
    }
    cache_.remember(spec_.revision, commit);
    fetched.bytes_received = progress_.bytes_received;
    return fetched;
  }

  void check_space(const std::vector<std::string>& missing, const Tree& tree) const {
    std::uint64_t needed = 0;
    for (const std::string& name : missing) {
      const Entry& entry = tree.at(name);
      std::error_code absent;
      if (fs::exists(cache_.blob(entry.hash()), absent)) continue;
      const std::uintmax_t there = fs::file_size(partial_name(entry), absent);
      needed += entry.size - (absent ? 0 : std::min<std::uint64_t>(there, entry.size));
    }
    const std::uint64_t free = base::free_disk_bytes(cache_.folder());
    if (needed > free) {
      base::fail(
          "{}: no space in {}: {} bytes are to come, {} are free; free some space, or set "
          "HF_HOME to a folder on another disk",
          remote_.name(), settings_.cache.string(), needed, free);
    }
  }

  base::Path partial_name(const Entry& entry) const {
    return cache_.blob(entry.hash()).string() + ".incomplete";
  }

  void bring_file(const std::string& commit, const std::string& name, const Entry& entry) {
    progress_.file = name;
    tell(0, /*force=*/true);
    const ContentLock lock(cache_.lock(entry.hash()),
                           [&] { tell_wait(0, "another program is fetching " + name); });
    std::error_code absent;
    if (!fs::exists(cache_.blob(entry.hash()), absent)) bring_content(commit, name, entry);
    cache_.link(commit, name, entry.hash());
    tell(entry.size, /*force=*/true);
  }

  void bring_content(const std::string& commit, const std::string& name, const Entry& entry) {
    remote_.check(commit, name, entry);
    // What an earlier run left may be damaged: then it is fetched anew, once.
    for (bool inherited = true; inherited;) {
      PartialFile file(partial_name(entry), entry.hash(), entry.size);
      inherited = file.size() > 0;
      remote_.fetch(commit, name, entry, file, [&](std::uint64_t bytes) {
        progress_.bytes_received += bytes;
        tell(file.size(), /*force=*/false);
      });
      if (file.verify()) return file.commit(cache_.blob(entry.hash()));
      file.discard();
    }
    base::fail(
        "{}: {}: what arrived does not have the hash {} that the hub lists; it was thrown "
        "away, run it again",
        remote_.name(), name, entry.hash());
  }

  void tell(std::uint64_t bytes_of_file, bool force) {
    constexpr double kInterval = 0.1;
    const double now = base::seconds(base::Clock::kWall);
    if (!report_ || (!force && now - last_told_ < kInterval)) return;
    last_told_ = now;
    progress_.bytes_done = done_bytes_ + bytes_of_file;
    progress_.seconds = now - began_;
    report_(progress_);
  }

  void tell_wait(double seconds, const std::string& reason) {
    if (!report_) return;
    Progress waiting = progress_;
    waiting.wait_seconds = seconds;
    waiting.reason = reason;
    report_(waiting);
  }

  const Settings& settings_;
  const Spec& spec_;
  const Report& report_;
  Cache cache_;
  Remote remote_;
  Progress progress_;
  std::uint64_t done_bytes_ = 0;  // of complete files
  double began_ = base::seconds(base::Clock::kWall);
  double last_told_ = 0;
};

}  // namespace

std::vector<base::Path> Fetched::paths() const {
  std::vector<base::Path> result;
  for (const std::string& name : names) result.push_back(folder / name);
  return result;
}

Fetched fetch_model(const Settings& settings, const Spec& spec, const Report& report) {
  return Fetch(settings, spec, report).run();
}

Fetched fetch_dataset(const Settings& settings, const Spec& spec, const Report& report) {
  return Fetch(settings, spec, report).run();
}

void copy_to(const Fetched& fetched, const base::Path& folder) {
  for (const std::string& name : fetched.names) {
    const base::Path place = folder / name;
    base::create_folders(place.parent_path());
    const base::Path temporary = place.string() + ".tmp." + std::to_string(::getpid());
    std::error_code error;
    fs::copy_file(fetched.folder / name, temporary, fs::copy_options::overwrite_existing, error);
    if (!error) fs::rename(temporary, place, error);
    if (error) {
      std::error_code ignored;
      fs::remove(temporary, ignored);
      base::fail("cannot write {}: {}", place.string(), error.message());
    }
    base::sync_file(place);
  }
  base::sync_folder(folder);
}

}  // namespace hub
