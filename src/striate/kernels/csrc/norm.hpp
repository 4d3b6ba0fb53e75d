// Batch normalisation of pixels whose channels lie one after the other: `rows` pixels, c channels.
//
//     y = clip((x - mean) / std * weight + bias + addend, low, high) ,
//
// mean and std over the rows of each channel. A rectifier is low = 0; a residual block's sum and
// rectifier are an addend and low = 0. Or, without bounds and addend, SiLU: y = v / (1 + e^-v).
// What reads memory is what costs: statistics are one pass, so are the sums of the gradient.
#pragma once

#include "api.h"
#include "elementary.hpp"
#include "threads.hpp"
#include "vector.hpp"

namespace LEVEL {

constexpr int64_t BLOCK = 32;  // rows whose mean and squares are taken together, out of the cache

struct Norm {
  const StriateNorm* g;
  const float *x, *addend, *dy, *answer;
  float *y, *dsum;  // y or dx; what of dy passes the bounds
  const float* mean;
  int64_t parts = 0;
  float* sums = nullptr;  // [part][2][channels, rounded up to whole vectors]
  float *scale = nullptr, *shift = nullptr;                  // of a channel: y = x scale + shift
  float *up = nullptr, *slope = nullptr, *rest = nullptr;  // dx = dy up + x slope + rest
};

INLINE int64_t wide(const StriateNorm& g) { return up(g.c, LANES); }

INLINE int64_t begin_of(const Norm& own, int64_t part) { return own.g->rows * part / own.parts; }

// Work through channels in strips of up to STRIP vectors: their sums stay in registers, and memory
// is read in pieces that a prefetcher follows. Calls strip(o, vectors, lanes of the last vector).
constexpr int64_t STRIP = 4;

template <typename Each>
INLINE void strips(int64_t c, Each each) {
  for (int64_t o = 0; o < c; o += STRIP * LANES) {
    const int64_t left = least(c - o, STRIP * LANES);
    if (left == STRIP * LANES)
      each(o, STRIP, LANES);  // a count that the compiler knows
    else
      each(o, (left + LANES - 1) / LANES, left - (left - 1) / LANES * LANES);
  }
}

#define VECTORS _Pragma("GCC unroll 4") for (int64_t v = 0; v < vectors; ++v)
#define LEFT (v + 1 == vectors ? last : LANES)

// Add `count` rows of x, `row` floats apart, to the means and the sums of squared distances of the
// `before` rows before them; and copy them, dense, if asked.
//
// The two passes run in the cache; blocks are joined by the rule of Chan, Golub, LeVeque 1979,
// which does not subtract large numbers from large ones.
INLINE void add_moments(const float* from, int64_t row, int64_t c, int64_t count, int64_t before_,
                        float* means, float* squares, float* copy = nullptr, bool past = false) {
  const float before = static_cast<float>(before_), more = static_cast<float>(count);
  strips(c, [&](int64_t o, int64_t vectors, int64_t last) INLINE_LAMBDA {
    const float* x = from + o;
    Vector sum[STRIP]{}, square[STRIP]{};
    for (int64_t i = 0; i < count; ++i)
      VECTORS {
        const Vector value = get(x + i * row + v * LANES, LEFT);
        if (past)
          put_past(copy + i * c + o + v * LANES, value);
        else if (copy)
          put(copy + i * c + o + v * LANES, value, LEFT);
        sum[v] += value;
      }
    VECTORS sum[v] *= 1 / more;
    for (int64_t i = 0; i < count; ++i)
      VECTORS {
        const Vector far = get(x + i * row + v * LANES, LEFT) - sum[v];
        square[v] += far * far;
      }
    VECTORS {
      float *mean = means + o + v * LANES, *kept = squares + o + v * LANES;
      const Vector apart = sum[v] - (before_ ? load(mean) : Vector{});
      store(mean, sum[v] - apart * (before / (before + more)));
      store(kept, (before_ ? load(kept) : Vector{}) + square[v] +
                      apart * apart * (before * more / (before + more)));
    }
  });
}

// Mean and sum of squared distances of a part, block by block: [part][0] and [part][1].
inline void moments_part(void* context, int64_t part, int) {
  const Norm own = *static_cast<Norm*>(context);
  const int64_t c = own.g->c, first = begin_of(own, part), end = begin_of(own, part + 1);
  float* means = own.sums + part * 2 * wide(*own.g);
  for (int64_t at = first; at < end; at += BLOCK)
    add_moments(own.x + at * c, c, c, least(BLOCK, end - at), at - first, means,
                means + wide(*own.g));
}

// What of dy passes what stands behind: all; where x scale + shift lies between the bounds, which
// costs no memory; where the answer does, which is read because an addend took part in it; as much
// as SiLU rises at x scale + shift.
enum class Mask { NONE, INPUT, ANSWER, SILU };

template <typename Bounds>
INLINE Vector between(Vector y, const Bounds& g, Vector dy) {
  const Vector low = spread(static_cast<float>(g.low)), high = spread(static_cast<float>(g.high));
  dy = y <= low ? Vector{} : dy;
  return y >= high ? Vector{} : dy;
}

// With s = 1 / (1 + e^-v), SiLU is v s and rises by s (1 + v (1 - s)).
INLINE Vector silu_slope(Vector v) {
  const Vector s = logistic(v);
  return s + v * s * (1.0f - s);
}

// What passes to y = x scale + shift.
template <Mask Through>
INLINE Vector passed(Vector y, const StriateNorm& g, Vector dy) {
  if (Through == Mask::SILU) return dy * silu_slope(y);
  return Through == Mask::INPUT ? between(y, g, dy) : dy;
}

// Sums of dy and of dy (x - mean) over a part.
template <Mask Through>
void gradient_part(void* context, int64_t part, int) {
  const Norm own = *static_cast<Norm*>(context);
  const int64_t c = own.g->c, first = begin_of(own, part), end = begin_of(own, part + 1);
  float* plain = own.sums + part * 2 * wide(*own.g);
  float* moved = plain + wide(*own.g);
  for (int64_t o = 0; o < 2 * wide(*own.g); ++o) plain[o] = 0;
  for (int64_t at = first; at < end; at += BLOCK)
    strips(c, [&](int64_t o, int64_t vectors, int64_t last) INLINE_LAMBDA {
      Vector mean[STRIP]{}, scale[STRIP]{}, shift[STRIP]{}, a[STRIP]{}, b[STRIP]{};
      VECTORS mean[v] = get(own.mean + o + v * LANES, LEFT);
      VECTORS scale[v] = load(own.scale + o + v * LANES);
      VECTORS shift[v] = load(own.shift + o + v * LANES);
      const int64_t until = least(at + BLOCK, end);
      for (int64_t i = at; i < until; ++i)
        VECTORS {
          const int64_t from = i * c + o + v * LANES;
          const Vector x = get(own.x + from, LEFT);
          Vector dy = get(own.dy + from, LEFT);
          dy = passed<Through>(x * scale[v] + shift[v], *own.g, dy);
          if (Through == Mask::ANSWER) {
            dy = between(get(own.answer + from, LEFT), *own.g, dy);
            put(own.dsum + from, dy, LEFT);
          }
          a[v] += dy;
          b[v] += dy * (x - mean[v]);
        }
      VECTORS {
        store(plain + o + v * LANES, load(plain + o + v * LANES) + a[v]);
        store(moved + o + v * LANES, load(moved + o + v * LANES) + b[v]);
      }
    });
}

// Call each(at, o, left) for every vector of a part, in the order in which they lie: number `at` of
// the tensor, of channel o, `left` lanes of it.
template <typename Each>
INLINE void vectors(const Norm& own, int64_t part, Each each) {
  const int64_t c = own.g->c, whole = c / LANES * LANES, end = begin_of(own, part + 1);
  for (int64_t i = begin_of(own, part); i < end; ++i) {
    for (int64_t o = 0; o < whole; o += LANES) each(i * c + o, o, LANES);
    if (whole < c) each(i * c + whole, whole, c - whole);
  }
}

enum class Behind { NOTHING, BOUNDS, SILU };

// y = x scale + shift + addend, and what stands behind it
template <Behind Then, bool Added>
void apply_part(void* context, int64_t part, int) {
  const Norm own = *static_cast<Norm*>(context);
  const Vector low = spread(static_cast<float>(own.g->low));
  const Vector high = spread(static_cast<float>(own.g->high));
  vectors(own, part, [&](int64_t at, int64_t o, int64_t left) INLINE_LAMBDA {
    Vector y = get(own.x + at, left) * load(own.scale + o) + load(own.shift + o);
    if (Added) y += get(own.addend + at, left);
    if (Then == Behind::SILU) y *= logistic(y);
    put(own.y + at, Then == Behind::BOUNDS ? clipped(y, low, high) : y, left);
  });
}

// dx = dy up + x slope + rest
template <Mask Through>
void input_part(void* context, int64_t part, int) {
  const Norm own = *static_cast<Norm*>(context);
  vectors(own, part, [&](int64_t at, int64_t o, int64_t left) INLINE_LAMBDA {
    const Vector x = get(own.x + at, left), y = x * load(own.scale + o) + load(own.shift + o);
    const Vector dy = passed<Through>(y, *own.g, get(own.dy + at, left));
    put(own.y + at, dy * load(own.up + o) + x * load(own.slope + o) + load(own.rest + o), left);
  });
}

// Memory and parts of a call; false where there is no memory.
INLINE bool begin(Norm& own) {
  const StriateNorm& g = *own.g;
  const int64_t enough = g.rows * g.c / 16384 + 1;  // fewer numbers are not worth a thread
  own.parts = least(least(g.threads, enough), g.rows);
  own.sums = striate::scratch(0, own.parts * 2 * wide(g));
  own.scale = striate::scratch(1, 5 * wide(g));
  if (!own.sums || !own.scale) return false;
  for (int64_t i = 0; i < 5 * wide(g); ++i) own.scale[i] = 0;
  own.shift = own.scale + wide(g);
  own.up = own.shift + wide(g);
  own.slope = own.up + wide(g);
  own.rest = own.slope + wide(g);
  return true;
}

INLINE void run(Norm& own, striate::Work work) {
  striate::parallel(own.parts, static_cast<int>(own.g->threads), work, &own);
}

INLINE void apply(Norm& own) {
  const bool clipped = has_bounds(own.g->low, own.g->high);
  if (own.g->silu)
    run(own, apply_part<Behind::SILU, false>);
  else if (own.addend)
    run(own, clipped ? apply_part<Behind::BOUNDS, true> : apply_part<Behind::NOTHING, true>);
  else
    run(own, clipped ? apply_part<Behind::BOUNDS, false> : apply_part<Behind::NOTHING, false>);
}

// What normalisation does to a channel: y = x scale + shift.
struct Line {
  float scale, shift;
};

INLINE Line line_of(const float* weight, const float* bias, int64_t o, double mean, double variance,
                    double epsilon) {
  const double scale = (weight ? weight[o] : 1) / __builtin_sqrt(variance + epsilon);
  return {static_cast<float>(scale), static_cast<float>((bias ? bias[o] : 0) - mean * scale)};
}

// What its gradient does: dx = dy up + x slope + rest, by the sums of dy and of dy (x - mean).
//
//     dx = (dy - mean of dy - (x - mean) / variance * mean of dy (x - mean)) * weight / std
struct Plane {
  float up, slope, rest;
};

INLINE Plane plane_of(double weight, double mean, double inverse, double rows, double plain,
                      double moved) {
  const double up = weight * inverse, slope = -up * inverse * inverse * moved / rows;
  return {static_cast<float>(up), static_cast<float>(slope),
          static_cast<float>(-up * plain / rows - slope * mean)};
}

INLINE void settle(Norm& own, int64_t o, const float* weight, const float* bias, double mean,
                   double variance) {
  const Line line = line_of(weight, bias, o, mean, variance, own.g->epsilon);
  own.scale[o] = line.scale;
  own.shift[o] = line.shift;
}

// Mean and biased variance of channel o, of parts that have begin(part + 1) - begin(part) rows.
template <typename Begin>
INLINE void join(const float* sums, int64_t wide, int64_t parts, Begin begin, int64_t o,
                 double& mean, double& variance) {
  double squares = 0, count = 0;
  mean = 0;
  for (int64_t part = 0; part < parts; ++part, sums += 2 * wide) {
    const double more = static_cast<double>(begin(part + 1) - begin(part));
    const double apart = sums[o] - mean, all = count + more;
    mean += apart * more / all;
    squares += sums[wide + o] + apart * apart * count * more / all;
    count = all;
  }
  variance = squares / count;
}

inline int norm_forward(const StriateNorm& g, const float* x, const float* weight,
                        const float* bias, const float* addend, float* y, float* mean,
                        float* variance) {
  Norm own{&g, x, addend, nullptr, nullptr, y, nullptr, nullptr};
  if (!begin(own)) return STRIATE_NO_MEMORY;
  run(own, moments_part);
  for (int64_t o = 0; o < g.c; ++o) {
    double middle, spread;
    join(own.sums, wide(g), own.parts, [&](int64_t part) { return begin_of(own, part); }, o, middle,
         spread);
    mean[o] = static_cast<float>(middle);
    variance[o] = static_cast<float>(spread);
    settle(own, o, weight, bias, middle, spread);
  }
  apply(own);
  return STRIATE_DONE;
}

inline int norm_backward(const StriateNorm& g, const float* x, const float* dy,
                         const float* answer, const float* weight, const float* bias,
                         const float* mean, const float* variance, float* dx, float* dweight,
                         float* dbias, float* dsum) {
  Norm own{&g, x, nullptr, dy, answer, dx, dsum, mean};
  if (!begin(own)) return STRIATE_NO_MEMORY;
  for (int64_t o = 0; o < g.c; ++o) settle(own, o, weight, bias, mean[o], variance[o]);
  const bool masked = has_bounds(g.low, g.high);
  if (masked && answer)
    run(own, gradient_part<Mask::ANSWER>);
  else if (g.silu)
    run(own, gradient_part<Mask::SILU>);
  else
    run(own, masked ? gradient_part<Mask::INPUT> : gradient_part<Mask::NONE>);
  if (masked && answer) own.dy = dsum;
  const double rows = static_cast<double>(g.rows);
  for (int64_t o = 0; o < g.c; ++o) {
    double plain = 0, moved = 0;
    for (int64_t part = 0; part < own.parts; ++part) {
      plain += own.sums[part * 2 * wide(g) + o];
      moved += own.sums[(part * 2 + 1) * wide(g) + o];
    }
    const double inverse = 1 / __builtin_sqrt(variance[o] + g.epsilon);
    const Plane plane =
        plane_of(weight ? weight[o] : 1, mean[o], inverse, rows, plain, moved);
    dweight[o] = static_cast<float>(moved * inverse);
    dbias[o] = static_cast<float>(plain);
    own.up[o] = plane.up;
    own.slope[o] = plane.slope;
    own.rest[o] = plane.rest;
  }
  if (g.silu)
    run(own, input_part<Mask::SILU>);
  else
    run(own, masked && !answer ? input_part<Mask::INPUT> : input_part<Mask::NONE>);
  return STRIATE_DONE;
}

}  // namespace LEVEL
