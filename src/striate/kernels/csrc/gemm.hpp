// The matrix product that everything else rests on: C (+)= A B, with B and C in rows of vectors.
#pragma once

#include "vector.hpp"

namespace LEVEL {

// A block of ROWS x WIDE vectors of C stays in registers while k runs. What is left of the
// registers holds one row of B and one number of A, which every lane of a row meets.
constexpr int WIDE = 2;
constexpr int ROWS = REGISTERS == 32 ? 14 : 6;  // 28 + 2 + 1 of 32 registers; 12 + 2 + 1 of 16
constexpr int ROWS_OF_ONE = REGISTERS == 32 ? 28 : 12;  // where a row is no wider than a vector

// C[i, :] (+)= sum_k A[i, k] B[k, :]  for ROWS rows i and WIDE vectors.
//
// A[i, k] lies at a + i * row_of_a + k * step_of_a; either may be 1, so A may be transposed.
template <int Rows, int Wide, bool Add>
INLINE void block(const float* a, int64_t row_of_a, int64_t step_of_a, const float* b,
                  int64_t step_of_b, float* c, int64_t row_of_c, int64_t depth) {
  Vector sum[Rows][Wide];
#pragma GCC unroll 28
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < Wide; ++j)
      sum[i][j] = Add ? load(c + i * row_of_c + j * LANES) : Vector{};
  for (int64_t k = 0; k < depth; ++k) {
    Vector row[Wide];
#pragma GCC unroll 2
    for (int j = 0; j < Wide; ++j) row[j] = load(b + k * step_of_b + j * LANES);
#pragma GCC unroll 28
    for (int i = 0; i < Rows; ++i) {
      const Vector one = spread(a[i * row_of_a + k * step_of_a]);
#pragma GCC unroll 2
      for (int j = 0; j < Wide; ++j) sum[i][j] += one * row[j];
    }
  }
#pragma GCC unroll 28
  for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < Wide; ++j) store(c + i * row_of_c + j * LANES, sum[i][j]);
}

// The same for `rows` rows, up to Rows: as many as are left at the end.
template <int Rows, int Wide, bool Add>
void rest(int64_t rows, const float* a, int64_t row_of_a, int64_t step_of_a, const float* b,
          int64_t step_of_b, float* c, int64_t row_of_c, int64_t depth) {
  if (rows == Rows)
    block<Rows, Wide, Add>(a, row_of_a, step_of_a, b, step_of_b, c, row_of_c, depth);
  else if constexpr (Rows > 1)
    rest<Rows - 1, Wide, Add>(rows, a, row_of_a, step_of_a, b, step_of_b, c, row_of_c, depth);
}

template <int Rows, int Wide, bool Add>
void rows_of(int64_t rows, const float* a, int64_t row_of_a, int64_t step_of_a, const float* b,
             int64_t step_of_b, float* c, int64_t row_of_c, int64_t depth) {
  // Blocks of nearly one height: 15 rows are 8 + 7, not 14 + 1, which would be load-bound.
  const int64_t blocks = (rows + Rows - 1) / Rows;
  int64_t i = 0;
  for (int64_t n = 0; n < blocks; ++n) {
    const int64_t height = (rows - i + blocks - n - 1) / (blocks - n);
    rest<Rows, Wide, Add>(height, a + i * row_of_a, row_of_a, step_of_a, b, step_of_b,
                          c + i * row_of_c, row_of_c, depth);
    i += height;
  }
}

// A panel is WIDE vectors of columns of B, or one where no more are left; `columns` counts floats
// and is a multiple of LANES. Panels lie one after the other: that at column j begins at j * depth.
INLINE int64_t panel(int64_t left) { return left > LANES ? WIDE * LANES : LANES; }

// C (+)= A B: C is rows x columns, B depth x columns, as panels if `packed`, else in plain rows.
template <bool Add>
void multiply(int64_t rows, int64_t columns, int64_t depth, const float* a, int64_t row_of_a,
              int64_t step_of_a, const float* b, bool packed, int64_t row_of_b, float* c,
              int64_t row_of_c) {
  for (int64_t j = 0; j < columns;) {
    const int64_t wide = panel(columns - j);
    const float* from = packed ? b + j * depth : b + j;
    const int64_t step = packed ? wide : row_of_b;
    if (wide > LANES)
      rows_of<ROWS, WIDE, Add>(rows, a, row_of_a, step_of_a, from, step, c + j, row_of_c, depth);
    else
      rows_of<ROWS_OF_ONE, 1, Add>(rows, a, row_of_a, step_of_a, from, step, c + j, row_of_c,
                                   depth);
    j += wide;
  }
}

}  // namespace LEVEL
