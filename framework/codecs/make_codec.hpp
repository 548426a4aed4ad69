#pragma once

#include "framework/codecs/codec.hpp"

/// The codecs one by one; docs/codecs.md. make_codec_pair puts them together.
namespace isthmus {

/// fp32 as it is: 32 bit per parameter.
std::shared_ptr<const codec> make_none_codec(float limit);
/// Blocks of 256 with an fp32 scale, round to nearest even: 8.125 bit per parameter.
std::shared_ptr<const codec> make_int8_codec(float limit);
/// SparseLoCo (arXiv:2508.15706): top 64 of 4096, 12-bit indices, 2-bit values with a table a tensor: 0.219 bit per parameter.
std::shared_ptr<const codec> make_sparse_loco_codec();
/// The exact sum of SparseLoCo frames: the union of their indices with fp32 values.
std::shared_ptr<const codec> make_sparse_union_codec();

}  // namespace isthmus
