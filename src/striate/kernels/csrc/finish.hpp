// What becomes of a sum before it is stored:
//     y = active(sum + bias + addend) ,
// or, of the largest of 2 x 2 sums,
//     y = active(largest scale + bias) ,
// where active(v) is clip(v, low, high) or SiLU, v / (1 + e^-v).
#pragma once

#include "api.h"
#include "elementary.hpp"
#include "largest.hpp"
#include "threads.hpp"
#include "vector.hpp"

namespace LEVEL {

INLINE Vector silu(Vector value) { return value * logistic(value); }

struct Finish {
  const float *bias, *addend;  // of all outputs; of y's shape: either may be null
  float* y;
  Vector low, high;
  bool curved = false;           // SiLU: then there is no addend
  bool halved = false;           // the largest of 2 x 2
  const float* scale = nullptr;  // of the largest; may be null
  uint8_t* place = nullptr;      // which one it was; may be null

  Finish(const StriateConv& g, const float* bias_, const float* addend_, float* y_)
      : bias(bias_), addend(addend_), y(y_), low(spread(static_cast<float>(g.low))),
        high(spread(static_cast<float>(g.high))) {}

  INLINE Vector bias_of(int64_t o, int64_t left) const {
    return bias ? get(bias + o, left) : Vector{};
  }

  // `at` is the place in y of the first lane, `left` how many lanes there are.
  INLINE void put_at(int64_t at, Vector sum, int64_t left) const {
    if (addend) sum += get(addend + at, left);
    put(y + at, clipped(sum, low, high), left);
  }

  // All lanes, past the caches: see goes_past.
  INLINE void put_past_at(int64_t at, Vector sum) const {
    if (addend) sum += load(addend + at);
    put_past(y + at, clipped(sum, low, high));
  }

  // Of many sums of the outputs from o on at once, before they are stored where there is room for
  // them: constants stay in registers, and divisions overlap.
  template <int Many>
  INLINE void finish(Vector* sums, int64_t o, int64_t left) const {
    const Vector shift = bias_of(o, left);
    if (scale) {
      const Vector factor = get(scale + o, left);
      for (int i = 0; i < Many; ++i) sums[i] *= factor;
    }
    if (curved)
      for (int i = 0; i < Many; ++i) sums[i] = silu(sums[i] + shift);
    else
      for (int i = 0; i < Many; ++i) sums[i] = clipped(sums[i] + shift, low, high);
  }
};

// ---- SiLU of answers that lie in memory: of algorithms that do not finish with it

struct Answers {
  float* y;
  int64_t count, each;
};

inline void curve_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Answers*>(context);
  const int64_t end = least(own.count, (part + 1) * own.each);
  for (int64_t i = part * own.each; i < end; i += LANES) {
    const int64_t left = least(end - i, LANES);
    put(own.y + i, silu(get(own.y + i, left)), left);
  }
}

// What such an algorithm says, when that is done where it is asked for.
inline int curved(const StriateConv& g, int said, float* y) {
  if (!g.silu || said != STRIATE_DONE) return said;
  Answers own{y, g.n * g.out[0] * g.out[1] * g.out[2] * g.o, 0};
  constexpr int64_t ENOUGH = 16384;  // fewer numbers are not worth a thread
  const int64_t parts = least(g.threads, own.count / ENOUGH + 1);
  own.each = up((own.count + parts - 1) / parts, LANES);
  striate::parallel(parts, static_cast<int>(g.threads), curve_part, &own);
  return STRIATE_DONE;
}

}  // namespace LEVEL
