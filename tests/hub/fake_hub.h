#pragma once
/// A hub with one repository: the API, small files served by itself, large ones by another host.

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "hub/hub.h"
#include "hub/server.h"
#include "temporary_folder.h"

namespace hub_testing {

inline constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";
inline constexpr const char* kToken = "hf_secret";

/// The hash that the hub names a content by: SHA-256 of a large one, git's SHA-1 otherwise.
std::string hash_of(const std::string& content, bool large);
/// Bytes that look random, the same for the same seed.
std::string noise(std::size_t size, unsigned seed);

/// Both hosts, and hooks to make them misbehave.
class FakeHub {
 public:
  explicit FakeHub(hub::Kind kind = hub::Kind::kModel, std::string repository = "owner/name");

  /// Adds a file to the repository; a large one comes from the other host.
  void add(const std::string& name, std::string content, bool large = false);
  /// A model directory's usual files and some that it does not need.
  void add_model();

  /// Answers in place of the hub, or of the other host, where it returns something.
  using Hook = std::function<std::optional<ServerReply>(const ServerRequest&)>;
  Hook hub_hook;
  Hook storage_hook;
  std::size_t page_files = 1000;  ///< of a page of the listing
  std::map<std::string, std::string> branches = {{"main", kCommit}};

  /// Asks this hub, keeps files in `cache`, and waits next to nothing.
  hub::Settings settings(const TemporaryFolder& cache) const;
  hub::Spec spec() const;
  const std::string& content(const std::string& name) const { return files_.at(name).content; }
  std::string hash(const std::string& name) const;
  Server& hub() { return *hub_; }
  Server& storage() { return *storage_; }
  /// The part of a body that a request's Range asks for.
  static ServerReply ranged(const ServerRequest& request, const std::string& content);

 private:
  struct File {
    std::string content;
    bool large = false;
  };
  ServerReply answer(const ServerRequest& request);
  ServerReply answer_tree(const std::string& target) const;
  ServerReply answer_file(const ServerRequest& request, const std::string& name) const;
  ServerReply answer_storage(const ServerRequest& request);

  hub::Kind kind_;
  std::string repository_;
  std::map<std::string, File> files_;
  std::unique_ptr<Server> storage_;
  std::unique_ptr<Server> hub_;
};

}  // namespace hub_testing
