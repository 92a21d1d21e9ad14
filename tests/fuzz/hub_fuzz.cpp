// Any replies of a hub: what a fetch keeps has the hash that was listed and lies in the cache, the
// token goes to the hub alone, and all else is refused with one line.
//
// Replies stand one after another, separated by a line "%%": the status, headers, an empty line,
// the body. This file has the place of hub/http.cpp.

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <string>

#include "base/error.h"
#include "hub/digest.h"
#include "hub/http.h"
#include "hub/hub.h"
#include "temporary.h"

namespace {

constexpr std::string_view kEndpoint = "http://hub.test";
constexpr std::string_view kToken = "secret";
std::string_view replies;  // that are still to come

/// Cuts off what stands before `mark`, and the mark.
std::string_view take(std::string_view& text, std::string_view mark) {
  const std::size_t at = std::min(text.find(mark), text.size());
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(std::min(text.size(), at + mark.size()));
  return taken;
}

/// Nothing that was fetched differs from what it is named by.
void check(const hub::Fetched& fetched, const base::Path& cache) {
  const base::Path root = std::filesystem::canonical(cache);
  for (const base::Path& path : fetched.paths()) {
    const base::Path blob = std::filesystem::canonical(path);
    if (!blob.string().starts_with(root.string() + "/")) std::abort();
    const std::string content = base::read_file(blob);
    hub::Digest digest(blob.filename(), content.size());
    digest.update(std::as_bytes(std::span(content)));
    if (digest.finish() != blob.filename()) std::abort();
  }
}

}  // namespace

namespace hub {

struct Connection::State {};
Connection::Connection(double) {}
Connection::~Connection() = default;

Reply Connection::send(const Request& request, const Sink& sink) {
  const bool to_hub = origin_of(request.url) == origin_of(std::string(kEndpoint));
  if (!request.token.empty() && !to_hub) std::abort();
  Reply reply;
  if (replies.empty()) {
    reply.failure = "no more replies";
    reply.transient = false;
    return reply;
  }
  std::string_view body = take(replies, "\n%%\n");
  const std::string_view status = take(body, "\n");
  std::from_chars(status.data(), status.data() + status.size(), reply.status);
  while (!body.empty()) {
    std::string_view line = take(body, "\n");
    if (line.empty()) break;
    const std::string_view name = take(line, ": ");
    reply.headers[std::string(name)] = line;
  }
  if (reply.status == 0) reply.failure = "no reply";
  if (request.head || !reply.ok()) return reply;
  while (!body.empty()) {
    const std::size_t count = std::min<std::size_t>(body.size(), 1000);
    if (!sink(reply, body.substr(0, count))) {
      reply.failure = "cut by the receiver";
      break;
    }
    body.remove_prefix(count);
  }
  return reply;
}

}  // namespace hub

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::Folder folder("hub");
  hub::Settings settings;
  settings.endpoint = kEndpoint;
  settings.token = kToken;
  settings.cache = folder.path() / "cache";
  settings.first_wait_seconds = 0;
  settings.longest_wait_seconds = 0;
  settings.attempts = 3;
  replies = {reinterpret_cast<const char*>(data), size};
  for (int round = 0; round < 2; ++round) {  // the second one meets what the first one left
    try {
      hub::Spec spec;
      spec.kind = hub::Kind::kDataset;
      spec.repository = "owner/name";
      check(hub::fetch_dataset(settings, spec, {}), settings.cache);
    } catch (const base::Error& error) {
      fuzz::check_message(error);
    }
  }
  std::filesystem::remove_all(settings.cache);
  return 0;
}
