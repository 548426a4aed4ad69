#pragma once

#include "framework/core/rng.hpp"
#include "framework/transport/address.hpp"
#include "framework/transport/bulk_receiver.hpp"
#include "framework/transport/bulk_sender.hpp"
#include "framework/transport/call_limits.hpp"
#include "framework/transport/buffer_pool.hpp"
#include "framework/transport/chunk_seal.hpp"
#include "framework/transport/control_connection.hpp"
#include "framework/transport/greeting.hpp"
#include "framework/transport/handshake.hpp"
#include "framework/transport/stream_seal.hpp"
#include "framework/transport/ucx_transport.hpp"
#include "framework/transport/ucx_worker.hpp"

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace isthmus {

/// Everything the transport's one thread owns: the listening socket, the connections, the UCX worker, the links. Only post() and
/// counters() may be called from elsewhere.
class wire_site {
public:
  wire_site(ucx_transport_options options, const clock& time);
  ~wire_site();
  wire_site(const wire_site&) = delete;
  wire_site& operator=(const wire_site&) = delete;

  /// Binds and makes the worker. Errors: environment.
  expected<void> open();
  std::string address() const { return listening_.text(); }
  /// Runs until stop() was posted and connections are closed.
  void run(transport_events events);
  /// Has the thread run this.
  void post(std::function<void()> command);
  link_counters counters(site_id peer) const;

  void keep(site_id peer, const std::string& address);
  void forget(site_id peer);
  void close(site_id peer, error reason);
  void send_control(site_id peer, const shared_bytes& bytes);
  void send_bulk(site_id peer, std::uint64_t id, shared_bytes header, shared_bytes payload);
  void stop();

private:
  enum class stage { connecting, shaking, greeting, welcomed, up, draining, bulk };
  enum class by { us, peer };                                     // who refuses
  static constexpr std::uint64_t listener_tag = 1, wake_tag = 2;  // in epoll, below every session's number

  /// One of both ends, and at the called one what waits for the last message: a stranger may yet be at the other end.
  struct handshake_state {
    std::unique_ptr<caller> calling;
    std::unique_ptr<answerer> called;
    std::unique_ptr<stream_seal> seal;
  };

  /// One TCP connection from its first byte to its last, and the link it carries once it is up.
  struct session {
    explicit session(int socket) : wire(socket) {}
    std::uint64_t id = 0;
    control_connection wire;
    stage at = stage::greeting;
    bool dialled = false, dead = false;
    std::uint32_t interest = 0;  // epoll events asked for
    socket_address remote;
    site_id peer = 0;                            // known when dialled, or by its key; else claimed from the greeting on
    std::unique_ptr<handshake_state> handshake;  // until the channel is sealed
    incarnation_number incarnation = 0;
    time_point deadline{};                    // of the greeting, or of the draining
    std::optional<time_point> part_since;     // of a frame that is not whole yet
    std::uint64_t token = 0, peer_token = 0;  // in chunks to us; in chunks to the peer
    std::unique_ptr<ucx_worker> bulk;
    std::vector<ucx_worker::endpoint_id> endpoints;
    std::size_t probes_owed = 0;  // endpoints that the peer has not heard yet
    bool peer_ready = false;
    std::size_t next_endpoint = 0;
    std::optional<time_point> bulk_failed;
    std::unique_ptr<bulk_sender> outgoing;  // from the greeting on
    std::unique_ptr<bulk_receiver> incoming;
    std::unique_ptr<chunk_sealer> sealer;  // of a sealed link
    std::unique_ptr<chunk_opener> opener;
    std::uint32_t probes_heard = 0;             // of a sealed link, by number
    std::vector<bulk_receiver::arrived> early;  // whole before the link was up
    std::optional<error> violation;             // seen inside UCX, acted upon outside
    time_point next_ping{};
    bool over_tcp = false;                // bulk data go over connections of our own
    std::uint64_t carries = 0;            // a bulk connection: of the session whose data it carries; 0: it is none, or is not told yet
    std::vector<std::uint64_t> carriers;  // those connections, once they have said so
  };

  struct dialled_address {
    socket_address where;
    std::string trouble;  // last thing logged, so that a retry says nothing new
  };
  struct peer_state {
    bool kept = false;
    std::string address_text;
    std::vector<dialled_address> addresses;
    std::size_t turn = 0;        // whose it is, of the addresses
    std::uint64_t session = 0;   // the one that is up, or being dialled
    std::uint32_t attempts = 0;  // turns through all addresses since it was last up
    std::optional<time_point> next_dial;
    incarnation_number incarnation_seen = 0;
    bool ucx_fails = false;  // it can make no endpoint to the peer: bulk data go over TCP
    dialled_address& next() { return addresses[turn % addresses.size()]; }
  };

  // wire_site.cpp: the loop
  link_reach reach() const { return {options_.keys != nullptr, options_.allow_test_network}; }
  void run_commands();
  void wait(bool busy);
  void check_timers();
  void schedule_dial(site_id peer, bool refused);
  time_point next_deadline() const;
  bool flush_all();
  void sweep();
  void log(const std::string& line);
  template <class Change>
  void count(site_id peer, Change change);

  // session_accept.cpp: who calls
  void accept_all();
  void pause_accepting(int trouble);
  void listen_for_connections(bool wanted);
  void make_room();

  // session_control.cpp: connections
  session& add_session(int socket, const socket_address& remote);
  bool we_dial(site_id peer) const;
  void dial(site_id peer);
  static expected<int> connect_socket(const socket_address& to);
  void await_connection(session& s);
  void dial_failed(session& s, const error& why, by whom);
  expected<std::vector<dialled_address>> addresses_in(const std::string& text) const;
  void on_socket(session& s, std::uint32_t events);
  void on_connected(session& s);
  void read_frames(session& s);
  void on_frame(session& s, const control_frame& f);
  void on_admitted_frame(session& s, const control_frame& f);
  void on_greeting(session& s, std::span<const std::byte> body);
  expected<void> accept_greeting(session& s, const greeting& theirs);
  void greet(session& s);
  void refuse(session& s, const error& why);
  void broken(session& s, const error& why, by whom = by::us);
  void admit(session& s);
  void end(session& s, const error& reason, bool tell_peer);
  void drain(session& s);
  session* find(std::uint64_t id);
  session* up_session(site_id peer);

  // session_handshake.cpp: who is there
  void open_conversation(session& s);
  void on_handshake(session& s, const control_frame& f);
  expected<void> take_hello(session& s, std::span<const std::byte> body);
  expected<void> take_confirm(session& s, std::span<const std::byte> body);
  expected<void> take_answer(session& s, std::span<const std::byte> body);
  void seal(session& s, link_secrets secrets);
  bool is_stranger(const session& s) const { return options_.keys && !s.wire.is_sealed(); }
  void log_refused(const session& s, const error& why, const std::string& what);

  // session_tcp.cpp: bulk data over TCP connections of our own
  bool goes_over_tcp(const session& s, const greeting& theirs) const;
  bool open_bulk_connections(session& s);
  void claim_link(session& s);
  void on_claim(session& s, std::span<const std::byte> body);
  void attach(session& s, session& owner);
  void write_chunk(session& carrier, const std::vector<std::byte>& header, session& owner, std::optional<std::span<const std::byte>> chunk);
  void on_chunk(session& s, std::span<const std::byte> body);
  session* roomiest_carrier(session& s);
  void carrier_broke(session& s, const error& why);
  void drop_carriers(session& s);

  // session_bulk.cpp: the bulk path
  expected<void> make_worker(session& s);
  void guard_data_port(const session& s);
  bool open_bulk(session& s, std::span<const std::byte> peer_address);
  void close_bulk(session& s);
  bool progress_bulk();
  bool arm_bulk();
  void pump(session& s);
  std::optional<ucx_worker::place> receive_chunk(std::uint64_t session_id, std::span<const std::byte> header, std::size_t bytes);
  std::vector<std::byte> chunk_front(session& s, const chunk_header& h);
  void send_sealed(session& s, std::vector<std::byte> header, std::span<const std::byte> data);
  std::optional<std::vector<std::byte>> open_front(session& s, std::span<const std::byte> header);
  bool open_data(std::uint64_t session_id, std::span<const std::byte> header, std::span<const std::byte> data, std::byte* to);
  void forged(session& s, const std::string& what);
  void chunk_arrived(std::uint64_t session_id, std::uint64_t transfer, std::uint64_t offset, std::size_t wire_bytes,
                     std::size_t payload_bytes, bool ok);
  void on_acknowledge(session& s, std::span<const std::byte> body);
  void fit_window(session& s);

  ucx_transport_options options_;
  const clock& time_;
  transport_events events_;
  socket_address listening_;
  int listener_ = -1, epoll_ = -1, wake_ = -1;
  std::unique_ptr<ucx_context> ucx_;
  bool stopping_ = false, told_of_open_ports_ = false;
  std::optional<time_point> accept_again_;  // while accepting pauses
  int accept_trouble_ = 0;                  // errno that was told; 0 once a connection was accepted again

  std::map<std::uint64_t, std::unique_ptr<session>> sessions_;
  std::map<site_id, peer_state> peers_;
  struct old_worker {
    std::unique_ptr<ucx_worker> worker;
    time_point deadline;
  };
  std::vector<old_worker> old_workers_;  // of links that ended, until UCX has let go of everything
  std::uint64_t next_session_ = 16;      // smaller ones name our own descriptors in epoll
  time_point log_window_{};
  std::uint32_t log_lines_ = 0, log_left_out_ = 0;
  call_limits limits_;
  buffer_pool sealed_chunks_;
  time_point next_trim_{};

  std::mutex commands_mutex_;
  std::vector<std::function<void()>> commands_;
  mutable std::mutex counters_mutex_;
  std::map<site_id, link_counters> counters_;
};

template <class Change>
void wire_site::count(site_id peer, Change change) {
  const std::lock_guard lock(counters_mutex_);
  change(counters_[peer]);
}

}  // namespace isthmus
