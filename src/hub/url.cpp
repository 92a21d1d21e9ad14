// URLs, through libcurl's parser, and what both sides of a connection need.

#include <curl/curl.h>

#include <algorithm>
#include <cctype>

#include "base/error.h"
#include "hub/http.h"

namespace hub {

std::string lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return result;
}

namespace {

/// A URL taken apart.
class Url {
 public:
  explicit Url(const std::string& text) : handle_(curl_url()) { set(text); }
  ~Url() { curl_url_cleanup(handle_); }
  Url(const Url&) = delete;
  Url& operator=(const Url&) = delete;
  /// A relative reference changes the URL that is there.
  void set(const std::string& text) {
    valid_ = curl_url_set(handle_, CURLUPART_URL, text.c_str(), 0) == CURLUE_OK;
  }
  std::string part(CURLUPart which, unsigned flags = 0) const {
    char* text = nullptr;
    if (!valid_ || curl_url_get(handle_, which, &text, flags) != CURLUE_OK) return {};
    std::string result = text;
    curl_free(text);
    return result;
  }

 private:
  CURLU* handle_;
  bool valid_ = false;
};

}  // namespace

std::string Reply::header(const std::string& name) const {
  const auto found = headers.find(name);
  return found == headers.end() ? std::string() : found->second;
}

std::string origin_of(const std::string& url) {
  const Url parsed(url);
  const std::string scheme = parsed.part(CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") return {};
  return scheme + "://" + lower(parsed.part(CURLUPART_HOST)) + ":" +
         parsed.part(CURLUPART_PORT, CURLU_DEFAULT_PORT);
}

std::string resolve_url(const std::string& base, const std::string& reference) {
  Url url(base);
  url.set(reference);
  return url.part(CURLUPART_URL);
}

std::string quote(std::string_view text, bool keep_slashes) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (byte < 0x80 && std::isalnum(byte) != 0) || c == '-' || c == '_' ||
                       c == '.' || c == '~' || (c == '/' && keep_slashes);
    result += plain ? std::string(1, c) : fmt::format("%{:02X}", byte);
  }
  return result;
}

}  // namespace hub
