#pragma once
/// A small HTTP server for tests: real sockets, and every way in which a server can misbehave.

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace hub_testing {

struct ServerRequest {
  std::string method;
  std::string target;                          ///< path and query
  std::map<std::string, std::string> headers;  ///< names in lower case
  std::string header(const std::string& name) const;
};

struct ServerReply {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers{};
  std::string body{};
  std::size_t send_bytes = SIZE_MAX;  ///< of the body; then the connection is cut
  bool stall = false;                 ///< after them, say nothing until the server ends
  std::size_t promise = SIZE_MAX;     ///< Content-Length, where it is not the body's
};

/// Serves on 127.0.0.1, each connection on a thread of its own, until destroyed.
class Server {
 public:
  using Handler = std::function<ServerReply(const ServerRequest&)>;
  explicit Server(Handler handler);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// "http://127.0.0.1:PORT", or with another name of this machine.
  std::string url(const std::string& host = "127.0.0.1") const;
  /// All requests so far.
  std::vector<ServerRequest> requests() const;
  /// How many of them had this method and a target that holds `part`.
  int count(const std::string& method, const std::string& part) const;

 private:
  void accept_all();
  void serve(int connection);
  bool answer(int connection, const ServerRequest& request);

  Handler handler_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> ends_ = false;
  mutable std::mutex mutex_;
  std::vector<ServerRequest> requests_;
  std::vector<std::thread> connections_;
  std::thread acceptor_;
};

}  // namespace hub_testing
