// Functions of channel mixers, element by element.

/// A function's value and slope.
struct curve {
  vf value, slope;
};

struct silu_curve {
  ISTHMUS_INLINE static curve at(vf x) {
    const vf s = sigmoid(x);
    return {x * s, silu_slope(x, s)};
  }
};

/// Phi(x) = erfc(-x / sqrt 2) / 2; for z = |x| / sqrt 2, erfc(z) exp(z^2) is a minimax polynomial in t = 1 / (1 + 0.43 z), to 1e-7.
struct gelu_curve {
  ISTHMUS_INLINE static curve at(vf x) {
    const vf size = max(x, -x);
    const vf t = 1.0F / (1.0F + 0.304055916F * size);
    vf y = splat(7.314886268e-2F);
    y = y * t - 3.081079676e-1F;
    y = y * t + 3.799079301e-1F;
    y = y * t - 8.232273695e-2F;
    y = y * t + 2.450901275e-1F;
    y = y * t + 2.054697248e-1F;
    y = y * t + 2.442942580e-1F;
    y = y * t + 2.425197892e-1F;
    const vf bell = exp(-0.5F * x * x);
    const vf tail = 0.5F * (y * t) * bell;
    const vf phi = x < vf{} ? tail : 1.0F - tail;
    return {x * phi, phi + 0.398942280F * (x * bell)};
  }
};

/// (1 + tanh(u)) / 2 = sigmoid(2 u).
struct gelu_tanh_curve {
  ISTHMUS_INLINE static curve at(vf x) {
    const vf square = x * x, s = sigmoid(x * (1.59576912F + 0.0713548163F * square));
    return {x * s, s + x * (s * (1.0F - s)) * (1.59576912F + 0.214064449F * square)};
  }
};

struct relu2_curve {
  ISTHMUS_INLINE static curve at(vf x) {
    const vf above = x < vf{} ? vf{} : x;  // a NaN stays one
    return {above * above, 2.0F * above};
  }
};

template <class Curve, bool Gated, class Act>
ISTHMUS_INLINE void activation_rows(stream& s, const activation_args<Act>& a) {
  const std::int64_t wide = Gated ? 2 * a.hidden : a.hidden;
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      const Act* x = a.x + r * wide;
      over(a.hidden, [&](std::int64_t c, auto mask) {
        const vf f = Curve::at(mask.get(x + c)).value;
        mask.put(a.y + r * a.hidden + c, Gated ? f * mask.get(x + a.hidden + c) : f);
      });
    }
  }, step_block);
}

template <class Curve, bool Gated, class Act>
ISTHMUS_INLINE void activation_backward_rows(stream& s, const activation_backward_args<Act>& a) {
  const std::int64_t wide = Gated ? 2 * a.hidden : a.hidden;
  over_row_blocks(s, a.rows, [&](std::int64_t first, std::int64_t rows, std::int64_t, int) {
    for (std::int64_t r = first; r < first + rows; ++r) {
      const Act* x = a.x + r * wide;
      Act* dx = a.dx + r * wide;
      over(a.hidden, [&](std::int64_t c, auto mask) {
        const curve f = Curve::at(mask.get(x + c));
        const vf dy = mask.get(a.dy + r * a.hidden + c);
        if constexpr (Gated) {
          const vf up = mask.get(x + a.hidden + c);
          mask.put(dx + c, dy * up * f.slope);
          mask.put(dx + a.hidden + c, dy * f.value);
          if (a.y) mask.put(a.y + r * a.hidden + c, f.value * up);
        } else {
          mask.put(dx + c, dy * f.slope);
          if (a.y) mask.put(a.y + r * a.hidden + c, f.value);
        }
      });
    }
  });
}

/// call<Curve, Gated>() for the arguments' kind.
template <class Args, class Call>
ISTHMUS_INLINE void with_curve(const Args& a, Call&& call) {
  const auto gated_or_not = [&]<class Curve>() {
    a.gated ? call.template operator()<Curve, true>() : call.template operator()<Curve, false>();
  };
  switch (a.kind) {
    case activation_kind::silu: return gated_or_not.template operator()<silu_curve>();
    case activation_kind::gelu: return gated_or_not.template operator()<gelu_curve>();
    case activation_kind::gelu_tanh: return gated_or_not.template operator()<gelu_tanh_curve>();
    case activation_kind::relu2: return gated_or_not.template operator()<relu2_curve>();
  }
}

template <class Act>
void activation(stream& s, const activation_args<Act>& a) {
  with_curve(a, [&]<class Curve, bool Gated>() { activation_rows<Curve, Gated>(s, a); });
}

template <class Act>
void activation_backward(stream& s, const activation_backward_args<Act>& a) {
  with_curve(a, [&]<class Curve, bool Gated>() { activation_backward_rows<Curve, Gated>(s, a); });
}
