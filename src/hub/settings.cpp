// What the user says: environment variables and the names of repositories.

#include <algorithm>
#include <cctype>
#include <charconv>
#include <system_error>

#include "base/error.h"
#include "hub/http.h"
#include "hub/hub.h"

namespace hub {
namespace {

constexpr std::string_view kPrefix = "hf:";
constexpr std::size_t kMaxRepositoryBytes = 193;  // 96 for each of owner and name

/// The first of the variables that is set to something.
std::string first_of(const Lookup& variable, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const std::optional<std::string> value = variable(name);
    if (value && !value->empty()) return *value;
  }
  return {};
}

/// The switches that huggingface_hub takes for on.
bool is_true(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return word == "1" || word == "ON" || word == "YES" || word == "TRUE";
}

/// "~/x" below the user's home.
base::Path expanded(const std::string& path, const std::string& home) {
  if (path != "~" && !path.starts_with("~/")) return path;
  return base::Path(home) / base::Path(path).relative_path().lexically_relative("~");
}

base::Path home_of_hub(const Lookup& variable, const std::string& home) {
  if (const std::string set = first_of(variable, {"HF_HOME"}); !set.empty()) {
    return expanded(set, home);
  }
  if (const std::string set = first_of(variable, {"XDG_CACHE_HOME"}); !set.empty()) {
    return expanded(set, home) / "huggingface";
  }
  return base::Path(home) / ".cache" / "huggingface";
}

/// Without white space around it; an error where it could break out of a header.
std::string checked_token(std::string token, std::string_view origin) {
  const auto space = [](unsigned char c) { return std::isspace(c) != 0; };
  while (!token.empty() && space(static_cast<unsigned char>(token.back()))) token.pop_back();
  token.erase(token.begin(), std::find_if_not(token.begin(), token.end(), space));
  const auto odd = [](unsigned char c) { return c <= ' ' || c >= 0x7f; };
  if (std::any_of(token.begin(), token.end(), odd)) {
    base::fail("the token in {} holds white space or characters that no token has", origin);
  }
  return token;
}

std::string find_token(const Lookup& variable, const base::Path& file) {
  if (const std::string token = first_of(variable, {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"});
      !token.empty()) {
    return checked_token(token, "HF_TOKEN");
  }
  if (is_true(first_of(variable, {"HF_HUB_DISABLE_IMPLICIT_TOKEN"}))) return {};
  std::error_code absent;
  if (!std::filesystem::is_regular_file(file, absent)) return {};
  return checked_token(base::read_file(file), file.string());
}

double seconds_of(const std::string& text, const char* name) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value > 0) || value > 1e6) {
    base::fail("{}: expected seconds, a number above 0, got '{}'", name, text);
  }
  return value;
}

/// OWNER/NAME, or the NAME of the few repositories without an owner.
bool is_repository(std::string_view name) {
  if (name.empty() || name.size() > kMaxRepositoryBytes) return false;
  if (std::count(name.begin(), name.end(), '/') > 1) return false;
  const auto valid = [](unsigned char c) {
    return (c < 0x80 && std::isalnum(c) != 0) || c == '-' || c == '_' || c == '.' || c == '/';
  };
  if (!std::all_of(name.begin(), name.end(), valid)) return false;
  const std::size_t slash = name.find('/');
  const auto part = [](std::string_view text) {
    return !text.empty() && text.front() != '.' && text.front() != '-' && text.back() != '.' &&
           text.back() != '-';
  };
  // "--" joins owner and name in the cache.
  if (name.find("--") != std::string_view::npos || name.find("..") != std::string_view::npos) {
    return false;
  }
  return slash == std::string_view::npos
             ? part(name)
             : part(name.substr(0, slash)) && part(name.substr(slash + 1));
}

/// What git takes for a name of a branch or tag; it becomes a path in the cache.
bool is_revision(std::string_view text) {
  const auto odd = [](unsigned char c) {
    return c <= ' ' || c == 0x7f ||
           std::string_view("~^:?*[\\").find(static_cast<char>(c)) != std::string_view::npos;
  };
  return !text.empty() && text.front() != '/' && text.back() != '/' &&
         text.find("..") == std::string_view::npos && text.find("//") == std::string_view::npos &&
         !text.starts_with("./") && text.find("/.") == std::string_view::npos && text != "." &&
         std::none_of(text.begin(), text.end(), odd);
}

void check(const Spec& spec, std::string_view word) {
  if (!is_repository(spec.repository)) {
    base::fail("{}: expected OWNER/NAME as on the hub's pages, got '{}'", word, spec.repository);
  }
  if (!is_revision(spec.revision)) {
    base::fail("{}: '{}' is no name of a branch, tag or commit", word, spec.revision);
  }
}

}  // namespace

Settings settings_from(const Lookup& variable) {
  Settings settings;
  const std::string home = first_of(variable, {"HOME"});
  const base::Path hub_home = home_of_hub(variable, home);
  if (const std::string set = first_of(variable, {"HF_ENDPOINT"}); !set.empty()) {
    settings.endpoint = set;
  }
  while (settings.endpoint.ends_with('/')) settings.endpoint.pop_back();
  if (origin_of(settings.endpoint).empty()) {
    base::fail("HF_ENDPOINT: expected a URL like https://huggingface.co, got '{}'",
               settings.endpoint);
  }
  const std::string token_file = first_of(variable, {"HF_TOKEN_PATH"});
  settings.token_file = token_file.empty() ? hub_home / "token" : expanded(token_file, home);
  settings.token = find_token(variable, settings.token_file);
  const std::string cache = first_of(variable, {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
  settings.cache = cache.empty() ? hub_home / "hub" : expanded(cache, home);
  if (settings.cache.is_relative() && home.empty() && cache.empty()) {
    base::fail("no folder to keep downloads in: HOME is not set; set HF_HOME to one");
  }
  settings.offline = is_true(first_of(variable, {"HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"}));
  if (const std::string set = first_of(variable, {"HF_HUB_DOWNLOAD_TIMEOUT"}); !set.empty()) {
    settings.stall_seconds = seconds_of(set, "HF_HUB_DOWNLOAD_TIMEOUT");
  }
  return settings;
}

bool is_hub_spec(std::string_view word) { return word.starts_with(kPrefix); }

Spec parse_dataset(std::string_view word) {
  Spec spec;
  spec.kind = Kind::kDataset;
  std::string_view rest = word;
  if (is_hub_spec(rest)) rest.remove_prefix(kPrefix.size());
  if (const std::size_t colon = rest.find(':'); colon != std::string_view::npos) {
    spec.glob = rest.substr(colon + 1);
    if (spec.glob.empty()) base::fail("{}: expected a pattern of files behind the last ':'", word);
    rest = rest.substr(0, colon);
  }
  if (const std::size_t at = rest.find('@'); at != std::string_view::npos) {
    spec.revision = rest.substr(at + 1);
    rest = rest.substr(0, at);
  }
  spec.repository = rest;
  check(spec, word);
  return spec;
}

Spec parse_model(std::string_view name, std::string_view revision) {
  Spec spec;
  spec.repository = is_hub_spec(name) ? name.substr(kPrefix.size()) : name;
  spec.revision = revision;
  check(spec, name);
  return spec;
}

}  // namespace hub
