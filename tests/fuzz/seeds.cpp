#include "framework/checkpoint/manifest.hpp"
#include "framework/core/hash.hpp"
#include "framework/data/token_shard.hpp"
#include "framework/rounds/coordinator_log.hpp"
#include "framework/rounds/ledger.hpp"
#include "framework/sim/disk.hpp"
#include "framework/tokenizer/piece_tokenizer.hpp"
#include "framework/tokenizer/tokenizer.hpp"
#include "framework/transport/chunk_header.hpp"
#include "framework/transport/greeting.hpp"
#include "framework/wire/wire.hpp"
#include "tests/fuzz/targets.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace isthmus::fuzz {

namespace {

using bytes = std::vector<std::byte>;

bytes bytes_of(std::string_view text) {
  const auto all = std::as_bytes(std::span(text.data(), text.size()));
  return {all.begin(), all.end()};
}

const epoch_view view{3, {{0, 1, false, 0}, {1, 2, true, 0}}, {{0, 0, 4, 2, {1, 2}, {3, 4}, 1}}, "site 1 came back"};

round_record record() {
  round_record r;
  r.round = r.epoch = 1;
  r.contributors = {{0, 1, 10, 640, {{0, 0, 20}}, 0.5}};
  r.tokens_total = 640;
  r.weight = 1;
  r.mass = 0.5;
  return r;
}

/// On the control path, or header and payload behind one another (see frames()).
bytes framed(const peer_message& message, std::string_view payload) {
  const wire::framer sender("fuzz", {3, 9});
  const auto out = sender.pack({message, payload.empty() ? nullptr : make_shared_bytes(bytes_of(payload))});
  const auto header = out.header->bytes();
  bytes all;
  const auto add = [&](std::span<const std::byte> part) {
    for (const std::byte b : part) all.push_back(b);
  };
  all.push_back(static_cast<std::byte>(out.bulk ? header.size() / 8 : 0));  // a frame is whole words
  add(header);
  if (out.bulk) add(out.payload->bytes());
  return all;
}

void add_wire(std::vector<seed>& out) {
  const held_record held{0, 4, 2, {1, 2}, {3, 4}};
  out.push_back({"frames", "join", framed(message::join{2, {held}}, "")});
  out.push_back({"frames", "epoch", framed(message::new_epoch{view}, "")});
  out.push_back({"frames", "sealed", framed(message::sealed{3, {held}}, "")});
  out.push_back({"frames", "frozen", framed(message::frozen{3, {held}}, "")});
  out.push_back({"frames", "freeze", framed(message::freeze{3}, "")});
  out.push_back({"frames", "call", framed(message::call{3, 0, 5}, "")});
  out.push_back({"frames", "pass", framed(message::pass{3, 0, 5}, "")});
  out.push_back({"frames", "refused", framed(message::refused{3, 0, 5, static_cast<std::uint32_t>(errc::stale_round), "too late"}, "")});
  out.push_back({"frames", "delta", framed(message::delta{record()}, "0123456789abcdef")});
  out.push_back({"frames", "contribution", framed(message::contribution{3, 0, 5, record().contributors[0], {5, 6}, {7, 8}}, "0123456789")});
  out.push_back({"frames", "state", framed(message::state_part{3, 0, 4, 1, record(), record().contributors}, "01234567")});
  out.push_back({"frames", "actor", framed(message::to_actor{"tally"}, "votes")});

  greeting g;
  g.hello.run_id = "fuzz";
  g.hello.version = wire::version;
  g.hello.recipe_hash = {1, 2};
  g.hello.site = 3;
  g.hello.incarnation = 9;
  g.to = 1;
  g.link_token = 77;
  g.worker_address = bytes_of("worker address");
  out.push_back({"greetings", "greeting", write_greeting(g)});
  out.push_back({"greetings", "reason", write_reason({errc::wrong_recipe, "recipes differ"})});
  bytes stream;
  for (const auto& [kind, body] :
       {std::pair{std::byte{6}, bytes(8)}, std::pair{std::byte{4}, bytes(20)}, std::pair{std::byte{8}, bytes()}}) {
    const bytes front{static_cast<std::byte>(body.size() + 1), std::byte{0}, std::byte{0}, std::byte{0}, kind};
    stream.insert(stream.end(), front.begin(), front.end());
    stream.insert(stream.end(), body.begin(), body.end());
  }
  out.push_back({"greetings", "stream", stream});

  const auto recorded = record_handshake();
  const auto staged = [](unsigned stage, const bytes& message) {
    bytes all(1 + message.size());
    all[0] = static_cast<std::byte>(stage);
    std::ranges::copy(message, all.begin() + 1);
    return all;
  };
  out.push_back({"handshakes", "hello", staged(0, recorded.hello)});
  out.push_back({"handshakes", "answer", staged(1, recorded.answer)});
  out.push_back({"handshakes", "confirm", staged(2, recorded.confirm)});
  out.push_back({"handshakes", "frame", staged(3, bytes(40))});
  out.push_back({"handshakes", "chunk", staged(4, bytes(80))});

  const auto header = bytes_of("a message's header");
  out.push_back({"chunks", "first", write_chunk_header({77, 1, 3 << 20, 0, 1 << 20, header})});
  out.push_back({"chunks", "last", write_chunk_header({77, 1, (2 << 20) + 5, 2 << 20, 1 << 20, {}})});
  const auto front = write_chunk_header({77, 1, 5, 0, 1 << 20, header});
  std::vector<std::byte> frame(2 + front.size() + 5);
  write_bulk_front(front, frame);
  out.push_back({"bulk_frames", "whole", frame});
  out.push_back({"bulk_frames", "empty", bytes(2)});
  const auto join = record_join();
  out.push_back({"joins", "request", staged(0, join.request)});
  out.push_back({"joins", "entered", staged(1, join.entered)});
  out.push_back({"joins", "refused", staged(1, join.refused)});
}

void add_recipes(std::vector<seed>& out) {
  out.push_back({"recipes", "small", bytes_of(R"([run]
name = "small"
tokens = 64_000
[model]
pattern = ["attention", "mamba2"]
n_layers = 4
d_model = 64
[train]
context = 32
tokens_per_step = 64
learning_rate = 2e-3
[round]
codec = "int8"
[data]
vocabulary = 300
[links]
heartbeat_ms = 100
[checkpoint]
every_rounds = 3
[[sites]]
name = "alpha"
source = "perl"
address = "127.0.0.1:4000"
[[sites]]
name = "beta"
source = "vim"
home = false
[[faults]]
at_round = 4
kind = "kill"
site = "beta"
)")});
  out.push_back({"recipes", "odd",
                 bytes_of("[model]\nlayers = [{a.b = [1, 2.5e3, 1979-05-27T07:32:00Z]}, '''x''', \"\\u00e9\"]\n[x.y]\n'z' = 0x_1\n")});
}

void add_files(std::vector<seed>& out) {
  token_shard shard;
  shard.name = "perl";
  shard.vocabulary = 300;
  shard.tokenizer = {1, 2};
  shard.content = {3, 4};
  shard.train.tokens = std::vector<std::uint16_t>{1, 2, 3, 4, 299, 0, 7};
  shard.train.document_ends = {3, 7};
  shard.held_out.tokens = std::vector<std::uint16_t>{9, 8};
  shard.held_out.document_ends = {2};
  out.push_back({"shards", "narrow", encode_shard(shard)});
  shard.vocabulary = 70'000;
  shard.train.tokens = std::vector<std::uint32_t>{1, 69'999, 3};
  shard.train.document_ends = {3};
  shard.held_out = {};
  shard.held_out.tokens = std::vector<std::uint32_t>{};
  out.push_back({"shards", "wide", encode_shard(shard)});

  checkpoint_manifest manifest;
  manifest.sequence = 7;
  manifest.facts.run_id = "fuzz";
  manifest.facts.recipe_hash = {1, 2};
  manifest.facts.step = 30;
  manifest.facts.groups = {{0, 4, 2, {1, 2}, {3, 4}}};
  manifest.facts.state = R"({"cursor":"{}","groups":[]})";
  manifest.files = {{"model", {1000, {5, 6}}}, {"moment1", {1000, {7, 8}}}};
  out.push_back({"manifests", "two_files", bytes_of(write_manifest(manifest))});

  sim::disk memory;
  const auto disk = memory.open("run");
  const std::vector<float> floats{1, 2, 3, 4};
  auto matrix = view_of("layers.0.weight", std::span(floats));
  matrix.shape = {2, 2};
  const std::vector<std::uint64_t> words{1, 2};
  static_cast<void>(write_safetensors(*disk, "x.safetensors", std::vector{matrix, view_of("words", std::span(words))}, {{"made", "by"}}));
  out.push_back({"tensors", "two", *disk->read("x.safetensors", 10'000)});

  bpe_model model;
  for (int byte = 0; byte < 256; ++byte) model.tokens.emplace_back(1, static_cast<char>(byte));
  model.tokens.insert(model.tokens.end(), {"th", "the", "<|endoftext|>"});
  model.merges = {{'t', 'h', 256}, {256, 'e', 257}};
  model.specials = {258};
  out.push_back({"tokenizers", "small", bytes_of(to_tokenizer_json(model))});
  model.pattern = pre_token_pattern::llama3;
  model.whole_words = true;
  out.push_back({"tokenizers", "llama3", bytes_of(to_tokenizer_json(model))});
  model.around = {{258}, {256, 258}};
  out.push_back({"tokenizers", "template", bytes_of(to_tokenizer_json(model))});
  piece_model pieces{{"<unk>", "<s>", "</s>"}, {0, 0, 0}, {piece_kind::unknown, piece_kind::control, piece_kind::control}};
  for (int byte = 0; byte < 256; ++byte) pieces.pieces.push_back(fmt::format("<0x{:02X}>", byte));
  pieces.kinds.resize(pieces.pieces.size(), piece_kind::byte);
  pieces.pieces.insert(pieces.pieces.end(), {"T", "h", "Th", "\u2581", "\u2581Th"});
  pieces.kinds.resize(pieces.pieces.size(), piece_kind::normal);
  pieces.scores.resize(pieces.pieces.size());
  out.push_back({"tokenizers", "characters", bytes_of(to_tokenizer_json(pieces, true, {{1}, {}}))});
}

void add_ledgers(std::vector<seed>& out) {
  coordinator_entry entry;
  entry.view = {1, {{0, 1, false, 0}}, {{0, 0, 0, 0, {}, {}, 0}}, "begin"};
  const auto first = to_line(entry);
  std::string text = "#" + first.substr(0, first.rfind(",\"sum\"")) + "}\n";
  ledger::mass_line mass{"formed", 0, 0, 1, 0, 0.5, 0.5, 1, 0, 0, 0};
  for (const auto& line :
       {ledger::started(1), ledger::entered(1, 0, 0), ledger::granted(1, {0, 0, 20}), ledger::mass(mass), ledger::stored(record()),
        ledger::committed(record(), {0}), ledger::applied(record(), true), ledger::aggregator(0, 1, 1, "kept", 0),
        ledger::checkpoint("c", "saving", {1, 1}), ledger::checkpoint("c", "durable", {1, 1}), ledger::returned({0, 20, 30}, "stop"),
        ledger::partial({0, 0, 20}, {0}), ledger::written_off({0, 30, 40}, "gone"), ledger::voided(record(), 2),
        ledger::copied(record(), 1, 2), ledger::diverged(0, 1, {1, 2}, {3, 4}), ledger::checkpoint_loaded("c", {1, 1}, 1),
        ledger::reopened("void"), ledger::ended("finished")})
    text += "{\"site\":0,\"incarnation\":1," + line.substr(1) + "\n";
  out.push_back({"ledgers", "every_line", bytes_of(text)});
}

}  // namespace

std::vector<seed> seeds() {
  std::vector<seed> out;
  add_wire(out);
  add_recipes(out);
  add_files(out);
  add_ledgers(out);
  for (auto& seed : format_seeds()) out.push_back(std::move(seed));
  for (auto& seed : gguf_model_seeds()) out.push_back(std::move(seed));
  return out;
}

}  // namespace isthmus::fuzz
