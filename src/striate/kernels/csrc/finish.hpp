// What becomes of a sum before it is stored: y = clip(sum + bias + addend, low, high).
#pragma once

#include "api.h"
#include "vector.hpp"

namespace LEVEL {

struct Finish {
  const float *bias, *addend;  // of all outputs; of y's shape: either may be null
  float* y;
  Vector low, high;

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
};

}  // namespace LEVEL
