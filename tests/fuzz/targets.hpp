#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What strangers' bytes reach: each target gives the bytes to our readers, which may refuse but never crash, hang or throw. What a
/// reader accepts must survive being written and read again.
namespace isthmus::fuzz {

using input = std::span<const std::byte>;

void frames(input bytes);         // the wire's reader, control and bulk path
void greetings(input bytes);      // the control channel: greeting, refusal, its stream of frames
void handshakes(input bytes);     // the three messages before a link is sealed, and what is sealed after them
void chunks(input bytes);         // the header of a bulk chunk
void bulk_frames(input bytes);    // what travels on a bulk connection of our own
void joins(input bytes);          // a newcomer's request with its token, and the answer to it
void recipes(input bytes);        // a recipe's file
void shards(input bytes);         // a token shard; checksums are put right first, or nothing behind them would be reached
void manifests(input bytes);      // manifest.json of a checkpoint, likewise
void tensors(input bytes);        // a safetensors file
void tokenizers(input bytes);     // tokenizer.json
void safetensors(input bytes);    // a stranger's safetensors file, its tensors read one by one; as `tensors` reads it whole
void shard_indexes(input bytes);  // model.safetensors.index.json
void ggufs(input bytes);          // a GGUF file: its tensors decoded, its vocabulary as a tokenizer
void gguf_models(input bytes);    // the same as a model with its tensors, and its tokenizer at work
void hf_configs(input bytes);     // config.json, and the tensors that it asks for
void ledgers(input bytes);        // a site's ledger, line by line, likewise; then the checker

struct target {
  const char* name;  // its folder below corpus/
  void (*run)(input bytes);
};
inline constexpr target targets[] = {{"frames", frames},
                                     {"greetings", greetings},
                                     {"handshakes", handshakes},
                                     {"chunks", chunks},
                                     {"bulk_frames", bulk_frames},
                                     {"joins", joins},
                                     {"recipes", recipes},
                                     {"shards", shards},
                                     {"manifests", manifests},
                                     {"tensors", tensors},
                                     {"tokenizers", tokenizers},
                                     {"ledgers", ledgers},
                                     {"safetensors", safetensors},
                                     {"shard_indexes", shard_indexes},
                                     {"ggufs", ggufs},
                                     {"gguf_models", gguf_models},
                                     {"hf_configs", hf_configs}};

inline std::string_view as_text(input bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

/// Ends the process where a reader broke its word.
void must(bool holds, const char* what);

/// The handshake that the targets know: site 3 calls site 1, all keys are given.
struct recorded_handshake {
  std::vector<std::byte> hello, answer, confirm;
};
recorded_handshake record_handshake();
struct recorded_join {
  std::vector<std::byte> request, entered, refused;
};
recorded_join record_join();

/// A file of the corpus that reaches deep: written by our own writers.
struct seed {
  std::string target, name;
  std::vector<std::byte> bytes;
};
std::vector<seed> seeds();
/// Of the formats of others: a part of seeds().
std::vector<seed> format_seeds();
std::vector<seed> gguf_model_seeds();

}  // namespace isthmus::fuzz
