#pragma once
/// The hub's side of one repository: what it lists, what it serves, what it refuses.

#include <functional>
#include <string>

#include "base/error.h"
#include "hub/cache.h"
#include "hub/http.h"
#include "hub/hub.h"
#include "hub/partial.h"

namespace hub {

/// The hub cannot be asked at all; what is in the cache may serve.
class Unreachable : public base::Error {
 public:
  using base::Error::Error;
};

/// Told before a pause, with its length and reason.
using Pause = std::function<void(double seconds, const std::string& reason)>;

/// Requests about one repository. Trouble that may pass (cut and stalled connections, 429, 5xx) is
/// waited for; all else is an Error in one line that says what to do.
class Remote {
 public:
  Remote(const Settings& settings, const Spec& spec, Pause pause);

  /// The commit that the revision is now. `attempts` in place of the settings'.
  std::string commit(int attempts);
  /// All files of a commit.
  Tree tree(const std::string& commit);
  /// Asks for a file's headers. Throws where access is refused or the file is not as listed.
  void check(const std::string& commit, const std::string& name, const Entry& entry);
  /// Appends what is missing of a file; `received` is told of bytes as they come.
  void fetch(const std::string& commit, const std::string& name, const Entry& entry,
             PartialFile& file, const std::function<void(std::uint64_t bytes)>& received);
  /// "model OWNER/NAME", for messages.
  const std::string& name() const { return name_; }

 private:
  std::string api(const std::string& rest) const;
  std::string file_url(const std::string& commit, const std::string& name) const;
  Reply follow(Request request, const Sink& sink);
  Reply get_page(const std::string& url, int attempts, std::string& body);
  [[noreturn]] void refuse(const Reply& reply, const std::string& file) const;
  [[noreturn]] void refuse_missing(const Reply& reply, const std::string& file) const;
  std::string login_advice() const;

  const Settings& settings_;
  const Spec& spec_;
  Pause pause_;
  Connection connection_;
  bool met_ = false;  // the hub has answered
  std::string hub_;   // origin of the endpoint: the only one that gets the token
  std::string name_;
};

}  // namespace hub
