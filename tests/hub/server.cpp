#include "hub/server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <utility>

namespace hub_testing {
namespace {

/// The next request of a connection; nothing when it ends or the server does.
std::optional<ServerRequest> read_request(int connection, const std::atomic<bool>& ends) {
  std::string text;
  while (!text.ends_with("\r\n\r\n")) {
    pollfd waiting{connection, POLLIN, 0};
    while (::poll(&waiting, 1, 20) == 0) {
      if (ends) return std::nullopt;
    }
    char byte = 0;
    if (::recv(connection, &byte, 1, 0) != 1) return std::nullopt;
    text += byte;
  }
  ServerRequest request;
  const std::size_t first = text.find(' ');
  const std::size_t second = text.find(' ', first + 1);
  request.method = text.substr(0, first);
  request.target = text.substr(first + 1, second - first - 1);
  for (std::size_t at = text.find("\r\n") + 2; at < text.size() - 2;) {
    const std::size_t end = text.find("\r\n", at);
    const std::size_t colon = text.find(':', at);
    std::string name = text.substr(at, colon - at);
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    request.headers[name] = text.substr(colon + 2, end - colon - 2);
    at = end + 2;
  }
  return request;
}

bool send_all(int connection, const std::string& text) {
  std::size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t now = ::send(connection, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (now <= 0) return false;
    sent += static_cast<std::size_t>(now);
  }
  return true;
}

}  // namespace

std::string ServerRequest::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? "" : found->second;
}

Server::Server(Handler handler) : handler_(std::move(handler)) {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (listener_ < 0 || ::bind(listener_, generic, length) != 0 || ::listen(listener_, 64) != 0 ||
      ::getsockname(listener_, generic, &length) != 0) {
    throw std::runtime_error("cannot open a port on 127.0.0.1");
  }
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this] { accept_all(); });
}

Server::~Server() {
  ends_ = true;
  acceptor_.join();
  for (std::thread& connection : connections_) connection.join();
  ::close(listener_);
}

std::string Server::url(const std::string& host) const {
  return "http://" + host + ":" + std::to_string(port_);
}

std::vector<ServerRequest> Server::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

int Server::count(const std::string& method, const std::string& part) const {
  const auto all = requests();
  return static_cast<int>(std::count_if(all.begin(), all.end(), [&](const ServerRequest& request) {
    return request.method == method && request.target.find(part) != std::string::npos;
  }));
}

void Server::accept_all() {
  while (!ends_) {
    pollfd waiting{listener_, POLLIN, 0};
    if (::poll(&waiting, 1, 20) <= 0) continue;
    const int connection = ::accept(listener_, nullptr, nullptr);
    if (connection >= 0) connections_.emplace_back([this, connection] { serve(connection); });
  }
}

void Server::serve(int connection) {
  while (const auto request = read_request(connection, ends_)) {
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(*request);
    }
    if (!answer(connection, *request)) break;
  }
  ::close(connection);
}

/// False when the connection should end.
bool Server::answer(int connection, const ServerRequest& request) {
  const ServerReply reply = handler_(request);
  std::string head = "HTTP/1.1 " + std::to_string(reply.status) + " Status\r\n";
  for (const auto& [name, value] : reply.headers) head += name + ": " + value + "\r\n";
  const std::size_t length = reply.promise == SIZE_MAX ? reply.body.size() : reply.promise;
  head += "Content-Length: " + std::to_string(length) + "\r\n\r\n";
  if (!send_all(connection, head)) return false;
  if (request.method == "HEAD") return true;
  if (!send_all(connection, reply.body.substr(0, reply.send_bytes))) return false;
  while (reply.stall && !ends_) std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return reply.send_bytes >= reply.body.size() && length == reply.body.size() && !reply.stall;
}

}  // namespace hub_testing
