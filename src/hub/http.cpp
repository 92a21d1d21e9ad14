// libcurl's easy interface behind one function.

#include "hub/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <exception>
#include <utility>

#include "base/clock.h"
#include "base/error.h"

namespace hub {
namespace {

constexpr long kConnectSeconds = 15;
constexpr long kBufferBytes = 512 * 1024;  // a call of the sink; curl's largest

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) {
    text.remove_prefix(1);
  }
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) {
    text.remove_suffix(1);
  }
  return text;
}

/// What the callbacks of one exchange share.
struct Exchange {
  CURL* handle = nullptr;
  Reply reply;
  const Sink* sink = nullptr;
  std::exception_ptr thrown;  // exceptions must not cross C
  bool cut = false;           // by the sink
  double stall_seconds = 0;
  double last_seconds = base::seconds(base::Clock::kWall);  // when something came last
  curl_off_t bytes = 0;                                     // until then
  bool stalled = false;
};

std::size_t take_header(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::string_view line(data, size * count);
  // A reply may follow another: of a proxy, or "100 Continue".
  if (line.starts_with("HTTP/")) exchange.reply.headers.clear();
  if (const std::size_t colon = line.find(':'); colon != std::string_view::npos) {
    exchange.reply.headers[lower(line.substr(0, colon))] = trimmed(line.substr(colon + 1));
  }
  return size * count;
}

std::size_t take_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& exchange = *static_cast<Exchange*>(user);
  const std::size_t bytes = size * count;
  curl_easy_getinfo(exchange.handle, CURLINFO_RESPONSE_CODE, &exchange.reply.status);
  if (!exchange.reply.ok()) return bytes;  // an error's page
  try {
    exchange.cut = !(*exchange.sink)(exchange.reply, {data, bytes});
  } catch (...) {
    exchange.thrown = std::current_exception();
    exchange.cut = true;
  }
  return exchange.cut ? 0 : bytes;
}

/// Called at least once a second. curl's own watch over slow transfers (CURLOPT_LOW_SPEED_TIME)
/// looks at an average and is five seconds late.
int watch(void* user, curl_off_t, curl_off_t bytes, curl_off_t, curl_off_t) {
  auto& exchange = *static_cast<Exchange*>(user);
  const double now = base::seconds(base::Clock::kWall);
  if (bytes != exchange.bytes) {
    exchange.bytes = bytes;
    exchange.last_seconds = now;
  }
  exchange.stalled = now - exchange.last_seconds > exchange.stall_seconds;
  return exchange.stalled ? 1 : 0;
}

/// What waiting does not mend.
bool is_lasting(CURLcode code) {
  constexpr std::array kLasting = {
      CURLE_UNSUPPORTED_PROTOCOL, CURLE_URL_MALFORMAT,    CURLE_PEER_FAILED_VERIFICATION,
      CURLE_SSL_CACERT_BADFILE,   CURLE_SSL_ISSUER_ERROR, CURLE_SSL_CERTPROBLEM,
      CURLE_OUT_OF_MEMORY,        CURLE_FAILED_INIT,
  };
  return std::find(kLasting.begin(), kLasting.end(), code) != kLasting.end();
}

/// A list of request headers that frees itself.
class HeaderList {
 public:
  ~HeaderList() { curl_slist_free_all(list_); }
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;
  void add(const std::string& line) { list_ = curl_slist_append(list_, line.c_str()); }
  curl_slist* get() const { return list_; }

 private:
  curl_slist* list_ = nullptr;
};

}  // namespace

struct Connection::State {
  CURL* handle = nullptr;
  double stall_seconds = 0;
  std::array<char, CURL_ERROR_SIZE> message{};

  State() = default;
  ~State() { curl_easy_cleanup(handle); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  void set_up(const Request& request, const HeaderList& headers, Exchange& exchange);
};

Connection::Connection(double stall_seconds) : state_(std::make_unique<State>()) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);  // once a process
  state_->handle = ready == CURLE_OK ? curl_easy_init() : nullptr;
  if (state_->handle == nullptr) base::fail("libcurl cannot be started");
  state_->stall_seconds = stall_seconds;
}

Connection::~Connection() = default;

void Connection::State::set_up(const Request& request, const HeaderList& headers,
                               Exchange& exchange) {
  curl_easy_reset(handle);  // keeps the connections
  message[0] = '\0';
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, message.data());
  curl_easy_setopt(handle, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_NOBODY, request.head ? 1L : 0L);
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle, CURLOPT_USERAGENT, "gpt2");
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, kBufferBytes);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, watch);
  curl_easy_setopt(handle, CURLOPT_XFERINFODATA, &exchange);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, take_header);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_body);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &exchange);
}

Reply Connection::send(const Request& request, const Sink& sink) {
  HeaderList headers;
  headers.add("Accept-Encoding: identity");  // sizes and hashes are the file's own
  if (!request.token.empty()) headers.add("Authorization: Bearer " + request.token);
  if (request.from > 0) headers.add(fmt::format("Range: bytes={}-", request.from));
  Exchange exchange;
  exchange.handle = state_->handle;
  exchange.sink = &sink;
  exchange.stall_seconds = state_->stall_seconds;
  state_->set_up(request, headers, exchange);
  const CURLcode code = curl_easy_perform(state_->handle);
  if (exchange.thrown) std::rethrow_exception(exchange.thrown);
  Reply& reply = exchange.reply;
  curl_easy_getinfo(state_->handle, CURLINFO_RESPONSE_CODE, &reply.status);
  curl_off_t wait = 0;
  curl_easy_getinfo(state_->handle, CURLINFO_RETRY_AFTER, &wait);
  reply.retry_after_seconds = static_cast<double>(wait);
  if (exchange.cut) {
    reply.failure = "cut by the receiver";
  } else if (exchange.stalled) {
    reply.failure = fmt::format("nothing came for {:g} s", state_->stall_seconds);
  } else if (code != CURLE_OK) {
    reply.failure = state_->message[0] != '\0' ? state_->message.data() : curl_easy_strerror(code);
    reply.transient = !is_lasting(code);
  }
  return std::move(reply);
}

}  // namespace hub
