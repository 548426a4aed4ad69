#include "framework/transport/address.hpp"
#include "framework/transport/chunk_header.hpp"
#include "framework/transport/chunk_seal.hpp"
#include "framework/transport/control_connection.hpp"
#include "framework/transport/greeting.hpp"
#include "framework/transport/stream_seal.hpp"
#include "framework/transport/ucx_worker.hpp"
#include "tests/framework/transport/keys.hpp"
#include "tests/framework/transport/probe.hpp"

#include <boost/test/unit_test.hpp>

#include <fcntl.h>
#include <sys/socket.h>

#include <chrono>
#include <functional>
#include <thread>

using namespace isthmus;
using namespace isthmus::testing;
using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t chunk = chunk_bytes_min;

/// Site 1 with its true keys, played by the test: it can send what no transport of ours would.
class crafty_peer {
public:
  crafty_peer(const std::string& address, site_id says_it_is = 1) : keys_(keys_of(1)), calling_(*keys_, "test-run", 1, 0), is_(says_it_is) {
    const auto to = *parse_address(address);
    const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ensure(::connect(socket, to.get(), to.size) == 0 && ::fcntl(socket, F_SETFL, O_NONBLOCK) == 0, "connect");
    wire_ = std::make_unique<control_connection>(socket);
    ucx_ = std::move(*ucx_context::make("lo", parse_address("127.0.0.1:0")->host()));
    worker_ = std::move(*ucx_worker::make(*ucx_, [this](std::span<const std::byte> header, std::size_t) { return hear_probe(header); }));
    wire_->write_frame(control_kind::hello, *calling_.hello());
  }

  /// Goes on until the condition holds or nothing can come any more; false after ten seconds.
  bool until(const std::function<bool()>& condition) {
    for (int i = 0; i < 10'000 && !condition(); ++i) {
      worker_->progress();
      if (!is_over) step();
      std::this_thread::sleep_for(1ms);
    }
    return condition();
  }
  bool come_up() {
    return until([&] { return is_up || is_over; }) && is_up;
  }
  /// A chunk of the transfer, sealed, then changed, then sent.
  void send(const chunk_header& h, std::size_t bytes, const std::function<void(std::vector<std::byte>&, std::vector<std::byte>&)>& change) {
    auto front = sealer_->header(write_chunk_header(h));
    auto data = std::make_shared<std::vector<std::byte>>(bytes + chunk_sealer::tag_bytes);
    sealer_->data(front, patterned(bytes, 1)->bytes(), *data);
    change(front, *data);
    worker_->send(endpoint_, std::move(front), data, *data);
  }
  chunk_header header(std::uint64_t transfer, std::uint64_t total, std::uint64_t offset = 0) const {
    return {peer_token_, transfer, total, offset, chunk, {}};
  }
  void probe_again() { send_probe(); }

  bool is_up = false, is_over = false;
  std::size_t acknowledged = 0;
  std::string last_words;

private:
  void step() {
    const auto more = wire_->fill();
    for (;;) {
      const auto frame = wire_->read_frame(2048);
      if (!frame || !*frame) break;
      hear(**frame);
    }
    if (!more || !wire_->flush()) is_over = true;
  }

  void hear(const control_frame& f) {
    if (f.kind == control_kind::answer) return seal_and_greet(f.body);
    if (f.kind == control_kind::greeting) {
      const auto theirs = *read_greeting(f.body, 1);
      peer_token_ = theirs.link_token;
      endpoint_ = *worker_->connect(theirs.worker_address);
      send_probe();
    } else if (f.kind == control_kind::acknowledge) {
      if (acknowledged++ == 0) wire_->write_frame(control_kind::ready, {});
    } else if (f.kind == control_kind::ready) {
      is_up = true;
    } else if (f.kind == control_kind::closing || f.kind == control_kind::refusal) {
      last_words = read_reason(f.body).message;
    }
  }

  void seal_and_greet(std::span<const std::byte> answer) {
    const auto header = *calling_.take_answer(answer);
    auto secrets = calling_.secrets();
    auto seal = std::make_unique<stream_seal>(secrets.control_out);
    seal->begin_reading(secrets.control_in, header);
    wire_->write_frame(control_kind::confirm, calling_.confirm(seal->header()));
    wire_->seal(std::move(seal));
    sealer_ = std::make_unique<chunk_sealer>(std::move(secrets.bulk_out));
    greeting g;
    g.hello = options_of(is_).hello;
    g.link_token = 7;
    g.worker_address.assign(worker_->address().begin(), worker_->address().end());
    wire_->write_frame(control_kind::greeting, write_greeting(g));
  }

  void send_probe() { worker_->send(endpoint_, sealer_->header(write_chunk_header({peer_token_, 0, 0, 0, chunk, {}})), nullptr, {}); }

  /// Every chunk that comes is a probe.
  std::optional<ucx_worker::place> hear_probe(std::span<const std::byte>) {
    wire_->write_frame(control_kind::acknowledge, std::vector<std::byte>(16));
    return std::nullopt;
  }

  std::shared_ptr<const link_keys> keys_;
  caller calling_;
  site_id is_;
  std::unique_ptr<control_connection> wire_;
  std::unique_ptr<ucx_context> ucx_;
  std::unique_ptr<ucx_worker> worker_;
  std::unique_ptr<chunk_sealer> sealer_;
  ucx_worker::endpoint_id endpoint_ = 0;
  std::uint64_t peer_token_ = 0;
};

ucx_transport_options sealed() {
  auto o = options_of(0);
  o.keys = keys_of(0);
  o.transfer_bytes_max = o.incoming_bytes_max = 1U << 20;
  return o;
}

const auto unchanged = [](std::vector<std::byte>&, std::vector<std::byte>&) {};

/// What a link ends with after the peer did something; how many chunks did not open.
void ends(const std::function<void(crafty_peer&)>& act, errc code, const std::string& text, std::uint64_t forged) {
  probe a(sealed());
  a.wire().keep(1, "");
  crafty_peer peer(a.wire().address());
  BOOST_TEST_REQUIRE(peer.come_up());
  BOOST_REQUIRE(a.wait_up());
  act(peer);
  BOOST_TEST(peer.until([&] { return peer.is_over; }));
  BOOST_REQUIRE(a.wait_down());
  const error why = a.now().downs.at(0).second;
  BOOST_TEST((why.code == code), describe(why.code));
  BOOST_TEST(why.message.find(text) != std::string::npos, why.message);
  BOOST_TEST(peer.last_words == why.message);
  BOOST_TEST(a.wire().counters(1).forged == forged);
  BOOST_TEST(a.now().bulks.empty());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(sealed_chunks)

BOOST_AUTO_TEST_CASE(a_peer_that_keeps_to_the_rules_is_heard) {
  probe a(sealed());
  a.wire().keep(1, "");
  crafty_peer peer(a.wire().address());
  BOOST_TEST_REQUIRE(peer.come_up());
  auto first = peer.header(1, chunk + 10);
  const auto words = text_bytes("a message's header");
  first.message_header = words->bytes();
  peer.send(first, chunk, unchanged);
  peer.send(peer.header(1, chunk + 10, chunk), 10, unchanged);
  peer.send(peer.header(2, 0), 0, unchanged);
  BOOST_TEST(peer.until([&] { return a.now().bulks.size() == 2; }));
  BOOST_TEST(same_bytes(a.now().bulks.at(0).header, words));
  BOOST_TEST(a.now().bulks.at(0).payload->size() == chunk + 10U);
  BOOST_TEST(a.wire().counters(1).forged == 0U);
}

BOOST_AUTO_TEST_CASE(a_bit_that_flips_anywhere_in_a_chunk_ends_the_link) {
  const std::size_t front_bytes = 42 + chunk_sealer::header_overhead;
  for (const std::size_t at : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{30}, front_bytes - 1})
    ends([&](crafty_peer& p) { p.send(p.header(1, chunk), chunk, [&](auto& front, auto&) { front[at] ^= std::byte{1}; }); },
         errc::checksum_mismatch, "the header of a chunk of site 1 does not open", 1);
  for (const std::size_t at : {std::size_t{0}, std::size_t{chunk / 2}, std::size_t{chunk - 1}, std::size_t{chunk}, std::size_t{chunk + 15}})
    ends([&](crafty_peer& p) { p.send(p.header(1, chunk), chunk, [&](auto&, auto& data) { data[at] ^= std::byte{0x80}; }); },
         errc::checksum_mismatch, "a chunk of site 1 does not open", 1);
}

BOOST_AUTO_TEST_CASE(chunks_that_are_cut_unsealed_or_come_twice_end_the_link) {
  ends([](crafty_peer& p) { p.send(p.header(1, chunk), chunk, [](auto&, auto& data) { data.pop_back(); }); }, errc::malformed,
       "bytes where its header names", 0);
  ends([](crafty_peer& p) { p.send(p.header(1, chunk), chunk, [](auto& front, auto&) { front.resize(20); }); }, errc::checksum_mismatch,
       "does not open", 1);
  ends(
      [](crafty_peer& p) {
        const auto h = p.header(1, chunk);
        p.send(h, chunk, [&](auto& front, auto&) { front = write_chunk_header(h); });
      },
      errc::checksum_mismatch, "does not open", 1);
  ends(
      [](crafty_peer& p) {
        std::vector<std::byte> first_front, first_data;
        p.send(p.header(1, 2 * chunk), chunk, [&](auto& front, auto& data) { first_front = front, first_data = data; });
        p.send(p.header(1, 2 * chunk, chunk), chunk, [&](auto& front, auto& data) { front = first_front, data = first_data; });
      },
      errc::malformed, "came twice", 0);
  ends(
      [](crafty_peer& p) {  // the data of one under the header of another
        std::vector<std::byte> first_data;
        p.send(p.header(1, 2 * chunk), chunk, [&](auto&, auto& data) { first_data = data; });
        p.send(p.header(1, 2 * chunk, chunk), chunk, [&](auto&, auto& data) { data = first_data; });
      },
      errc::checksum_mismatch, "does not open", 1);
  ends([](crafty_peer& p) { p.send(p.header(1, std::uint64_t{1} << 40), chunk, unchanged); }, errc::too_large, "a payload of", 0);
  ends(
      [](crafty_peer& p) {
        for (int i = 0; i < 20; ++i) p.probe_again();
      },
      errc::malformed, "a probe", 0);
}

BOOST_AUTO_TEST_CASE(a_key_does_not_speak_for_another_site) {
  probe a(sealed());
  a.wire().keep(1, "");
  a.wire().keep(2, "");
  crafty_peer peer(a.wire().address(), 2);
  BOOST_TEST(peer.until([&] { return peer.is_over; }));
  BOOST_TEST(peer.last_words == "the greeting is of site 2, the key of site 1");
  BOOST_TEST(a.now().ups.empty());
}

BOOST_AUTO_TEST_SUITE_END()
