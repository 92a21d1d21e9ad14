// The hub's HTTP interface. Source: the hub's API documentation and huggingface_hub's headers.

#include "hub/remote.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <utility>

#include "hub/digest.h"

namespace hub {
namespace {

using Json = nlohmann::json;

constexpr int kMaxRedirects = 10;
constexpr int kMaxPages = 10'000;  // of a listing; a server that never ends is wrong
constexpr std::size_t kMaxPageBytes = std::size_t{256} << 20;
constexpr double kLongestBackOffSeconds = 60;
constexpr int kAttemptsToMeet = 3;

bool may_pass(const Reply& reply) {
  if (!reply.failure.empty()) return reply.transient;
  return reply.status == 408 || reply.status == 429 || reply.status >= 500;
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// How often to try again, and how long to wait before.
class Patience {
 public:
  Patience(const Settings& settings, int attempts, const Pause& pause)
      : settings_(settings), attempts_(attempts), pause_(pause) {}

  /// Something came after all.
  void reset() { failures_ = 0; }

  /// Waits for the next attempt; false when there should be none.
  /// `met`: the hub has answered before. A machine without a network should say so soon.
  bool wait(const Reply& reply, bool met) {
    const int most = met ? attempts_ : std::min(attempts_, kAttemptsToMeet);
    if (!may_pass(reply) || ++failures_ >= most) return false;
    double seconds = settings_.first_wait_seconds * static_cast<double>(1U << (failures_ - 1));
    seconds = std::min(seconds, kLongestBackOffSeconds);
    seconds = std::max(seconds, reply.retry_after_seconds);
    if (seconds > settings_.longest_wait_seconds) return false;
    pause_(seconds, reply.failure.empty() ? fmt::format("HTTP {}", reply.status) : reply.failure);
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    return true;
  }

 private:
  const Settings& settings_;
  int attempts_;
  const Pause& pause_;
  int failures_ = 0;
};

/// The URL that a "Link" header calls the next page; "" for none.
/// Source: RFC 8288: <URL>; rel="next", <URL>; rel="last".
std::string next_page(const std::string& link) {
  const std::size_t relation = link.find("rel=\"next\"");
  if (relation == std::string::npos) return {};
  const std::size_t begin = link.rfind('<', relation);
  const std::size_t end = link.find('>', begin == std::string::npos ? relation : begin);
  if (begin == std::string::npos || end == std::string::npos || end > relation) return {};
  return link.substr(begin + 1, end - begin - 1);
}

/// An ETag without the marks around it.
std::string plain_tag(std::string tag) {
  if (tag.starts_with("W/")) tag.erase(0, 2);
  std::erase(tag, '"');
  return tag;
}

/// True when a reply of 206 holds the bytes from `offset` on of a file of `size`.
bool is_rest(const Reply& reply, std::uint64_t offset, std::uint64_t size) {
  const std::string range = reply.header("content-range");
  return range.starts_with(fmt::format("bytes {}-", offset)) &&
         (range.ends_with(fmt::format("/{}", size)) || range.ends_with("/*"));
}

/// What a server says, fit for a message: control characters could fake another line.
std::string printable(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }, '?');
  return text;
}

void add_page(const Json& page, Tree& tree) {
  for (const Json& item : page) {
    if (item.at("type") != "file") continue;
    Entry entry;
    entry.blob_id = item.at("oid").get<std::string>();
    entry.size = item.at("size").get<std::uint64_t>();
    entry.xet_hash = item.value("xetHash", std::string());
    if (const auto lfs = item.find("lfs"); lfs != item.end() && lfs->is_object()) {
      entry.sha256 = lfs->at("oid").get<std::string>();
      entry.size = lfs->at("size").get<std::uint64_t>();
    }
    tree[item.at("path").get<std::string>()] = std::move(entry);
  }
}

}  // namespace

Remote::Remote(const Settings& settings, const Spec& spec, Pause pause)
    : settings_(settings),
      spec_(spec),
      pause_(std::move(pause)),
      connection_(settings.stall_seconds),
      hub_(origin_of(settings.endpoint)),
      name_((spec.kind == Kind::kModel ? "model " : "data set ") + spec.repository) {}

std::string Remote::api(const std::string& rest) const {
  return settings_.endpoint + (spec_.kind == Kind::kModel ? "/api/models/" : "/api/datasets/") +
         spec_.repository + rest;
}

std::string Remote::file_url(const std::string& commit, const std::string& name) const {
  return settings_.endpoint + (spec_.kind == Kind::kModel ? "/" : "/datasets/") + spec_.repository +
         "/resolve/" + commit + "/" + quote(name, /*keep_slashes=*/true);
}

/// One exchange, over redirects. The headers of a file are the hub's own, not those of the host
/// that it sends us to: HEAD stays on the hub.
Reply Remote::follow(Request request, const Sink& sink) {
  Reply reply;
  for (int hop = 0; hop <= kMaxRedirects; ++hop) {
    const std::string origin = origin_of(request.url);
    request.token = origin == hub_ ? settings_.token : "";
    reply = connection_.send(request, sink);
    met_ = met_ || reply.status != 0;
    if (!reply.failure.empty() || !reply.redirect()) return reply;
    const std::string next = resolve_url(request.url, reply.header("location"));
    const std::string next_origin = origin_of(next);
    reply.transient = false;
    if (next_origin.empty() ||
        (origin.starts_with("https:") && !next_origin.starts_with("https:"))) {
      reply.failure =
          fmt::format("{} redirects to '{}'", origin, printable(reply.header("location")));
      return reply;
    }
    if (request.head && next_origin != hub_) return reply;
    request.url = next;
  }
  reply.failure = fmt::format("redirected more than {} times", kMaxRedirects);
  return reply;
}

Reply Remote::get_page(const std::string& url, int attempts, std::string& body) {
  Patience patience(settings_, attempts, pause_);
  for (;;) {
    body.clear();
    const Reply reply = follow({.url = url}, [&](const Reply&, std::string_view bytes) {
      body += bytes;
      return body.size() <= kMaxPageBytes;
    });
    if (reply.ok()) return reply;
    if (!patience.wait(reply, met_)) refuse(reply, "");
  }
}

std::string Remote::commit(int attempts) {
  std::string body;
  get_page(api("/revision/" + quote(spec_.revision, /*keep_slashes=*/false)), attempts, body);
  std::string commit;
  if (const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false); json.is_object()) {
    const auto found = json.find("sha");
    if (found != json.end() && found->is_string()) commit = found->get<std::string>();
  }
  if (!is_hex(commit, kCommitDigits)) {
    base::fail("{}: {} answers without a commit; is HF_ENDPOINT a hub?", name_, settings_.endpoint);
  }
  return commit;
}

Tree Remote::tree(const std::string& commit) {
  Tree tree;
  std::string url = api("/tree/" + commit + "?recursive=true&expand=false");
  for (int page = 0; !url.empty(); ++page) {
    if (page == kMaxPages) base::fail("{}: the list of its files does not end", name_);
    std::string body;
    const Reply reply = get_page(url, settings_.attempts, body);
    try {
      add_page(Json::parse(body), tree);
    } catch (const Json::exception&) {
      base::fail("{}: the list of its files is not as expected; is {} a hub?", name_,
                 settings_.endpoint);
    }
    const std::string next = next_page(reply.header("link"));
    url = next.empty() ? "" : resolve_url(url, next);
  }
  for (const auto& [name, entry] : tree) {
    if (!is_safe_name(name) || !is_content_hash(entry.hash())) {
      base::fail("{}: the hub lists a file that cannot be kept: '{}' with hash '{}'", name_,
                 printable(name), printable(entry.hash()));
    }
  }
  return tree;
}

void Remote::check(const std::string& commit, const std::string& name, const Entry& entry) {
  Patience patience(settings_, settings_.attempts, pause_);
  Reply reply;
  for (;;) {
    reply = follow({.url = file_url(commit, name), .head = true},
                   [](const Reply&, std::string_view) { return true; });
    if (reply.failure.empty() && reply.status >= 200 && reply.status < 400) break;
    if (!patience.wait(reply, met_)) refuse(reply, name);
  }
  const std::string served = reply.header("x-repo-commit");
  if (!served.empty() && served != commit) {
    base::fail("{}: {}: expected commit {}, the hub serves {}", name_, name, commit,
               printable(served));
  }
  const std::string linked = reply.header("x-linked-etag");
  const std::string hash = plain_tag(linked.empty() ? reply.header("etag") : linked);
  // Other tags (a mirror's own) say nothing about the content.
  if (is_content_hash(hash) && hash != entry.hash()) {
    base::fail("{}: {}: expected hash {} as listed, the hub serves {}; try again later", name_,
               name, entry.hash(), hash);
  }
  const auto size = number(reply.header("x-linked-size"));
  if (size && *size != entry.size) {
    base::fail("{}: {}: expected {} bytes as listed, the hub serves {}; try again later", name_,
               name, entry.size, *size);
  }
}

void Remote::fetch(const std::string& commit, const std::string& name, const Entry& entry,
                   PartialFile& file, const std::function<void(std::uint64_t bytes)>& received) {
  Patience patience(settings_, settings_.attempts, pause_);
  std::uint64_t furthest = file.size();
  while (file.size() < entry.size) {
    bool begun = false;
    bool too_much = false;
    bool other_range = false;
    const Sink sink = [&](const Reply& so_far, std::string_view bytes) {
      if (!std::exchange(begun, true) && file.size() > 0) {
        other_range = so_far.status == 206 && !is_rest(so_far, file.size(), entry.size);
        if (other_range) return false;
        if (so_far.status != 206) file.restart();  // the server knows no ranges
      }
      too_much = bytes.size() > entry.size - file.size();
      if (too_much) return false;
      file.append(bytes);
      received(bytes.size());
      return true;
    };
    Reply reply = follow({.url = file_url(commit, name), .from = file.size()}, sink);
    if (too_much) {
      file.restart();
      base::fail(
          "{}: {}: the server sends more than the {} bytes that the hub lists; try again "
          "later",
          name_, name, entry.size);
    }
    if (other_range || reply.status == 416) {
      file.restart();
      reply.failure = "the server sent another part of the file";
      reply.transient = true;
    }
    if (file.size() > furthest) patience.reset();
    furthest = std::max(furthest, file.size());
    if (file.size() == entry.size) return;
    if (reply.ok()) {
      reply.failure = fmt::format("the server ended after {} of {} bytes", file.size(), entry.size);
    }
    if (!patience.wait(reply, met_)) refuse(reply, name);
  }
}

std::string Remote::login_advice() const {
  return fmt::format("put a token from {}/settings/tokens into HF_TOKEN or {}", settings_.endpoint,
                     settings_.token_file.string());
}

void Remote::refuse_missing(const Reply& reply, const std::string& file) const {
  const std::string code = reply.header("x-error-code");
  if (code == "RevisionNotFound") {
    base::fail("{}: it has no revision '{}' (HTTP {}); see {}/{} for its branches", name_,
               spec_.revision, reply.status, settings_.endpoint,
               (spec_.kind == Kind::kModel ? "" : "datasets/") + spec_.repository);
  }
  if (code == "EntryNotFound" || (code.empty() && !file.empty())) {
    base::fail("{}: it has no file {} at revision '{}' (HTTP {})", name_,
               file.empty() ? "list" : file, spec_.revision, reply.status);
  }
  base::fail("{}: not found on {} (HTTP {}); check the name and revision '{}'{}", name_,
             settings_.endpoint, reply.status, spec_.revision,
             settings_.token.empty() ? ", and if it is private, " + login_advice() : "");
}

void Remote::refuse(const Reply& reply, const std::string& file) const {
  const std::string subject = file.empty() ? name_ : name_ + ": " + file;
  const std::string page =
      settings_.endpoint + (spec_.kind == Kind::kModel ? "/" : "/datasets/") + spec_.repository;
  if (!reply.failure.empty()) {
    throw Unreachable(fmt::format(
        "{}: cannot get it from {}: {}; check the network and run it again{}", subject,
        settings_.endpoint, reply.failure, file.empty() ? "" : " to go on where it stopped"));
  }
  const bool gated = reply.header("x-error-code") == "GatedRepo";
  if (reply.status == 403 || (reply.status == 401 && gated)) {
    base::fail("{}: access is refused: it is gated or private (HTTP {}); ask for access at {}{}",
               subject, reply.status, page,
               settings_.token.empty() ? ", then " + login_advice()
                                       : " with the account of the token in use");
  }
  if (reply.status == 401 && settings_.token.empty()) {
    base::fail("{}: it does not exist, or is private or gated (HTTP 401); check the name, or {}",
               subject, login_advice());
  }
  if (reply.status == 401) {
    base::fail(
        "{}: the token is refused (HTTP 401); it is read from HF_TOKEN or {}: renew it at "
        "{}/settings/tokens",
        subject, settings_.token_file.string(), settings_.endpoint);
  }
  if (reply.status == 404) refuse_missing(reply, file);
  if (reply.status == 429) {
    base::fail("{}: too many requests (HTTP 429{}); wait, or {}", subject,
               reply.retry_after_seconds > 0
                   ? fmt::format(", asks to wait {:.0f} s", reply.retry_after_seconds)
                   : "",
               settings_.token.empty() ? login_advice() : "run it again later");
  }
  if (reply.status >= 500) {
    throw Unreachable(fmt::format("{}: {} is in trouble (HTTP {}); run it again later", subject,
                                  settings_.endpoint, reply.status));
  }
  base::fail("{}: {} answers with HTTP {}", subject, settings_.endpoint, reply.status);
}

}  // namespace hub
