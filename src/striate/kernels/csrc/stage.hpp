// A convolution between normalisations, in training: numbers are normalised while they are read.
//
//     x = clip(r scale + shift, low, high)       r: what the convolution before wrote
//     y = w * x,  mean and variance of y         taken before y leaves the cache
//
// and backward, of d, the gradient to y as normalised, where the bounds behind let it through:
//
//     dy = d up + y slope + rest                 the gradient of normalisation, while d is read
//     dw = sum of x dy,  dx = w * dy turned
//     e  = dx where r scale + shift lies between the bounds;  sums of e and of e (r - mean)
//
// e is the d of the convolution before. As operators of their own, normalisation and convolution
// read and write a tensor between them nine times forward and eighteen times backward; so four and
// eight times. Where x lies is used twice while it lies in the cache: by dw, and by the bounds.
#pragma once

#include "gemm.hpp"
#include "norm.hpp"
#include "threads.hpp"

namespace LEVEL {

struct Stage {
  const StriateStage& g;
  const float *x, *weight;
  float* y = nullptr;
  const float *dy = nullptr, *answer = nullptr, *addend = nullptr;
  float* dx = nullptr;
  int64_t c, o;            // channels of x, of y, rounded up to whole vectors
  int64_t parts = 0;       // of the work; their sums are joined in order
  float* known = nullptr;  // what is known of channels: the arrays below, one behind the other
  float *scale = nullptr, *shift = nullptr, *mean = nullptr;  // of x's
  float *up = nullptr, *slope = nullptr, *rest = nullptr;     // of y's
  float* sums = nullptr;    // [part][2][channels]: moments of y, or sums of e and e (r - mean)
  float* kernel = nullptr;  // as the algorithm wants it; behind it the sums of its gradient
  float low, high;          // bounds of x
  bool past = false;        // what is written is more than caches keep
  bool failed = false;

  Stage(const StriateStage& g_, const float* x_, const float* weight_)
      : g(g_), x(x_), weight(weight_), c(LEVEL::up(g_.conv.c, LANES)),
        o(LEVEL::up(g_.conv.o, LANES)),
        low(static_cast<float>(normed() ? g.before.low : -__builtin_inf())),
        high(static_cast<float>(normed() ? g.before.high : __builtin_inf())) {}

  bool normed() const { return g.before.mean != nullptr; }
  bool graded() const { return g.behind.mean != nullptr; }

  // Memory for all parts, in the slot of scratch that no part uses; `floats` of it for kernels and
  // their gradients.
  bool begin(int64_t parts_, int64_t floats) {
    const int64_t widest = c > o ? c : o;
    parts = parts_;
    known = striate::scratch(2, 3 * (c + o) + parts * 2 * widest + floats + LANES);
    if (!known) return false;
    for (int64_t i = 0; i < 3 * (c + o); ++i) known[i] = 0;
    scale = known;
    shift = scale + c;
    mean = shift + c;
    up = mean + c;
    slope = up + o;
    rest = slope + o;
    sums = rest + o;
    kernel = sums + parts * 2 * widest;
    for (int64_t k = 0; k < g.conv.c; ++k) scale[k] = 1;
    for (int64_t k = 0; normed() && k < g.conv.c; ++k) {
      const StriateNormed& b = g.before;
      const Line line = line_of(b.weight, b.bias, k, b.mean[k], b.variance[k], b.epsilon);
      scale[k] = line.scale;
      shift[k] = line.shift;
      mean[k] = b.mean[k];
    }
    return true;
  }

  // Do the work of all parts; false where there was no memory.
  bool run(striate::Work work, void* all) {
    const StriateConv& v = g.conv;
    past = y ? goes_past(y, v.n * v.out[1] * v.out[2], v.o)
             : goes_past(dx, v.n * v.size[1] * v.size[2], v.c);
    striate::parallel(parts, static_cast<int>(v.threads), work, all);
    return !failed;
  }

  // The gradient of the normalisation behind, from those to its weight and its bias.
  void settle(const float* dweight, const float* dbias, double rows) {
    const StriateNormed& b = g.behind;
    for (int64_t k = 0; graded() && k < g.conv.o; ++k) {
      const double inverse = 1 / __builtin_sqrt(b.variance[k] + b.epsilon);
      const Plane plane = plane_of(b.weight ? b.weight[k] : 1, b.mean[k], inverse, rows, dbias[k],
                                   dweight[k] / inverse);
      up[k] = plane.up;
      slope[k] = plane.slope;
      rest[k] = plane.rest;
    }
  }
};

// Where vector k of a row lies, and how far the next row's: rows one after the other, or panels of
// columns, each row after row, as gemm.hpp wants them.
struct Column {
  float* at;
  int64_t step;
};

template <bool Panels>
INLINE Column column_of(float* to, int64_t k, int64_t rows, int64_t wide) {
  if (!Panels) return {to + k, wide};
  const int64_t start = k / (WIDE * LANES) * (WIDE * LANES);
  return {to + start * rows + (k - start), panel(wide - start)};
}

// Work through a few rows at a time, strip by strip of their channels: what a strip reads lies
// close to what the one before read, and the prefetcher follows.
constexpr int64_t SHEET = 16;

template <typename Each>
INLINE void sheets(int64_t rows, int64_t channels, Each each) {
  for (int64_t first = 0; first < rows; first += SHEET)
    strips(channels, [&](int64_t k, int64_t vectors, int64_t last) INLINE_LAMBDA {
      each(first, least(first + SHEET, rows), k, vectors, last);
    });
}

// x of `rows` pixels from `pixel`
template <bool Panels>
INLINE void read_x(const Stage own, int64_t pixel, int64_t rows, float* to) {
  const int64_t channels = own.g.conv.c;
  const Vector low = spread(own.low), high = spread(own.high);
  sheets(rows, channels, [&](int64_t begin, int64_t end, int64_t k, int64_t vectors,
                             int64_t last) INLINE_LAMBDA {
    const float* from = own.x + pixel * channels + k;
    Vector scale[STRIP]{}, shift[STRIP]{};
    Column column[STRIP]{};
    VECTORS scale[v] = load(own.scale + k + v * LANES);
    VECTORS shift[v] = load(own.shift + k + v * LANES);
    VECTORS column[v] = column_of<Panels>(to, k + v * LANES, rows, own.c);
    for (int64_t p = begin; p < end; ++p)
      VECTORS {
        const Vector r = get(from + p * channels + v * LANES, LEFT);
        store(column[v].at + p * column[v].step, clipped(r * scale[v] + shift[v], low, high));
      }
  });
}

// dy of `rows` pixels from `pixel`
template <bool Graded>
INLINE void read_dy(const Stage own, int64_t pixel, int64_t rows, float* to) {
  const int64_t channels = own.g.conv.o;
  sheets(rows, channels, [&](int64_t begin, int64_t end, int64_t k, int64_t vectors,
                             int64_t last) INLINE_LAMBDA {
    const int64_t first = pixel * channels + k;
    Vector up[STRIP]{}, slope[STRIP]{}, rest[STRIP]{};
    VECTORS up[v] = load(own.up + k + v * LANES);
    VECTORS slope[v] = load(own.slope + k + v * LANES);
    VECTORS rest[v] = load(own.rest + k + v * LANES);
    for (int64_t p = begin; p < end; ++p)
      VECTORS {
        const int64_t at = first + p * channels + v * LANES;
        Vector d = get(own.dy + at, LEFT);
        if (Graded) d = d * up[v] + get(own.answer + at, LEFT) * slope[v] + rest[v];
        store(to + p * own.o + k + v * LANES, d);
      }
  });
}

INLINE void read_dy(const Stage own, int64_t pixel, int64_t rows, float* to) {
  if (own.graded())
    read_dy<true>(own, pixel, rows, to);
  else
    read_dy<false>(own, pixel, rows, to);
}

// Write y of `rows` pixels from `pixel`, `before` of which this part has written, with moments.
INLINE void write_y(const Stage& own, const float* made, int64_t pixel, int64_t rows,
                    int64_t before, float* sums) {
  const int64_t channels = own.g.conv.o;
  for (int64_t p = 0; p < rows; p += BLOCK)
    add_moments(made + p * own.o, own.o, channels, least(BLOCK, rows - p), before + p, sums,
                sums + own.o, own.y + (pixel + p) * channels, own.past);
}

// Write e, or dx, of `rows` pixels from `pixel`, and add to the part's sums.
template <bool Normed>
INLINE void write_dx(const Stage own, const float* made, int64_t pixel, int64_t rows,
                     float* sums) {
  const int64_t channels = own.g.conv.c;
  sheets(rows, channels, [&](int64_t begin, int64_t end, int64_t k, int64_t vectors,
                             int64_t last) INLINE_LAMBDA {
    const int64_t first = pixel * channels + k;
    Vector mean[STRIP]{}, scale[STRIP]{}, shift[STRIP]{}, a[STRIP]{}, b[STRIP]{};
    VECTORS mean[v] = load(own.mean + k + v * LANES);
    VECTORS scale[v] = load(own.scale + k + v * LANES);
    VECTORS shift[v] = load(own.shift + k + v * LANES);
    for (int64_t p = begin; p < end; ++p)
      VECTORS {
        const int64_t at = first + p * channels + v * LANES;
        Vector dx = load(made + p * own.c + k + v * LANES);
        if (!Normed && own.addend) dx += get(own.addend + at, LEFT);
        if (Normed) {
          const Vector r = get(own.x + at, LEFT);
          dx = between(r * scale[v] + shift[v], own, dx);
          a[v] += dx;
          b[v] += dx * (r - mean[v]);
        }
        if (own.past)
          put_past(own.dx + at, dx);
        else
          put(own.dx + at, dx, LEFT);
      }
    VECTORS {
      float* plain = sums + k + v * LANES;
      store(plain, load(plain) + a[v]);
      store(plain + own.c, load(plain + own.c) + b[v]);
    }
  });
}

INLINE void write_dx(const Stage own, const float* made, int64_t pixel, int64_t rows,
                     float* sums) {
  if (own.normed())
    write_dx<true>(own, made, pixel, rows, sums);
  else
    write_dx<false>(own, made, pixel, rows, sums);
}

// Moments of all parts, which have begin(part + 1) - begin(part) rows.
template <typename Begin>
INLINE void join_moments(const Stage& own, Begin begin, float* mean, float* variance) {
  for (int64_t k = 0; k < own.g.conv.o; ++k) {
    double middle, square;
    join(own.sums, own.o, own.parts, begin, k, middle, square);
    mean[k] = static_cast<float>(middle);
    variance[k] = static_cast<float>(square);
  }
}

// The gradients to the weight and the bias of the normalisation before, of all parts.
INLINE void join_gradients(const Stage& own, float* dweight, float* dbias) {
  for (int64_t k = 0; own.normed() && k < own.g.conv.c; ++k) {
    double plain = 0, moved = 0;
    for (int64_t part = 0; part < own.parts; ++part) {
      plain += own.sums[part * 2 * own.c + k];
      moved += own.sums[(part * 2 + 1) * own.c + k];
    }
    const double variance = own.g.before.variance[k] + own.g.before.epsilon;
    dweight[k] = static_cast<float>(moved / __builtin_sqrt(variance));
    dbias[k] = static_cast<float>(plain);
  }
}

}  // namespace LEVEL
