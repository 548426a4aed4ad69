#include "framework/transport/stream_seal.hpp"

#include <sodium.h>

namespace isthmus {

namespace {

const unsigned char* raw(std::span<const std::byte> bytes) { return reinterpret_cast<const unsigned char*>(bytes.data()); }

static_assert(stream_seal::overhead == crypto_secretstream_xchacha20poly1305_ABYTES);
static_assert(secret::size == crypto_secretstream_xchacha20poly1305_KEYBYTES);

}  // namespace

struct stream_seal::states {
  crypto_secretstream_xchacha20poly1305_state out{}, in{};
  ~states() {
    sodium_memzero(&out, sizeof out);
    sodium_memzero(&in, sizeof in);
  }
};

stream_seal::stream_seal(const secret& out_key) : states_(std::make_unique<states>()) {
  start_sodium();
  crypto_secretstream_xchacha20poly1305_init_push(&states_->out, reinterpret_cast<unsigned char*>(header_.data()), out_key.raw());
}

stream_seal::~stream_seal() = default;

void stream_seal::begin_reading(const secret& in_key, const stream_header& theirs) {
  crypto_secretstream_xchacha20poly1305_init_pull(&states_->in, raw(theirs), in_key.raw());
}

void stream_seal::seal(std::span<const std::byte> front, std::span<const std::byte> plain, bool is_last, std::vector<std::byte>& out) {
  ensure(!wrote_last_, "stream_seal: nothing follows the last frame");
  sealed_ += plain.size();
  unsigned char tag = crypto_secretstream_xchacha20poly1305_TAG_MESSAGE;
  if (sealed_ >= rekey_after) tag = crypto_secretstream_xchacha20poly1305_TAG_REKEY;
  if (is_last) tag = crypto_secretstream_xchacha20poly1305_TAG_FINAL;
  if (tag != crypto_secretstream_xchacha20poly1305_TAG_MESSAGE) sealed_ = 0;
  const std::size_t at = out.size();
  out.resize(at + plain.size() + overhead);
  crypto_secretstream_xchacha20poly1305_push(&states_->out, reinterpret_cast<unsigned char*>(out.data() + at), nullptr, raw(plain),
                                             plain.size(), raw(front), front.size(), tag);
  wrote_last_ = is_last;
}

expected<std::span<const std::byte>> stream_seal::open(std::span<const std::byte> front, std::span<const std::byte> sealed) {
  if (read_last_) return fail(errc::malformed, "control frame: one that follows the last");
  if (sealed.size() < overhead) return fail(errc::malformed, "control frame: too short to be sealed");
  opened_.resize(sealed.size() - overhead);
  unsigned char tag = 0;
  if (crypto_secretstream_xchacha20poly1305_pull(&states_->in, reinterpret_cast<unsigned char*>(opened_.data()), nullptr, &tag, raw(sealed),
                                                 sealed.size(), raw(front), front.size()) != 0)
    return fail(errc::checksum_mismatch, "control frame: it does not open: forged, out of order or changed on its way");
  read_last_ = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
  return std::span<const std::byte>(opened_);
}

}  // namespace isthmus
