// The three matrices of minimal filtering, as sums: winograd.hpp says what they are for.
#pragma once

#include "vector.hpp"

namespace LEVEL {

template <int M>
struct Points;

template <>
struct Points<4> {
  INLINE static void input(Vector* d) {  // Bt d
    const Vector d0 = d[0], d1 = d[1], d2 = d[2], d3 = d[3], d4 = d[4], d5 = d[5];
    const Vector even = d4 - 4 * d2, odd = d3 - 4 * d1, near = d4 - d2, far = 2 * (d3 - d1);
    d[0] = 4 * d0 - 5 * d2 + d4;
    d[1] = even + odd;
    d[2] = even - odd;
    d[3] = near + far;
    d[4] = near - far;
    d[5] = 4 * d1 - 5 * d3 + d5;
  }
  INLINE static void output(Vector* m) {  // At m
    const Vector plus = m[1] + m[2], minus = m[1] - m[2];
    const Vector plus2 = m[3] + m[4], minus2 = m[3] - m[4];
    m[0] = m[0] + plus + plus2;
    m[3] = minus + 8 * minus2 + m[5];
    m[1] = minus + 2 * minus2;
    m[2] = plus + 4 * plus2;
  }
  INLINE static void output_backward(Vector* y) {  // A y
    const Vector y0 = y[0], y1 = y[1], y2 = y[2], y3 = y[3];
    const Vector even = y0 + y2, odd = y1 + y3, even4 = y0 + 4 * y2, odd8 = 2 * y1 + 8 * y3;
    y[1] = even + odd;
    y[2] = even - odd;
    y[3] = even4 + odd8;
    y[4] = even4 - odd8;
    y[5] = y3;
  }
  INLINE static void kernel(Vector* g) {  // G g
    const Vector g0 = g[0], g1 = g[1], g2 = g[2];
    const Vector ends = (g0 + g2) * (-1 / 6.f), middle = g1 * (1 / 6.f);
    const Vector ends2 = g0 * (1 / 24.f) + g2 * (1 / 6.f), middle2 = g1 * (1 / 12.f);
    g[0] = g0 * 0.25f;
    g[1] = ends - middle;
    g[2] = ends + middle;
    g[3] = ends2 + middle2;
    g[4] = ends2 - middle2;
    g[5] = g2;
  }
  INLINE static void kernel_backward(Vector* u) {  // Gt u
    const Vector u0 = u[0], u1 = u[1], u2 = u[2], u3 = u[3], u4 = u[4], u5 = u[5];
    const Vector plus = (u1 + u2) * (-1 / 6.f), plus2 = u3 + u4;
    u[0] = u0 * 0.25f + plus + plus2 * (1 / 24.f);
    u[1] = (u2 - u1) * (1 / 6.f) + (u3 - u4) * (1 / 12.f);
    u[2] = plus + plus2 * (1 / 6.f) + u5;
  }
};

template <>
struct Points<2> {
  INLINE static void input(Vector* d) {
    const Vector d1 = d[1], d2 = d[2];
    d[0] = d[0] - d2;
    d[3] = d1 - d[3];
    d[1] = d1 + d2;
    d[2] = d2 - d1;
  }
  INLINE static void output(Vector* m) {
    m[0] = m[0] + m[1] + m[2];
    m[1] = m[1] - m[2] - m[3];
  }
  INLINE static void output_backward(Vector* y) {
    const Vector y0 = y[0], y1 = y[1];
    y[1] = y0 + y1;
    y[2] = y0 - y1;
    y[3] = -y1;
  }
  INLINE static void kernel(Vector* g) {
    const Vector ends = (g[0] + g[2]) * 0.5f, middle = g[1] * 0.5f;
    g[3] = g[2];
    g[1] = ends + middle;
    g[2] = ends - middle;
  }
  INLINE static void kernel_backward(Vector* u) {
    const Vector plus = (u[1] + u[2]) * 0.5f, minus = (u[1] - u[2]) * 0.5f;
    u[0] = u[0] + plus;
    u[2] = plus + u[3];
    u[1] = minus;
  }
};

// A tile: M x M outputs of 3 x 3 kernels if it has two axes, 1 x M outputs of 1 x 3 ones if one.
template <int M_, int Axes>
struct Tile {
  using Half = Points<M_>;
  static constexpr int M = M_, SIDE = M + 2, HIGH = Axes == 2 ? M : 1;
  static constexpr int TALL = Axes == 2 ? SIDE : 1, KERNEL_TALL = Axes == 2 ? 3 : 1;
  static constexpr int POINTS = TALL * SIDE;

  // Give a square of From x From vectors `half` along columns, then along rows: To x To vectors.
  template <int From, int To, void (*half)(Vector*)>
  INLINE static void both(Vector (*d)[6]) {
    Vector line[6];
    if (Axes == 2) {
#pragma GCC unroll 6
      for (int x = 0; x < From; ++x) {
#pragma GCC unroll 6
        for (int y = 0; y < From; ++y) line[y] = d[y][x];
        half(line);
#pragma GCC unroll 6
        for (int y = 0; y < To; ++y) d[y][x] = line[y];
      }
    }
#pragma GCC unroll 6
    for (int y = 0; y < (Axes == 2 ? To : 1); ++y) half(d[y]);
  }

  INLINE static void put_points(float* to, int64_t spacing, const Vector (*d)[6]) {
#pragma GCC unroll 6
    for (int i = 0; i < TALL; ++i)
#pragma GCC unroll 6
      for (int j = 0; j < SIDE; ++j) store(to + (i * SIDE + j) * spacing, d[i][j]);
  }
};

}  // namespace LEVEL
