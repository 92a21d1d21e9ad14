#pragma once
/// One HTTP request at a time, through libcurl: no retries, no redirects followed, no tokens kept.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace hub {

struct Request {
  std::string url;
  bool head = false;       ///< ask for the headers alone
  std::string token{};     ///< "" for none
  std::uint64_t from = 0;  ///< ask for the bytes from here on
};

/// What came back.
struct Reply {
  long status = 0;                             ///< 0 when there was none
  std::map<std::string, std::string> headers;  ///< names in lower case
  double retry_after_seconds = 0;              ///< what the server asks for; 0 for nothing
  std::string failure;    ///< why the exchange did not complete; "" when it did
  bool transient = true;  ///< a failure that may pass

  /// "" when absent.
  std::string header(const std::string& name) const;
  bool ok() const { return failure.empty() && status >= 200 && status < 300; }
  bool redirect() const { return status >= 300 && status < 400 && !header("location").empty(); }
};

/// Takes the body of a reply of 2xx as it comes; false cuts the connection. May throw.
using Sink = std::function<bool(const Reply& so_far, std::string_view bytes)>;

/// A connection that is kept open between requests.
class Connection {
 public:
  explicit Connection(double stall_seconds);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Network trouble is told in the reply; only `sink` throws.
  Reply send(const Request& request, const Sink& sink);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// ASCII letters in lower case.
std::string lower(std::string_view text);
/// "scheme://host:port" of a URL; "" for what is no HTTP URL.
std::string origin_of(const std::string& url);
/// `reference`, which may be relative, as seen from `base`; "" for what is no URL.
std::string resolve_url(const std::string& base, const std::string& reference);
/// Percent-encoded for a URL; slashes stay if `keep_slashes`.
std::string quote(std::string_view text, bool keep_slashes);

}  // namespace hub
