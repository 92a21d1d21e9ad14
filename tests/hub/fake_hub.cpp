#include "hub/fake_hub.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"
#include "base/rng.h"
#include "hub/digest.h"

namespace hub_testing {

using Json = nlohmann::json;

std::string hash_of(const std::string& content, bool large) {
  hub::Digest digest(std::string(large ? 64 : 40, '0'), content.size());
  digest.update(base::as_bytes(content));
  return digest.finish();
}

std::string noise(std::size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<char>(base::random_bits(seed, 0, i) & 0xff);
  }
  return bytes;
}

FakeHub::FakeHub(hub::Kind kind, std::string repository)
    : kind_(kind), repository_(std::move(repository)) {
  // A test's own proxy, if the machine has one, must not see these requests.
  ::setenv("no_proxy", "127.0.0.1,localhost", 1);
  storage_ = std::make_unique<Server>([this](const ServerRequest& r) { return answer_storage(r); });
  hub_ = std::make_unique<Server>([this](const ServerRequest& r) { return answer(r); });
}

void FakeHub::add(const std::string& name, std::string content, bool large) {
  files_[name] = {std::move(content), large};
}

void FakeHub::add_model() {
  add("config.json", R"({"n_layer": 1})");
  add("model.safetensors", noise(300'000, 1), /*large=*/true);
  add("vocab.json", R"({"a": 0})");
  add("merges.txt", "#version: 0.2\n");
  add("pytorch_model.bin", noise(1000, 2), /*large=*/true);
  add("README.md", "# A model\n");
  add("onnx/config.json", "{}");
}

hub::Settings FakeHub::settings(const TemporaryFolder& cache) const {
  hub::Settings settings;
  settings.endpoint = hub_->url();
  settings.cache = cache / "hub";
  settings.token_file = cache / "token";
  settings.stall_seconds = 20;
  settings.attempts = 3;
  settings.first_wait_seconds = 0.01;
  settings.longest_wait_seconds = 5;
  return settings;
}

hub::Spec FakeHub::spec() const {
  hub::Spec spec;
  spec.kind = kind_;
  spec.repository = repository_;
  return spec;
}

std::string FakeHub::hash(const std::string& name) const {
  return hash_of(files_.at(name).content, files_.at(name).large);
}

ServerReply FakeHub::ranged(const ServerRequest& request, const std::string& content) {
  const std::string range = request.header("range");
  if (range.empty()) return {.body = content};
  const std::size_t from = std::stoull(range.substr(std::string("bytes=").size()));
  if (from >= content.size()) return {.status = 416};
  const std::string described = "bytes " + std::to_string(from) + "-" +
                                std::to_string(content.size() - 1) + "/" +
                                std::to_string(content.size());
  return {.status = 206, .headers = {{"Content-Range", described}}, .body = content.substr(from)};
}

ServerReply FakeHub::answer(const ServerRequest& request) {
  if (hub_hook) {
    if (const auto reply = hub_hook(request)) return *reply;
  }
  const bool model = kind_ == hub::Kind::kModel;
  const std::string api = (model ? "/api/models/" : "/api/datasets/") + repository_;
  const std::string files =
      (model ? "/" : "/datasets/") + repository_ + "/resolve/" + std::string(kCommit) + "/";
  if (request.target.starts_with(api + "/revision/")) {
    const auto branch = branches.find(request.target.substr((api + "/revision/").size()));
    if (branch == branches.end()) {
      return {.status = 404, .headers = {{"X-Error-Code", "RevisionNotFound"}}};
    }
    return {.body = Json{{"sha", branch->second}, {"siblings", Json::array()}}.dump()};
  }
  if (request.target.starts_with(api + "/tree/" + kCommit)) return answer_tree(request.target);
  if (request.target.starts_with(files)) {
    return answer_file(request, request.target.substr(files.size()));
  }
  return {.status = 404, .headers = {{"X-Error-Code", "RepoNotFound"}}};
}

ServerReply FakeHub::answer_tree(const std::string& target) const {
  const std::size_t cursor = target.find("&cursor=");
  const std::size_t first =
      cursor == std::string::npos ? 0 : std::stoull(target.substr(cursor + 8));
  Json page =
      Json::array({{{"type", "directory"}, {"path", "onnx"}, {"oid", kCommit}, {"size", 0}}});
  std::size_t index = 0;
  for (const auto& [name, file] : files_) {
    const std::size_t here = index++;
    if (here < first || here >= first + page_files) continue;
    Json item = {{"type", "file"},
                 {"path", name},
                 {"size", file.content.size()},
                 {"oid", hash_of(file.content, false)}};
    if (file.large) {
      item["lfs"] = {{"oid", hash_of(file.content, true)},
                     {"size", file.content.size()},
                     {"pointerSize", 130}};
    }
    page.push_back(std::move(item));
  }
  ServerReply reply{.body = page.dump()};
  if (first + page_files < files_.size()) {
    const std::string next =
        hub_->url() + target.substr(0, cursor) + "&cursor=" + std::to_string(first + page_files);
    reply.headers.emplace_back("Link", "<" + next + ">; rel=\"next\"");
  }
  return reply;
}

ServerReply FakeHub::answer_file(const ServerRequest& request, const std::string& name) const {
  const auto found = files_.find(name);
  if (found == files_.end()) {
    return {.status = 404, .headers = {{"X-Error-Code", "EntryNotFound"}}};
  }
  const auto& [content, large] = found->second;
  ServerReply reply;
  if (large) {
    reply.status = 302;
    reply.body = "Found. Redirecting";
    // Another name and another port: another host, whichever way one looks.
    reply.headers = {{"Location", storage_->url("localhost") + "/store/" + name + "?signed=1"},
                     {"X-Linked-Etag", "\"" + hash(name) + "\""},
                     {"X-Linked-Size", std::to_string(content.size())}};
  } else {
    reply = ranged(request, content);
    reply.headers.emplace_back("ETag", "\"" + hash(name) + "\"");
  }
  reply.headers.emplace_back("X-Repo-Commit", kCommit);
  return reply;
}

ServerReply FakeHub::answer_storage(const ServerRequest& request) {
  if (storage_hook) {
    if (const auto reply = storage_hook(request)) return *reply;
  }
  const std::string prefix = "/store/";
  const std::string name =
      request.target.substr(prefix.size(), request.target.find('?') - prefix.size());
  return ranged(request, content(name));
}

}  // namespace hub_testing
