// Convolution 3x3 of stride 1 by Winograd's minimal filtering, F(4x4, 3x3) and F(2x2, 3x3).
//
// A tile of M x M outputs sees (M + 2) x (M + 2) inputs. With three small matrices,
//     Y = At [ (G g Gt) . (Bt d B) ] A ,
// where . multiplies element by element: 36 products in place of 144 for M = 4, 16 for 36 for
// M = 2. Summed over channels, each of the (M + 2)^2 elements is a matrix product of its own:
//     out[f] (tiles x O) = in[f] (tiles x C)  kernel[f] (C x O) .
// The gradient to the input is the same convolution with kernels turned and transposed. That to
// the kernels runs it backwards: dkernel[f] = in[f]^T (A dY At)[f], then Gt dkernel G.
//
// Source: Lavin, Gray 2015, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
#pragma once

#include "api.h"
#include "finish.hpp"
#include "gemm.hpp"
#include "threads.hpp"

namespace LEVEL {

// ---- the three matrices, as sums

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

// Give a square of In x In vectors `Half` along columns, then along rows: Out x Out vectors.
template <int In, int Out, void (*Half)(Vector*)>
INLINE void both(Vector (*d)[6]) {
  Vector line[6];
#pragma GCC unroll 6
  for (int x = 0; x < In; ++x) {
#pragma GCC unroll 6
    for (int y = 0; y < In; ++y) line[y] = d[y][x];
    Half(line);
#pragma GCC unroll 6
    for (int y = 0; y < Out; ++y) d[y][x] = line[y];
  }
#pragma GCC unroll 6
  for (int y = 0; y < Out; ++y) Half(d[y]);
}

// ---- one call
//
// Work comes in one of two orders. By tiles: all kernels are transformed, then each batch of tiles
// goes through all three steps. By outputs: all tiles are transformed, then each panel of outputs
// goes through its steps with all of them. The second one does not write and read kernels 4 times
// as large as they were; the first one does not do so with pictures.

// Measured on a Zen 4: from which ratio of kernels to tiles on the second order is the faster one.
constexpr int64_t FORWARD = 2, WEIGHT = 4;

// What is known of a call before its first tile.
template <int M>
struct Plan {
  static constexpr int64_t SIDE = M + 2, POINTS = SIDE * SIDE;
  const StriateConv& g;
  int64_t tall, wide, tiles;      // tiles of an image down, across; of the batch
  int64_t channels, outputs;      // rounded up to whole vectors
  int64_t batch;                  // tiles that are worked on at once
  int64_t parts;                  // of such
  bool by_outputs;                // the order of work: see below

  Plan(const StriateConv& geometry, int64_t ratio) : g(geometry) {
    tall = (g.out[1] + M - 1) / M;
    wide = (g.out[2] + M - 1) / M;
    tiles = g.n * tall * wide;
    channels = up(g.c, LANES);
    outputs = up(g.o, LANES);
    // What lies between the transforms should stay in the second-level cache. But kernels are read
    // once a batch: where they are large, more tiles must share them.
    const int64_t cached = 160 * 1024 / (POINTS * (channels + outputs));
    const int64_t shared = channels * outputs >= 128 * 128 ? 3 * ROWS : 2 * ROWS;
    batch = cached < shared ? shared : cached > 8 * ROWS ? 8 * ROWS : cached / ROWS * ROWS;
    const int64_t each = (tiles + g.threads - 1) / g.threads;  // nobody stands idle
    if (batch > each) batch = each > 0 ? each : 1;
    parts = (tiles + batch - 1) / batch;
    // Few tiles and many kernels: transform tiles once, and kernels where they are used.
    by_outputs = ratio * channels * outputs > tiles * (channels + outputs) &&
                 POINTS * tiles * channels <= 8 * 1024 * 1024;
  }

  // Distance of two points in what `count` tiles give; odd in lines, lest all of them fall into
  // the same few places of the cache.
  static int64_t spacing(int64_t count, int64_t channels) { return count * channels + 16; }
};

struct Place {
  int64_t image, y, x;  // of a tile's first output
};

template <int M>
INLINE Place place_of(const Plan<M>& plan, int64_t tile) {
  const int64_t of_image = plan.tall * plan.wide, at = tile % of_image;
  return {tile / of_image, at / plan.wide * M, at % plan.wide * M};
}

// Read a square of Side x Side pixels whose first is (y, x), LANES channels from `c`; zeros around.
template <int Side>
INLINE void read_square(const float* image, int64_t h, int64_t w, int64_t channels, int64_t y,
                        int64_t x, int64_t c, Vector (*d)[6]) {
  const int64_t left = least(channels - c, LANES);
  const bool within = y >= 0 && x >= 0 && y + Side <= h && x + Side <= w && left == LANES;
#pragma GCC unroll 6
  for (int i = 0; i < Side; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < Side; ++j) {
      const float* from = image + ((y + i) * w + x + j) * channels + c;
      if (within)
        d[i][j] = load(from);
      else if (y + i < 0 || y + i >= h || x + j < 0 || x + j >= w)
        d[i][j] = Vector{};
      else
        d[i][j] = load_part(from, left);
    }
}

// Bt d B of `count` tiles from `first`: to[point][tile][channel], points `spacing` apart
template <int M>
void transform_input(const Plan<M>& plan, const float* x, int64_t first, int64_t count, float* to,
                     int64_t spacing) {
  constexpr int SIDE = M + 2;
  const StriateConv& g = plan.g;
  for (int64_t t = 0; t < count; ++t) {
    const Place at = place_of(plan, first + t);
    const float* image = x + at.image * g.size[1] * g.size[2] * g.c;
    for (int64_t c = 0; c < g.c; c += LANES) {
      Vector d[6][6];
      read_square<SIDE>(image, g.size[1], g.size[2], g.c, at.y - g.pad[1], at.x - g.pad[2], c, d);
      both<SIDE, SIDE, Points<M>::input>(d);
      float* point = to + t * plan.channels + c;
#pragma GCC unroll 6
      for (int i = 0; i < SIDE; ++i)
#pragma GCC unroll 6
        for (int j = 0; j < SIDE; ++j) store(point + (i * SIDE + j) * spacing, d[i][j]);
    }
  }
}

// Some outputs: `count` of them, in whole vectors but for the last, from `first`.
struct Outputs {
  int64_t first, count;
  int64_t wide() const { return up(count, LANES); }
};

// A dY At of `count` tiles from `first`: to[point][tile][output]
template <int M>
void transform_gradient(const Plan<M>& plan, const float* dy, int64_t first, int64_t count,
                        Outputs some, float* to) {
  constexpr int SIDE = M + 2;
  const StriateConv& g = plan.g;
  const int64_t spacing = plan.spacing(count, some.wide());
  for (int64_t t = 0; t < count; ++t) {
    const Place at = place_of(plan, first + t);
    const float* image = dy + at.image * g.out[1] * g.out[2] * g.o;
    for (int64_t o = 0; o < some.count; o += LANES) {
      Vector d[6][6];
      read_square<M>(image, g.out[1], g.out[2], g.o, at.y, at.x, some.first + o, d);
      Vector line[6];
#pragma GCC unroll 4
      for (int j = 0; j < M; ++j) {
#pragma GCC unroll 4
        for (int i = 0; i < M; ++i) line[i] = d[i][j];
        Points<M>::output_backward(line);
#pragma GCC unroll 6
        for (int i = 0; i < SIDE; ++i) d[i][j] = line[i];
      }
      float* point = to + t * some.wide() + o;
#pragma GCC unroll 6
      for (int i = 0; i < SIDE; ++i) {
        Points<M>::output_backward(d[i]);
#pragma GCC unroll 6
        for (int j = 0; j < SIDE; ++j) store(point + (i * SIDE + j) * spacing, d[i][j]);
      }
    }
  }
}

// At m A of `count` tiles from `first` into the images.
template <int M>
void transform_output(const Plan<M>& plan, const float* from, int64_t first, int64_t count,
                      Outputs some, const Finish& finish) {
  constexpr int SIDE = M + 2;
  const StriateConv& g = plan.g;
  const int64_t spacing = plan.spacing(count, some.wide());
  for (int64_t t = 0; t < count; ++t) {
    const Place at = place_of(plan, first + t);
    const int64_t image = at.image * g.out[1] * g.out[2] * g.o + some.first;
    const int64_t height = least(M, g.out[1] - at.y), width = least(M, g.out[2] - at.x);
    for (int64_t o = 0; o < some.count; o += LANES) {
      const int64_t left = least(some.count - o, LANES);
      const float* point = from + t * some.wide() + o;
      Vector m[6][6];
#pragma GCC unroll 6
      for (int i = 0; i < SIDE; ++i)
#pragma GCC unroll 6
        for (int j = 0; j < SIDE; ++j) m[i][j] = load(point + (i * SIDE + j) * spacing);
      both<SIDE, M, Points<M>::output>(m);
      const Vector bias = finish.bias_of(some.first + o, left);
      for (int64_t i = 0; i < height; ++i)
        for (int64_t j = 0; j < width; ++j)
          finish.put_at(image + ((at.y + i) * g.out[2] + at.x + j) * g.o + o, m[i][j] + bias,
                        left);
    }
  }
}

// ---- kernels: G g Gt, in panels of outputs

struct KernelStrides {
  int64_t o, c, h, w;
  const float* first;
};

// As they lie, or turned by half a turn and with inputs and outputs exchanged.
INLINE KernelStrides strides_of(const StriateConv& g, const float* weight) {
  if (!g.turned) return {g.weight_o, g.weight_c, g.weight_k[1], g.weight_k[2], weight};
  return {g.weight_c, g.weight_o, -g.weight_k[1], -g.weight_k[2],
          weight + 2 * g.weight_k[1] + 2 * g.weight_k[2]};
}

template <int M>
int64_t kernel_floats(const Plan<M>& plan) {
  return Plan<M>::POINTS * plan.spacing(plan.channels, plan.outputs);
}

// G g Gt of a vector of outputs from `o`: to[point][channel], `wide` floats and `spacing` apart
template <int M>
void transform_kernel(const Plan<M>& plan, const float* weight, int64_t o, float* to, int64_t wide,
                      int64_t spacing) {
  constexpr int SIDE = M + 2;
  const StriateConv& g = plan.g;
  const KernelStrides s = strides_of(g, weight);
  const int64_t left = least(g.o - o, LANES);
  for (int64_t c = 0; c < g.c; ++c, to += wide) {
    Vector d[6][6];
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        const float* from = s.first + o * s.o + c * s.c + i * s.h + j * s.w;
        Vector value{};
        for (int64_t lane = 0; lane < left; ++lane) value[lane] = from[lane * s.o];
        d[i][j] = value;
      }
    Vector line[6];
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      for (int i = 0; i < 3; ++i) line[i] = d[i][j];
      Points<M>::kernel(line);
#pragma GCC unroll 6
      for (int i = 0; i < SIDE; ++i) d[i][j] = line[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < SIDE; ++i) {
      Points<M>::kernel(d[i]);
#pragma GCC unroll 6
      for (int j = 0; j < SIDE; ++j) store(to + (i * SIDE + j) * spacing, d[i][j]);
    }
  }
}

// Gt (sum of copies) G into the kernels' gradient, a vector of outputs from `o`.
template <int M>
void gather_kernel(const Plan<M>& plan, const float* from, int64_t wide, int64_t spacing,
                   int64_t copies, int64_t o, float* weight) {
  constexpr int SIDE = M + 2;
  const StriateConv& g = plan.g;
  const int64_t left = least(g.o - o, LANES);
  for (int64_t c = 0; c < g.c; ++c, from += wide) {
    Vector d[6][6];
    for (int i = 0; i < SIDE; ++i)
      for (int j = 0; j < SIDE; ++j) {
        d[i][j] = load(from + (i * SIDE + j) * spacing);
        for (int64_t copy = 1; copy < copies; ++copy)
          d[i][j] += load(from + (i * SIDE + j) * spacing + copy * kernel_floats(plan));
      }
    both<SIDE, 3, Points<M>::kernel_backward>(d);
    for (int i = 0; i < 3; ++i)
      for (int j = 0; j < 3; ++j) {
        float* to =
            weight + o * g.weight_o + c * g.weight_c + i * g.weight_k[1] + j * g.weight_k[2];
        for (int64_t lane = 0; lane < left; ++lane) to[lane * g.weight_o] = d[i][j][lane];
      }
  }
}

// ---- by tiles

template <int M>
struct Forward {
  const Plan<M>& plan;
  const float *x, *weight;
  Finish finish;
  float* shared;  // kernels, or tiles by outputs: [point] ...
  bool failed;
};

template <int M>
void kernel_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Forward<M>*>(context);
  const Plan<M>& plan = own.plan;
  const int64_t o = part * LANES, start = o / (WIDE * LANES) * (WIDE * LANES);
  transform_kernel(plan, own.weight, o, own.shared + start * plan.g.c + (o - start),
                   panel(plan.outputs - start), plan.spacing(plan.channels, plan.outputs));
}

template <int M>
void tile_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Forward<M>*>(context);
  const Plan<M>& plan = own.plan;
  const int64_t first = part * plan.batch, count = least(plan.batch, plan.tiles - first);
  const int64_t from = plan.spacing(count, plan.channels), to = plan.spacing(count, plan.outputs);
  float* in = striate::scratch(0, Plan<M>::POINTS * from);
  float* out = striate::scratch(1, Plan<M>::POINTS * to);
  if (!in || !out) {
    own.failed = true;
    return;
  }
  transform_input(plan, own.x, first, count, in, from);
  const int64_t spacing = plan.spacing(plan.channels, plan.outputs);
  for (int64_t f = 0; f < Plan<M>::POINTS; ++f)
    multiply<false>(count, plan.outputs, plan.g.c, in + f * from, plan.channels, 1,
                    own.shared + f * spacing, true, 0, out + f * to, plan.outputs);
  transform_output(plan, out, first, count, {0, plan.g.o}, own.finish);
}

template <int M>
struct Backward {
  const Plan<M>& plan;
  const float *x, *dy;
  float* dw;
  float* shared;  // sums of each copy, or tiles by outputs
  int64_t copies;
  bool failed;
};

// A copy sums every `copies`-th batch of tiles, always the same: sums do not depend on who was
// faster.
template <int M>
void sum_tiles(void* context, int64_t copy, int) {
  auto& own = *static_cast<Backward<M>*>(context);
  const Plan<M>& plan = own.plan;
  const int64_t spacing = plan.spacing(plan.channels, plan.outputs);
  float* sums = own.shared + copy * kernel_floats(plan);
  bool begun = false;
  for (int64_t part = copy; part < plan.parts; part += own.copies) {
    const int64_t first = part * plan.batch, count = least(plan.batch, plan.tiles - first);
    const int64_t from = plan.spacing(count, plan.channels), to = plan.spacing(count, plan.outputs);
    float* in = striate::scratch(0, Plan<M>::POINTS * from);
    float* out = striate::scratch(1, Plan<M>::POINTS * to);
    if (!in || !out) {
      own.failed = true;
      return;
    }
    transform_input(plan, own.x, first, count, in, from);
    transform_gradient(plan, own.dy, first, count, {0, plan.g.o}, out);
    for (int64_t f = 0; f < Plan<M>::POINTS; ++f) {
      const auto add = begun ? multiply<true> : multiply<false>;
      add(plan.g.c, plan.outputs, count, in + f * from, 1, plan.channels, out + f * to, false,
          plan.outputs, sums + f * spacing, plan.outputs);
    }
    begun = true;
  }
}

template <int M>
void gather_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Backward<M>*>(context);
  const Plan<M>& plan = own.plan;
  gather_kernel(plan, own.shared + part * LANES, plan.outputs,
                plan.spacing(plan.channels, plan.outputs), own.copies, part * LANES, own.dw);
}

// ---- by outputs

template <int M>
int64_t tile_floats(const Plan<M>& plan) {
  return Plan<M>::POINTS * plan.spacing(plan.tiles, plan.channels);
}

// `Call` is Forward or Backward: a batch of tiles into what all share.
template <int M, typename Call>
void input_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Call*>(context);
  const Plan<M>& plan = own.plan;
  const int64_t first = part * plan.batch, count = least(plan.batch, plan.tiles - first);
  transform_input(plan, own.x, first, count, own.shared + first * plan.channels,
                  plan.spacing(plan.tiles, plan.channels));
}

template <int M>
Outputs outputs_of(const Plan<M>& plan, int64_t part) {
  const int64_t first = part * WIDE * LANES;
  return {first, least(WIDE * LANES, plan.g.o - first)};
}

template <int M>
void output_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Forward<M>*>(context);
  const Plan<M>& plan = own.plan;
  const Outputs some = outputs_of(plan, part);
  const int64_t spacing = plan.spacing(plan.g.c, some.wide());
  const int64_t from = plan.spacing(plan.tiles, plan.channels);
  float* kernels = striate::scratch(0, Plan<M>::POINTS * spacing);
  float* out = striate::scratch(1, Plan<M>::POINTS * plan.spacing(plan.batch, some.wide()));
  if (!kernels || !out) {
    own.failed = true;
    return;
  }
  for (int64_t o = 0; o < some.count; o += LANES)
    transform_kernel(plan, own.weight, some.first + o, kernels + o, some.wide(), spacing);
  for (int64_t first = 0; first < plan.tiles; first += plan.batch) {
    const int64_t count = least(plan.batch, plan.tiles - first);
    const int64_t to = plan.spacing(count, some.wide());
    for (int64_t f = 0; f < Plan<M>::POINTS; ++f)
      multiply<false>(count, some.wide(), plan.g.c, own.shared + f * from + first * plan.channels,
                      plan.channels, 1, kernels + f * spacing, true, 0, out + f * to, some.wide());
    transform_output(plan, out, first, count, some, own.finish);
  }
}

template <int M>
void sum_outputs(void* context, int64_t part, int) {
  auto& own = *static_cast<Backward<M>*>(context);
  const Plan<M>& plan = own.plan;
  const Outputs some = outputs_of(plan, part);
  const int64_t spacing = plan.spacing(plan.g.c, some.wide());
  const int64_t from = plan.spacing(plan.tiles, plan.channels);
  const int64_t to = plan.spacing(plan.tiles, some.wide());
  float* sums = striate::scratch(0, Plan<M>::POINTS * spacing);
  float* out = striate::scratch(1, Plan<M>::POINTS * to);
  if (!sums || !out) {
    own.failed = true;
    return;
  }
  transform_gradient(plan, own.dy, 0, plan.tiles, some, out);
  for (int64_t f = 0; f < Plan<M>::POINTS; ++f)
    multiply<false>(plan.g.c, some.wide(), plan.tiles, own.shared + f * from, 1, plan.channels,
                    out + f * to, false, some.wide(), sums + f * spacing, some.wide());
  for (int64_t o = 0; o < some.count; o += LANES)
    gather_kernel(plan, sums + o, some.wide(), spacing, 1, some.first + o, own.dw);
}

// ---- what is called

template <int M>
int winograd_forward(const StriateConv& g, const float* x, const float* weight, const float* bias,
                     const float* addend, float* y) {
  const Plan<M> plan(g, FORWARD);
  const int threads = static_cast<int>(g.threads);
  float* shared = striate::scratch(2, plan.by_outputs ? tile_floats(plan) : kernel_floats(plan));
  if (!shared) return STRIATE_NO_MEMORY;
  Forward<M> own{plan, x, weight, Finish(g, bias, addend, y), shared, false};
  if (plan.by_outputs) {
    striate::parallel(plan.parts, threads, input_part<M, Forward<M>>, &own);
    striate::parallel((g.o + WIDE * LANES - 1) / (WIDE * LANES), threads, output_part<M>, &own);
  } else {
    striate::parallel(plan.outputs / LANES, threads, kernel_part<M>, &own);
    striate::parallel(plan.parts, threads, tile_part<M>, &own);
  }
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

template <int M>
int winograd_weight(const StriateConv& g, const float* x, const float* dy, float* dw) {
  const Plan<M> plan(g, WEIGHT);
  const int threads = static_cast<int>(g.threads);
  const int64_t copies = least(plan.parts, threads);
  float* shared =
      striate::scratch(2, plan.by_outputs ? tile_floats(plan) : copies * kernel_floats(plan));
  if (!shared) return STRIATE_NO_MEMORY;
  Backward<M> own{plan, x, dy, dw, shared, copies, false};
  if (plan.by_outputs) {
    striate::parallel(plan.parts, threads, input_part<M, Backward<M>>, &own);
    striate::parallel((g.o + WIDE * LANES - 1) / (WIDE * LANES), threads, sum_outputs<M>, &own);
  } else {
    striate::parallel(copies, threads, sum_tiles<M>, &own);
    if (!own.failed) striate::parallel(plan.outputs / LANES, threads, gather_part<M>, &own);
  }
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

}  // namespace LEVEL
