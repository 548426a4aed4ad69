#include "framework/transport/http_post.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <cstring>

namespace isthmus {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using tcp = boost::asio::ip::tcp;

constexpr std::uint64_t answer_bytes_max = 64U << 20;

tcp::endpoint endpoint_of(const socket_address& a) {
  tcp::endpoint out;
  out.resize(a.size);
  std::memcpy(out.data(), a.get(), a.size);
  return out;
}

unexpected trouble(const boost::system::error_code& why) {
  if (why == beast::error::timeout || why == boost::asio::error::operation_aborted) return fail(errc::timed_out, "no answer in time");
  if (why == http::error::body_limit) return fail(errc::too_large, "an answer of more than " + std::to_string(answer_bytes_max) + " bytes");
  return fail(errc::disconnected, why.message());
}

}  // namespace

expected<http_answer> http_post(const socket_address& to, const std::string& path, const std::string& json, duration patience) {
  boost::asio::io_context loop;
  beast::tcp_stream stream(loop);
  stream.expires_after(patience);  // of all that follows: it is set once
  http::request<http::string_body> request(http::verb::post, path, 11);
  request.set(http::field::host, to.text());
  request.set(http::field::content_type, "application/json");
  request.keep_alive(false);
  request.body() = json;
  request.prepare_payload();
  http::response_parser<http::string_body> answer;
  answer.body_limit(answer_bytes_max);
  beast::flat_buffer bytes;

  boost::system::error_code failed;
  const auto then = [&](auto next) {
    return [&failed, next](const boost::system::error_code& e, auto&&...) {
      failed = e;
      if (!e) next();
    };
  };
  stream.async_connect(endpoint_of(to), then([&] {
                         http::async_write(stream, request, then([&] { http::async_read(stream, bytes, answer, then([] {})); }));
                       }));
  loop.run();
  if (failed) return trouble(failed);
  return http_answer{answer.get().result_int(), std::move(answer.get().body())};
}

}  // namespace isthmus
