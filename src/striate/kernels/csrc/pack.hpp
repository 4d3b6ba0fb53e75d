// Numbers of kernels into vectors of outputs, and back: by squares where they lie side by side.
#pragma once

#include "vector.hpp"

namespace LEVEL {

// Row r of `rows` gets from[r * step_row + lane * step_lane] for `left` lanes; rows are `wide`
// floats apart.
INLINE void pack_rows(const float* from, int64_t step_lane, int64_t step_row, int64_t left,
                      int64_t rows, float* to, int64_t wide) {
  int64_t r = 0;
  if (left == LANES && step_lane == 1)
    for (; r < rows; ++r) store(to + r * wide, load(from + r * step_row));
  if (left == LANES && step_row == 1)
    for (; r + LANES <= rows; r += LANES) {
      Vector square[LANES];
#pragma GCC unroll 16
      for (int64_t lane = 0; lane < LANES; ++lane) square[lane] = load(from + r + lane * step_lane);
      transpose(square);
#pragma GCC unroll 16
      for (int64_t k = 0; k < LANES; ++k) store(to + (r + k) * wide, square[k]);
    }
  for (; r < rows; ++r) {
    Vector value{};
    for (int64_t lane = 0; lane < left; ++lane)
      value[lane] = from[r * step_row + lane * step_lane];
    store(to + r * wide, value);
  }
}

// The inverse: `row(r)` to where it lies.
template <typename Row>
INLINE void unpack_rows(Row row, int64_t rows, int64_t left, float* to, int64_t step_lane,
                        int64_t step_row) {
  int64_t r = 0;
  if (left == LANES && step_lane == 1)
    for (; r < rows; ++r) store(to + r * step_row, row(r));
  if (left == LANES && step_row == 1)
    for (; r + LANES <= rows; r += LANES) {
      Vector square[LANES];
#pragma GCC unroll 16
      for (int64_t k = 0; k < LANES; ++k) square[k] = row(r + k);
      transpose(square);
#pragma GCC unroll 16
      for (int64_t lane = 0; lane < LANES; ++lane) store(to + r + lane * step_lane, square[lane]);
    }
  for (; r < rows; ++r) {
    const Vector value = row(r);
    for (int64_t lane = 0; lane < left; ++lane) to[r * step_row + lane * step_lane] = value[lane];
  }
}

}  // namespace LEVEL
