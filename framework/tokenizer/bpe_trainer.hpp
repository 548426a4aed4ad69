#pragma once

#include "framework/core/expected.hpp"
#include "framework/tokenizer/counts.hpp"
#include "framework/tokenizer/tokenizer.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace isthmus {

struct bpe_options {
  std::int64_t vocabulary = 2048;  // special tokens, 256 bytes and merges
  std::vector<std::string> specials{"<|endoftext|>"};
  std::uint64_t pair_count_minimum = 1;  // stop before a merge that is rarer
};

/// Byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909): merges the most frequent pair again and again, of equally frequent
/// ones that with the smaller ids, as Hugging Face `tokenizers` does. Ids: specials, the 256 bytes in GPT-2's order, merges.
/// The same counts give the same model, whichever sites they came from. Errors: vocabulary too small for the alphabet, or more
/// than the counts can fill.
expected<bpe_model> train_bpe(const pre_token_counts& counts, const bpe_options& options);

}  // namespace isthmus
