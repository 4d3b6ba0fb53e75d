// The three matrices of minimal filtering, as sums: winograd.hpp says what they are for.
#pragma once

#include <type_traits>

#include "vector.hpp"

namespace LEVEL {

// F(M, Taps): M outputs of Taps taps along a line. A point p, of those that are not infinity, sees
// SHARE g(p) of a kernel g.
template <int M, int Taps>
struct Points;

template <>
struct Points<4, 3> {
  static constexpr int AT[] = {0, 1, -1, 2, -2};
  static constexpr double SHARE[] = {1 / 4., -1 / 6., -1 / 6., 1 / 24., 1 / 24.};
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
struct Points<2, 3> {
  static constexpr int AT[] = {0, 1, -1};
  static constexpr double SHARE[] = {1, 1 / 2., 1 / 2.};
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

template <>
struct Points<4, 2> {
  static constexpr int AT[] = {0, 1, -1, 2};
  static constexpr double SHARE[] = {1 / 2., 1 / 2., 1 / 6., 1 / 6.};
  INLINE static void input(Vector* d) {
    const Vector d1 = d[1], d2 = d[2], d3 = d[3];
    const Vector odd = d3 - d1;
    d[4] = d[4] - d2 - 2 * odd;
    d[0] = 2 * (d[0] - d2) + odd;
    d[1] = 2 * d1 + d2 - d3;
    d[2] = 3 * d2 - 2 * d1 - d3;
    d[3] = odd;
  }
  INLINE static void output(Vector* m) {
    const Vector plus = m[1] + m[2], minus = m[1] - m[2], m3 = m[3], m4 = m[4];
    m[0] = m[0] + plus + m3;
    m[1] = minus + 2 * m3;
    m[2] = plus + 4 * m3;
    m[3] = minus + 8 * m3 + m4;
  }
  INLINE static void output_backward(Vector* y) {
    const Vector y0 = y[0], y1 = y[1], y2 = y[2], y3 = y[3];
    const Vector even = y0 + y2, odd = y1 + y3;
    y[1] = even + odd;
    y[2] = even - odd;
    y[3] = y0 + 4 * y2 + 2 * y1 + 8 * y3;
    y[4] = y3;
  }
  INLINE static void kernel(Vector* g) {
    const Vector g0 = g[0], g1 = g[1];
    g[0] = g0 * 0.5f;
    g[1] = (g0 + g1) * 0.5f;
    g[2] = (g0 - g1) * (1 / 6.f);
    g[3] = g0 * (1 / 6.f) + g1 * (1 / 3.f);
    g[4] = g1;
  }
  INLINE static void kernel_backward(Vector* u) {
    const Vector u1 = u[1], u2 = u[2], u3 = u[3];
    u[0] = (u[0] + u1) * 0.5f + (u2 + u3) * (1 / 6.f);
    u[1] = u1 * 0.5f - u2 * (1 / 6.f) + u3 * (1 / 3.f) + u[4];
  }
};

// The R < M outputs that are left at the end of a line, by kernels transformed for M: the first
// R + Taps - 2 of their points and infinity are enough. With p_l the former,
//     y_i = sum_k p_k^i u_k v_k (+ u v at infinity for the last) ,  u_k = SHARE_k g(p_k) ,
//     v_k = sum_j d_j [x^j] prod_{l != k} (x - p_l) / (SHARE_k prod_{l != k} (p_k - p_l)) ,
// at infinity the product of all, alone.
template <int M, int Taps, int R>
struct Rest {
  static constexpr int SIDE = R + Taps - 1, LAST = SIDE - 1;

  struct Matrices {
    float input[SIDE][SIDE], output[R][SIDE];
  };

  static constexpr Matrices made() {
    using Whole = Points<M, Taps>;
    Matrices all{};
    for (int k = 0; k < SIDE; ++k) {
      double product[SIDE + 1] = {1}, scale = k == LAST ? 1 : Whole::SHARE[k];
      for (int l = 0; l < LAST; ++l) {
        if (l == k) continue;
        for (int j = SIDE; j > 0; --j) product[j] = product[j - 1] - Whole::AT[l] * product[j];
        product[0] *= -Whole::AT[l];
        if (k != LAST) scale *= Whole::AT[k] - Whole::AT[l];
      }
      for (int j = 0; j < SIDE; ++j) all.input[k][j] = static_cast<float>(product[j] / scale);
      double power = 1;
      for (int i = 0; i < R; ++i, power *= k == LAST ? 0 : Whole::AT[k])
        all.output[i][k] = k != LAST ? static_cast<float>(power) : i == R - 1;
    }
    return all;
  }
  static constexpr Matrices ALL = made();

  // sum_j coefficient(i, j) v[j], for each i; what is 0 costs nothing
  template <int To, int From, typename Coefficient>
  INLINE static void times(Vector* v, Coefficient coefficient) {
    Vector sums[To];
#pragma GCC unroll 6
    for (int i = 0; i < To; ++i) {
      sums[i] = Vector{};
#pragma GCC unroll 6
      for (int j = 0; j < From; ++j)
        if (coefficient(i, j) != 0) sums[i] += coefficient(i, j) * v[j];
    }
#pragma GCC unroll 6
    for (int i = 0; i < To; ++i) v[i] = sums[i];
  }
  INLINE static void input(Vector* d) {
    times<SIDE, SIDE>(d, [](int i, int j) INLINE_LAMBDA { return ALL.input[i][j]; });
  }
  INLINE static void output(Vector* m) {
    times<R, SIDE>(m, [](int i, int j) INLINE_LAMBDA { return ALL.output[i][j]; });
  }
  INLINE static void output_backward(Vector* y) {
    times<SIDE, R>(y, [](int i, int j) INLINE_LAMBDA { return ALL.output[j][i]; });
  }
};

// The steps along one axis of R outputs: how many vectors they take and give.
template <int M, int Taps, int R = M>
struct Steps {
  using Of = std::conditional_t<R == M, Points<M, Taps>, Rest<M, Taps, R>>;
  static constexpr int SIDE = R + Taps - 1;

  struct Input {
    static constexpr int FROM = SIDE, TO = SIDE;
    INLINE static void half(Vector* v) { Of::input(v); }
  };
  struct Output {
    static constexpr int FROM = SIDE, TO = R;
    INLINE static void half(Vector* v) { Of::output(v); }
  };
  struct OutputBackward {
    static constexpr int FROM = R, TO = SIDE;
    INLINE static void half(Vector* v) { Of::output_backward(v); }
  };
  struct Kernel {
    static constexpr int FROM = Taps, TO = SIDE;
    INLINE static void half(Vector* v) { Of::kernel(v); }
  };
  struct KernelBackward {
    static constexpr int FROM = SIDE, TO = Taps;
    INLINE static void half(Vector* v) { Of::kernel_backward(v); }
  };
};

// A number that is known when compiled.
template <int N>
struct Number {
  static constexpr int VALUE = N;
};

// Call each(Number<count>), `count` from 1 to Most.
template <int Most, typename Each>
INLINE void with_number(int count, Each each) {
  if constexpr (Most > 1)
    if (count < Most) return with_number<Most - 1>(count, each);
  each(Number<Most>{});
}

// A tile: M x M outputs of 3 x 3 kernels if it has two axes, 1 x M outputs of 1 x 3 ones if one.
//
// Stride 2 is a sum over phases: the taps 0 and 2 see every other sample, tap 1 those between. Each
// phase is a convolution of stride 1 and two taps, the second of which is 0 where the phase is odd
// along an axis. All have the same points, but one with a single tap is 0 at one of them.
template <int M_, int Axes, int Step_ = 1>
struct Tile {
  static constexpr int M = M_, STEP = Step_, TAPS = STEP == 1 ? 3 : 2, SIDE = M + TAPS - 1;
  static constexpr int HIGH = Axes == 2 ? M : 1, TALL = Axes == 2 ? SIDE : 1;
  static constexpr int TAPS_TALL = Axes == 2 ? TAPS : 1, POINTS = TALL * SIDE;
  static constexpr int PHASES = STEP == 1 ? 1 : Axes == 2 ? 4 : 2;

  // Whether samples of a phase lie between the others, down and across.
  static int down(int64_t phase) { return STEP == 1 ? 0 : static_cast<int>(phase / 2); }
  static int across(int64_t phase) { return STEP == 1 ? 0 : static_cast<int>(phase % 2); }

  // What is done to R x S outputs of a tile, down and across.
  template <int R = HIGH>
  using Down = Steps<M, TAPS, R>;
  template <int S = M>
  using Across = Steps<M, TAPS, S>;

  static constexpr bool whole(int r, int s) { return r == HIGH && s == M; }

  // The point of a whole tile that is point k of one with so many points along an axis.
  static constexpr int point(int k, int side) { return k < side - 1 ? k : SIDE - 1; }

  // Whether a tile with R outputs along an axis has point k of a whole tile.
  static bool has(int64_t k, int64_t r) { return k < r + TAPS - 2 || k == SIDE - 1; }

  // Take a step along columns, then along rows. `give(y, x)` is a vector of the square it takes;
  // `take(y, line)` gets a line of what it gives while it lies in registers. Of one axis there is
  // one line.
  template <typename Down, typename Across, typename Give, typename Take>
  INLINE static void both(Give give, Take take) {
    Vector line[6], square[TALL][6];
    if constexpr (Axes == 2) {
#pragma GCC unroll 6
      for (int x = 0; x < Across::FROM; ++x) {
#pragma GCC unroll 6
        for (int y = 0; y < Down::FROM; ++y) line[y] = give(y, x);
        Down::half(line);
#pragma GCC unroll 6
        for (int y = 0; y < Down::TO; ++y) square[y][x] = line[y];
      }
    }
#pragma GCC unroll 6
    for (int y = 0; y < (Axes == 2 ? Down::TO : 1); ++y) {
#pragma GCC unroll 6
      for (int x = 0; x < Across::FROM; ++x) {
        if constexpr (Axes == 2)
          line[x] = square[y][x];
        else
          line[x] = give(0, x);
      }
      Across::half(line);
      take(y, line);
    }
  }

  // Line y of a tile's `Tall` x `Wide` points to where they belong: `spacing` floats apart.
  template <int Tall = TALL, int Wide = SIDE>
  INLINE static void put_points(float* to, int64_t spacing, int y, const Vector* line) {
    const int64_t apart = anew(spacing), first = Axes == 2 ? point(y, Tall) * SIDE : 0;
#pragma GCC unroll 6
    for (int x = 0; x < Wide; ++x) store(to + (first + point(x, Wide)) * apart, line[x]);
  }
};

}  // namespace LEVEL
