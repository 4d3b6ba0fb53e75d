// Convolution 3x3 of stride 1 by Winograd's minimal filtering, F(4x4, 3x3) and F(2x2, 3x3); along
// lines F(4, 3) and F(2, 3).
//
// A tile of M x M outputs sees (M + 2) x (M + 2) inputs. With three small matrices,
//     Y = At [ (G g Gt) . (Bt d B) ] A ,
// where . multiplies element by element: 36 products in place of 144 for M = 4, 16 for 36 for
// M = 2. Summed over channels, each of the (M + 2)^2 elements is a matrix product of its own:
//     out[f] (tiles x O) = in[f] (tiles x C)  kernel[f] (C x O) .
// The gradient to the input is the same convolution with kernels turned and transposed. That to
// the kernels runs it backwards: dkernel[f] = in[f]^T (A dY At)[f], then Gt dkernel G.
//
// Kernels of K x 3 x 3 sum K such products, of K planes of the input: each plane is transformed once,
// and those that lie in the border cost nothing. Kernels of 3 along a line need the half of it:
//     y = At [ (G g) . (Bt d) ] ,
// 6 products in place of 12 for M = 4.
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

// ---- one call
//
// Work comes in one of two orders. By tiles: all kernels are transformed, then each batch of tiles
// goes through all three steps. By outputs: all tiles are transformed, then each panel of outputs
// goes through its steps with all of them. The second one does not write and read kernels 4 times
// as large as they were; the first one does not do so with pictures.

// Measured on a Zen 4: from which ratio of kernels to tiles on the second order is the faster one.
constexpr int64_t FORWARD = 2, WEIGHT = 4;

// Taps of the first axis, from `first` to before `end`.
struct Taps {
  int64_t first, end;
};

// What is known of a call before its first tile.
template <typename T>
struct Plan {
  const StriateConv& g;
  int64_t tall, wide, tiles;      // tiles of a plane down, across; of the batch's planes of one depth
  int64_t channels, outputs;      // rounded up to whole vectors
  int64_t taps, kept;             // planes that a kernel sees; of them, those that there are
  int64_t batch;                  // tiles that are worked on at once
  int64_t parts;                  // of such
  bool by_outputs;                // the order of work: see above

  Plan(const StriateConv& geometry, int64_t ratio) : g(geometry) {
    tall = (g.out[1] + T::HIGH - 1) / T::HIGH;
    wide = (g.out[2] + T::M - 1) / T::M;
    tiles = g.n * tall * wide;
    channels = up(g.c, LANES);
    outputs = up(g.o, LANES);
    taps = g.kernel[0];
    kept = least(taps, g.size[0]);
    // What lies between the transforms should stay in the second-level cache. But kernels are read
    // once a batch: where they are large, more tiles must share them, and more again where each
    // meets them at few points.
    const int64_t cached = 160 * 1024 / (T::POINTS * (kept * channels + outputs));
    const int64_t size = channels * outputs;
    const int64_t shared = T::TALL == 1 ? (size > 256 * 256 ? 16 : 8) * ROWS
                           : size >= 128 * 128 ? 3 * ROWS
                                               : 2 * ROWS;
    batch = cached < shared ? shared : cached > 8 * ROWS ? 8 * ROWS : cached / ROWS * ROWS;
    const int64_t each = (tiles + g.threads - 1) / g.threads;  // nobody stands idle
    if (batch > each) batch = each > 0 ? each : 1;
    parts = (tiles + batch - 1) / batch;
    // Few tiles and many kernels: transform tiles once, and kernels where they are used.
    by_outputs =
        ratio * taps * channels * outputs > g.out[0] * tiles * (channels + outputs) &&
        T::POINTS * g.size[0] * tiles * channels <= 8 * 1024 * 1024;
  }

  // Distance of two points in what `count` tiles give; odd in lines, lest all of them fall into
  // the same few places of the cache.
  static int64_t spacing(int64_t count, int64_t channels) { return count * channels + 16; }

  // Those of a kernel's planes that see a plane of the input, from output plane z: tap k sees
  // plane z + k - pad.
  Taps taps_of(int64_t z) const {
    const int64_t first = g.pad[0] > z ? g.pad[0] - z : 0;
    const int64_t end = least(taps, g.size[0] + g.pad[0] - z);
    return {least(first, taps), end > first ? end : least(first, taps)};
  }

  // The first output plane from which tap k sees something; the number of them where none does.
  int64_t first_of(int64_t k) const {
    const int64_t z = g.pad[0] > k ? g.pad[0] - k : 0;
    return z < g.out[0] && z + k - g.pad[0] < g.size[0] ? z : g.out[0];
  }
};

struct Place {
  int64_t image, y, x;  // of a tile's first output
};

template <typename T>
INLINE Place place_of(const Plan<T>& plan, int64_t tile) {
  const int64_t of_image = plan.tall * plan.wide, at = tile % of_image;
  return {tile / of_image, at / plan.wide * T::HIGH, at % plan.wide * T::M};
}

// Read Tall x Wide pixels whose first is (y, x), LANES channels from `c`; zeros around.
template <int Tall, int Wide>
INLINE void read_square(const float* image, int64_t h, int64_t w, int64_t channels, int64_t y,
                        int64_t x, int64_t c, Vector (*d)[6]) {
  const int64_t left = least(channels - c, LANES);
  const bool within = y >= 0 && x >= 0 && y + Tall <= h && x + Wide <= w && left == LANES;
#pragma GCC unroll 6
  for (int i = 0; i < Tall; ++i)
#pragma GCC unroll 6
    for (int j = 0; j < Wide; ++j) {
      const float* from = image + ((y + i) * w + x + j) * channels + c;
      if (within)
        d[i][j] = load(from);
      else if (y + i < 0 || y + i >= h || x + j < 0 || x + j >= w)
        d[i][j] = Vector{};
      else
        d[i][j] = load_part(from, left);
    }
}

// Bt d B of `count` tiles from `first`, of plane z: to[point][tile][channel], points `spacing` apart
template <typename T>
void transform_input(const Plan<T>& plan, const float* x, int64_t z, int64_t first, int64_t count,
                     float* to, int64_t spacing) {
  const StriateConv& g = plan.g;
  for (int64_t t = 0; t < count; ++t) {
    const Place at = place_of(plan, first + t);
    const float* plane = x + (at.image * g.size[0] + z) * g.size[1] * g.size[2] * g.c;
    for (int64_t c = 0; c < g.c; c += LANES) {
      Vector d[6][6];
      read_square<T::TALL, T::SIDE>(plane, g.size[1], g.size[2], g.c, at.y - g.pad[1],
                                    at.x - g.pad[2], c, d);
      T::template both<T::SIDE, T::SIDE, T::Half::input>(d);
      T::put_points(to + t * plan.channels + c, spacing, d);
    }
  }
}

// Some outputs: `count` of them, in whole vectors but for the last, from `first`.
struct Outputs {
  int64_t first, count;
  int64_t wide() const { return up(count, LANES); }
};

// A dY At of `count` tiles from `first`, of plane z: to[point][tile][output]
template <typename T>
void transform_gradient(const Plan<T>& plan, const float* dy, int64_t z, int64_t first,
                        int64_t count, Outputs some, float* to) {
  const StriateConv& g = plan.g;
  const int64_t spacing = plan.spacing(count, some.wide());
  for (int64_t t = 0; t < count; ++t) {
    const Place at = place_of(plan, first + t);
    const float* plane = dy + (at.image * g.out[0] + z) * g.out[1] * g.out[2] * g.o;
    for (int64_t o = 0; o < some.count; o += LANES) {
      Vector d[6][6];
      read_square<T::HIGH, T::M>(plane, g.out[1], g.out[2], g.o, at.y, at.x, some.first + o, d);
      T::template both<T::M, T::SIDE, T::Half::output_backward>(d);
      T::put_points(to + t * some.wide() + o, spacing, d);
    }
  }
}

// At m A of `count` tiles from `first` into plane z of the images.
template <typename T>
void transform_output(const Plan<T>& plan, const float* from, int64_t z, int64_t first,
                      int64_t count, Outputs some, const Finish& finish) {
  const StriateConv& g = plan.g;
  const int64_t spacing = plan.spacing(count, some.wide());
  for (int64_t t = 0; t < count; ++t) {
    const Place at = place_of(plan, first + t);
    const int64_t plane = (at.image * g.out[0] + z) * g.out[1] * g.out[2] * g.o + some.first;
    const int64_t height = least(T::HIGH, g.out[1] - at.y), width = least(T::M, g.out[2] - at.x);
    for (int64_t o = 0; o < some.count; o += LANES) {
      const int64_t left = least(some.count - o, LANES);
      const float* point = from + t * some.wide() + o;
      Vector m[6][6];
#pragma GCC unroll 6
      for (int i = 0; i < T::TALL; ++i)
#pragma GCC unroll 6
        for (int j = 0; j < T::SIDE; ++j) m[i][j] = load(point + (i * T::SIDE + j) * spacing);
      T::template both<T::SIDE, T::M, T::Half::output>(m);
      const Vector bias = finish.bias_of(some.first + o, left);
      for (int64_t i = 0; i < height; ++i)
        for (int64_t j = 0; j < width; ++j)
          finish.put_at(plane + ((at.y + i) * g.out[2] + at.x + j) * g.o + o, m[i][j] + bias,
                        left);
    }
  }
}

// ---- kernels: G g Gt, in panels of outputs

struct KernelStrides {
  int64_t o, c, d, h, w;
  const float* first;
};

// As they lie, or turned by half a turn and with inputs and outputs exchanged.
INLINE KernelStrides strides_of(const StriateConv& g, const float* weight) {
  const int64_t* k = g.weight_k;
  if (!g.turned) return {g.weight_o, g.weight_c, k[0], k[1], k[2], weight};
  const float* last = weight;
  for (int a = 0; a < 3; ++a) last += (g.kernel[a] - 1) * k[a];
  return {g.weight_c, g.weight_o, -k[0], -k[1], -k[2], last};
}

// Of one tap of the first axis.
template <typename T>
int64_t tap_floats(const Plan<T>& plan) {
  return T::POINTS * plan.spacing(plan.channels, plan.outputs);
}

// G g Gt of tap k, a vector of outputs from `o`: to[point][channel], `wide` floats and `spacing`
// apart
template <typename T>
void transform_kernel(const Plan<T>& plan, const float* weight, int64_t k, int64_t o, float* to,
                      int64_t wide, int64_t spacing) {
  const StriateConv& g = plan.g;
  const KernelStrides s = strides_of(g, weight);
  const int64_t left = least(g.o - o, LANES);
  for (int64_t c = 0; c < g.c; ++c, to += wide) {
    Vector d[6][6];
    for (int i = 0; i < T::KERNEL_TALL; ++i)
      for (int j = 0; j < 3; ++j) {
        const float* from = s.first + o * s.o + c * s.c + k * s.d + i * s.h + j * s.w;
        Vector value{};
        for (int64_t lane = 0; lane < left; ++lane) value[lane] = from[lane * s.o];
        d[i][j] = value;
      }
    T::template both<3, T::SIDE, T::Half::kernel>(d);
    T::put_points(to, spacing, d);
  }
}

// Gt (sum of copies) G into the kernels' gradient, a vector of outputs from `o` of tap k.
template <typename T>
void gather_kernel(const Plan<T>& plan, const float* from, int64_t wide, int64_t spacing,
                   int64_t copies, int64_t k, int64_t o, float* weight) {
  const StriateConv& g = plan.g;
  const int64_t left = least(g.o - o, LANES), each = plan.taps * tap_floats(plan);
  for (int64_t c = 0; c < g.c; ++c, from += wide) {
    Vector d[6][6];
    for (int i = 0; i < T::TALL; ++i)
      for (int j = 0; j < T::SIDE; ++j) {
        const float* point = from + (i * T::SIDE + j) * spacing;
        d[i][j] = load(point);
        for (int64_t copy = 1; copy < copies; ++copy) d[i][j] += load(point + copy * each);
      }
    T::template both<T::SIDE, 3, T::Half::kernel_backward>(d);
    for (int i = 0; i < T::KERNEL_TALL; ++i)
      for (int j = 0; j < 3; ++j) {
        float* to = weight + o * g.weight_o + c * g.weight_c + k * g.weight_k[0] +
                    i * g.weight_k[1] + j * g.weight_k[2];
        for (int64_t lane = 0; lane < left; ++lane) to[lane * g.weight_o] = d[i][j][lane];
      }
  }
}

// ---- by tiles

template <typename T>
struct Forward {
  const Plan<T>& plan;
  const float *x, *weight;
  Finish finish;
  float* shared;  // kernels, [tap][point] ...; or tiles by outputs, [plane][point] ...
  bool failed;
};

template <typename T>
void kernel_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Forward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const int64_t k = part % plan.taps, o = part / plan.taps * LANES;
  const int64_t start = o / (WIDE * LANES) * (WIDE * LANES);
  transform_kernel(plan, own.weight, k, o,
                   own.shared + k * tap_floats(plan) + start * plan.g.c + (o - start),
                   panel(plan.outputs - start), plan.spacing(plan.channels, plan.outputs));
}

// The planes of the input that a batch of tiles sees from one plane of outputs, transformed. They
// are kept until no further plane sees them.
template <typename T>
struct Planes {
  const Plan<T>& plan;
  const float* x;
  int64_t first, count;  // tiles
  int64_t spacing;
  float* memory;         // null: there is none
  int64_t next = 0;

  Planes(const Plan<T>& plan_, const float* x_, int64_t first_, int64_t count_)
      : plan(plan_), x(x_), first(first_), count(count_),
        spacing(plan_.spacing(count_, plan_.channels)),
        memory(striate::scratch(0, plan_.kept * T::POINTS * spacing)) {}

  float* at(int64_t z) const { return memory + z % plan.kept * T::POINTS * spacing; }

  // Let there be those that are seen from output plane z.
  void reach(int64_t z) {
    const Taps taps = plan.taps_of(z);
    for (; next < z + taps.end - plan.g.pad[0]; ++next)
      transform_input(plan, x, next, first, count, at(next), spacing);
  }
};

// Plane z of outputs, in points: the sum over taps of in[plane][point] kernel[tap][point]. `at` says
// where a plane of the input lies, `from` how far its points are apart; `tap` and `kernel` how far
// taps of `kernels` and their points.
template <typename T, typename At>
void multiply_taps(const Plan<T>& plan, int64_t z, int64_t rows, int64_t columns, At at,
                   int64_t from, const float* kernels, int64_t tap, int64_t kernel, float* out) {
  const Taps taps = plan.taps_of(z);
  const int64_t to = plan.spacing(rows, columns);
  if (taps.first == taps.end) std::memset(out, 0, sizeof(float) * T::POINTS * to);
  for (int64_t f = 0; f < T::POINTS; ++f)
    for (int64_t k = taps.first; k < taps.end; ++k) {
      const auto product = k == taps.first ? multiply<false> : multiply<true>;
      product(rows, columns, plan.g.c, at(z + k - plan.g.pad[0]) + f * from, plan.channels, 1,
              kernels + k * tap + f * kernel, true, 0, out + f * to, columns);
    }
}

template <typename T>
void tile_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Forward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const int64_t first = part * plan.batch, count = least(plan.batch, plan.tiles - first);
  Planes<T> planes(plan, own.x, first, count);
  const int64_t to = plan.spacing(count, plan.outputs);
  float* out = striate::scratch(1, T::POINTS * to);
  if (!planes.memory || !out) {
    own.failed = true;
    return;
  }
  for (int64_t z = 0; z < plan.g.out[0]; ++z) {
    planes.reach(z);
    multiply_taps(
        plan, z, count, plan.outputs, [&](int64_t plane) { return planes.at(plane); },
        planes.spacing, own.shared, tap_floats(plan), plan.spacing(plan.channels, plan.outputs),
        out);
    transform_output(plan, out, z, first, count, {0, plan.g.o}, own.finish);
  }
}

template <typename T>
struct Backward {
  const Plan<T>& plan;
  const float *x, *dy;
  float* dw;
  float* shared;  // sums of each copy, or tiles by outputs
  int64_t copies;
  bool failed;
};

// Add to the sums of each tap in[point]^T out[point], where `out` is plane z of dy; `begun`: the
// sums hold something before z = 0. Arguments are those of multiply_taps.
template <typename T, typename At>
void sum_taps(const Plan<T>& plan, int64_t z, bool begun, int64_t rows, int64_t columns, At at,
              int64_t from, const float* out, float* sums, int64_t tap, int64_t kernel) {
  const Taps taps = plan.taps_of(z);
  for (int64_t k = taps.first; k < taps.end; ++k)
    for (int64_t f = 0; f < T::POINTS; ++f) {
      const auto add = begun || z > plan.first_of(k) ? multiply<true> : multiply<false>;
      add(plan.g.c, columns, rows, at(z + k - plan.g.pad[0]) + f * from, 1, plan.channels,
          out + f * plan.spacing(rows, columns), false, columns, sums + k * tap + f * kernel,
          columns);
    }
}

// Sums of taps that see nothing but the border, from no plane.
template <typename T>
void clear_unseen(const Plan<T>& plan, float* sums, int64_t tap) {
  for (int64_t k = 0; k < plan.taps; ++k)
    if (plan.first_of(k) == plan.g.out[0]) std::memset(sums + k * tap, 0, sizeof(float) * tap);
}

// A copy sums every `copies`-th batch of tiles, always the same: sums do not depend on who was
// faster.
template <typename T>
void sum_tiles(void* context, int64_t copy, int) {
  auto& own = *static_cast<Backward<T>*>(context);
  const Plan<T>& plan = own.plan;
  float* sums = own.shared + copy * plan.taps * tap_floats(plan);
  clear_unseen(plan, sums, tap_floats(plan));
  for (int64_t part = copy; part < plan.parts; part += own.copies) {
    const int64_t first = part * plan.batch, count = least(plan.batch, plan.tiles - first);
    Planes<T> planes(plan, own.x, first, count);
    float* out = striate::scratch(1, T::POINTS * plan.spacing(count, plan.outputs));
    if (!planes.memory || !out) {
      own.failed = true;
      return;
    }
    for (int64_t z = 0; z < plan.g.out[0]; ++z) {
      planes.reach(z);
      transform_gradient(plan, own.dy, z, first, count, {0, plan.g.o}, out);
      sum_taps(
          plan, z, part != copy, count, plan.outputs,
          [&](int64_t plane) { return planes.at(plane); }, planes.spacing, out, sums,
          tap_floats(plan), plan.spacing(plan.channels, plan.outputs));
    }
  }
}

template <typename T>
void gather_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Backward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const int64_t k = part % plan.taps, o = part / plan.taps * LANES;
  gather_kernel(plan, own.shared + k * tap_floats(plan) + o, plan.outputs,
                plan.spacing(plan.channels, plan.outputs), own.copies, k, o, own.dw);
}

// ---- by outputs

// Of one plane.
template <typename T>
int64_t plane_floats(const Plan<T>& plan) {
  return T::POINTS * plan.spacing(plan.tiles, plan.channels);
}

// `Call` is Forward or Backward: a batch of tiles of a plane into what all share.
template <typename T, typename Call>
void input_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Call*>(context);
  const Plan<T>& plan = own.plan;
  const int64_t z = part / plan.parts, first = part % plan.parts * plan.batch;
  transform_input(plan, own.x, z, first, least(plan.batch, plan.tiles - first),
                  own.shared + z * plane_floats(plan) + first * plan.channels,
                  plan.spacing(plan.tiles, plan.channels));
}

template <typename T>
Outputs outputs_of(const Plan<T>& plan, int64_t part) {
  const int64_t first = part * WIDE * LANES;
  return {first, least(WIDE * LANES, plan.g.o - first)};
}

template <typename T>
void output_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Forward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const Outputs some = outputs_of(plan, part);
  const int64_t spacing = plan.spacing(plan.g.c, some.wide()), tap = T::POINTS * spacing;
  float* kernels = striate::scratch(0, plan.taps * tap);
  float* out = striate::scratch(1, T::POINTS * plan.spacing(plan.batch, some.wide()));
  if (!kernels || !out) {
    own.failed = true;
    return;
  }
  for (int64_t k = 0; k < plan.taps; ++k)
    for (int64_t o = 0; o < some.count; o += LANES)
      transform_kernel(plan, own.weight, k, some.first + o, kernels + k * tap + o, some.wide(),
                       spacing);
  for (int64_t first = 0; first < plan.tiles; first += plan.batch) {
    const int64_t count = least(plan.batch, plan.tiles - first);
    const float* tiles = own.shared + first * plan.channels;
    for (int64_t z = 0; z < plan.g.out[0]; ++z) {
      multiply_taps(
          plan, z, count, some.wide(),
          [&](int64_t plane) { return tiles + plane * plane_floats(plan); },
          plan.spacing(plan.tiles, plan.channels), kernels, tap, spacing, out);
      transform_output(plan, out, z, first, count, some, own.finish);
    }
  }
}

template <typename T>
void sum_outputs(void* context, int64_t part, int) {
  auto& own = *static_cast<Backward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const Outputs some = outputs_of(plan, part);
  const int64_t spacing = plan.spacing(plan.g.c, some.wide()), tap = T::POINTS * spacing;
  float* sums = striate::scratch(0, plan.taps * tap);
  float* out = striate::scratch(1, T::POINTS * plan.spacing(plan.tiles, some.wide()));
  if (!sums || !out) {
    own.failed = true;
    return;
  }
  clear_unseen(plan, sums, tap);
  for (int64_t z = 0; z < plan.g.out[0]; ++z) {
    transform_gradient(plan, own.dy, z, 0, plan.tiles, some, out);
    sum_taps(
        plan, z, false, plan.tiles, some.wide(),
        [&](int64_t plane) { return own.shared + plane * plane_floats(plan); },
        plan.spacing(plan.tiles, plan.channels), out, sums, tap, spacing);
  }
  for (int64_t k = 0; k < plan.taps; ++k)
    for (int64_t o = 0; o < some.count; o += LANES)
      gather_kernel(plan, sums + k * tap + o, some.wide(), spacing, 1, k, some.first + o, own.dw);
}

// ---- what is called

template <typename T>
int winograd_forward(const StriateConv& g, const float* x, const float* weight, const float* bias,
                     const float* addend, float* y) {
  const Plan<T> plan(g, FORWARD);
  const int threads = static_cast<int>(g.threads);
  float* shared = striate::scratch(2, plan.by_outputs ? g.size[0] * plane_floats(plan)
                                                      : plan.taps * tap_floats(plan));
  if (!shared) return STRIATE_NO_MEMORY;
  Forward<T> own{plan, x, weight, Finish(g, bias, addend, y), shared, false};
  if (plan.by_outputs) {
    striate::parallel(g.size[0] * plan.parts, threads, input_part<T, Forward<T>>, &own);
    striate::parallel((g.o + WIDE * LANES - 1) / (WIDE * LANES), threads, output_part<T>, &own);
  } else {
    striate::parallel(plan.taps * (plan.outputs / LANES), threads, kernel_part<T>, &own);
    striate::parallel(plan.parts, threads, tile_part<T>, &own);
  }
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

template <typename T>
int winograd_weight(const StriateConv& g, const float* x, const float* dy, float* dw) {
  const Plan<T> plan(g, WEIGHT);
  const int threads = static_cast<int>(g.threads);
  const int64_t copies = least(plan.parts, threads);
  float* shared = striate::scratch(2, plan.by_outputs ? g.size[0] * plane_floats(plan)
                                                      : copies * plan.taps * tap_floats(plan));
  if (!shared) return STRIATE_NO_MEMORY;
  Backward<T> own{plan, x, dy, dw, shared, copies, false};
  if (plan.by_outputs) {
    striate::parallel(g.size[0] * plan.parts, threads, input_part<T, Backward<T>>, &own);
    striate::parallel((g.o + WIDE * LANES - 1) / (WIDE * LANES), threads, sum_outputs<T>, &own);
  } else {
    striate::parallel(copies, threads, sum_tiles<T>, &own);
    if (!own.failed)
      striate::parallel(plan.taps * (plan.outputs / LANES), threads, gather_part<T>, &own);
  }
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

}  // namespace LEVEL
