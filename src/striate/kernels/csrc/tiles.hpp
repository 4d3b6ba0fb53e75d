// Tiles of pictures and of kernels, cut out, transformed and put back: what both orders of work in
// winograd.hpp are made of.
#pragma once

#include "api.h"
#include "finish.hpp"
#include "gemm.hpp"
#include "minimal.hpp"
#include "threads.hpp"

namespace LEVEL {

// Taps of the first axis, from `first` to before `end`.
struct Taps {
  int64_t first, end;
};

// What is known of a call before its first tile.
template <typename T>
struct Plan {
  const StriateConv& g;
  int64_t tall, wide, tiles;      // tiles of a plane down, across; of all planes of one depth
  int64_t channels, outputs;      // rounded up to whole vectors
  int64_t taps, kept;             // planes that a kernel sees; of them, those that there are
  int64_t batch;                  // tiles that are worked on at once
  int64_t parts;                  // of such
  bool by_outputs;                // the order of work: see winograd.hpp

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
    const int64_t cached =
        striate::cached_floats() * 5 / 8 / (T::POINTS * (kept * channels + outputs));
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

// Bt d B of `count` tiles from `first`, of plane z: to[point][tile][channel], points `spacing`
// apart
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

}  // namespace LEVEL
