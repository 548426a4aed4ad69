#include "kernels/team.hpp"

#include "kernels/scratch_block.hpp"

namespace isthmus::kernels {

struct serial_team::block : scratch_block {};

serial_team::serial_team() : own_(std::make_unique<block>()), shared_(std::make_unique<block>()) {}
serial_team::~serial_team() = default;

void serial_team::run(std::int64_t tiles, tile_function f) {
  for (std::int64_t tile = 0; tile < tiles; ++tile) f(tile, 0);
}

std::byte* serial_team::scratch(int, std::size_t bytes) { return own_->at_least(bytes); }
std::byte* serial_team::shared_scratch(std::size_t bytes) { return shared_->at_least(bytes); }

}  // namespace isthmus::kernels
