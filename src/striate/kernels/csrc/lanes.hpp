// Convolution of blocks of images, the images innermost: (C, H, W, lanes).
//
// A vector is one number of LANES images. A tile of answers, up to six channels by eight columns,
// stays in registers; every number of a kernel is spread over the lanes and meets all columns. No
// size, stride or number of channels leaves lanes empty, only batches do.
#pragma once

#include "axis.hpp"
#include "threads.hpp"

namespace LEVEL::images {

// How a block of images lies in memory: columns that a kernel sees beyond the edge are there, as 0.
struct Map {
  int64_t c, h, w;
  int64_t left, pitch;  // columns before the first; of a whole line

  INLINE int64_t line() const { return pitch * LANES; }
  INLINE int64_t plane() const { return h * line(); }
  INLINE int64_t floats() const { return c * plane(); }
  INLINE int64_t at(int64_t channel, int64_t y, int64_t x) const {
    return channel * plane() + y * line() + (left + x) * LANES;
  }
};

// Let the map have the columns that an axis reads.
INLINE void widen(Map& map, const Axis& axis) {
  if (!axis.count || !axis.taps) return;
  const int64_t last_answer = (axis.count - 1) * axis.stride;
  const int64_t last_tap = (axis.taps - 1) * axis.reach;
  const int64_t low = axis.base + least(last_tap, 0);
  const int64_t high = axis.base + last_answer + (last_tap > 0 ? last_tap : 0);
  const int64_t right = map.pitch - map.left - map.w;
  const int64_t left = -low > map.left ? -low : map.left;
  const int64_t more = high - map.w + 1 > right ? high - map.w + 1 : right;
  map.left = left;
  map.pitch = left + map.w + more;
}

inline void clear_borders(const Map& map, float* data) {
  const int64_t right = map.pitch - map.left - map.w;
  if (map.pitch == map.w) return;
  for (int64_t y = 0; y < map.c * map.h; ++y) {
    float* line = data + y * map.line();
    for (int64_t x = 0; x < map.left; ++x) store(line + x * LANES, Vector{});
    for (int64_t x = 0; x < right; ++x) store(line + (map.left + map.w + x) * LANES, Vector{});
  }
}

// ---- tiles of answers

constexpr int64_t TILE = REGISTERS == 32 ? 24 : 12;  // sums in registers
constexpr int64_t MANY = 6, LONG = 8;                // channels and columns at most

INLINE int64_t longest(int64_t channels) { return least(LONG, TILE / channels); }

// `count` in as few parts of at most `most` as there can be, all nearly as large.
struct Parts {
  int64_t count, parts;
  INLINE Parts(int64_t count_, int64_t most) : count(count_), parts((count_ + most - 1) / most) {}
  INLINE int64_t start(int64_t part) const { return part * count / parts; }
  INLINE int64_t size(int64_t part) const { return start(part + 1) - start(part); }
};

struct Tile {
  const float *from, *panel, *bias;  // bias may be null
  float* to;
  int64_t channels, channel, line, tap, column;       // of what is read: how many; distances
  int64_t lines, taps, first_line, end_line, first_tap, end_tap;
  int64_t to_channel, to_column;
};

template <int O, int X>
inline void multiply_tile(const Tile& own) {
  Vector sum[O][X];
#pragma GCC unroll 8
  for (int o = 0; o < O; ++o) {
    const Vector start = own.bias ? spread(own.bias[o]) : Vector{};
#pragma GCC unroll 8
    for (int x = 0; x < X; ++x) sum[o][x] = start;
  }
  for (int64_t c = 0; c < own.channels; ++c)
    for (int64_t j = own.first_line; j < own.end_line; ++j) {
      const float* from = own.from + c * own.channel + j * own.line + own.first_tap * own.tap;
      const float* kernel = own.panel + ((c * own.lines + j) * own.taps + own.first_tap) * O;
      for (int64_t k = own.first_tap; k < own.end_tap; ++k, from += own.tap, kernel += O) {
        Vector seen[X];
#pragma GCC unroll 8
        for (int x = 0; x < X; ++x) seen[x] = load(from + x * own.column);
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) {
          const Vector weight = spread(kernel[o]);
#pragma GCC unroll 8
          for (int x = 0; x < X; ++x) sum[o][x] += weight * seen[x];
        }
      }
    }
#pragma GCC unroll 8
  for (int o = 0; o < O; ++o)
#pragma GCC unroll 8
    for (int x = 0; x < X; ++x) store(own.to + o * own.to_channel + x * own.to_column, sum[o][x]);
}

template <int O>
inline void multiply_columns(const Tile& own, int64_t columns) {
  constexpr int most = TILE / O < LONG ? TILE / O : LONG;
  switch (columns) {
    case 1: return multiply_tile<O, 1>(own);
    case 2: return multiply_tile<O, 2>(own);
    case 3: return multiply_tile<O, most < 3 ? 1 : 3>(own);
    case 4: return multiply_tile<O, most < 4 ? 1 : 4>(own);
    case 5: return multiply_tile<O, most < 5 ? 1 : 5>(own);
    case 6: return multiply_tile<O, most < 6 ? 1 : 6>(own);
    case 7: return multiply_tile<O, most < 7 ? 1 : 7>(own);
    case 8: return multiply_tile<O, most < 8 ? 1 : 8>(own);
  }
}

INLINE void multiply_any(const Tile& own, int64_t channels, int64_t columns) {
  switch (channels) {
    case 1: return multiply_columns<1>(own, columns);
    case 2: return multiply_columns<2>(own, columns);
    case 3: return multiply_columns<3>(own, columns);
    case 4: return multiply_columns<4>(own, columns);
    case 5: return multiply_columns<5>(own, columns);
    case 6: return multiply_columns<6>(own, columns);
  }
}

// ---- a convolution, forward or one phase of the gradient to the input

struct Lanes {
  Axis y, x;
  int64_t groups, channels, answers;  // in a group: of what is read, of what is written

  INLINE int64_t taps() const { return y.taps * x.taps; }
  INLINE int64_t panel_floats() const { return groups * channels * answers * taps(); }
};

// Kernels as [group][part of answers][channel][tap][answer].
inline void pack(const Lanes& own, const StriateConv& g, const float* weight, bool turned,
                 float* to) {
  const Parts parts(own.answers, MANY);
  const int64_t step_o = turned ? g.weight_c : g.weight_o;
  const int64_t step_c = turned ? g.weight_o : g.weight_c;
  for (int64_t group = 0; group < own.groups; ++group) {
    const float* from = weight + group * g.weight_o * (turned ? own.channels : own.answers);
    for (int64_t part = 0; part < parts.parts; ++part)
      for (int64_t c = 0; c < own.channels; ++c)
        for (int64_t j = 0; j < own.y.taps; ++j)
          for (int64_t k = 0; k < own.x.taps; ++k)
            for (int64_t o = parts.start(part); o < parts.start(part + 1); ++o)
              *to++ = from[o * step_o + c * step_c + (own.y.k + j * own.y.k_step) * g.weight_k[1] +
                           (own.x.k + k * own.x.k_step) * g.weight_k[2]];
  }
}

// Which taps of answers `first` to `last` meet something.
INLINE void met(const Axis& axis, int64_t first, int64_t last, int64_t& begin, int64_t& end) {
  const int64_t low = first * axis.stride + axis.base, high = last * axis.stride + axis.base;
  begin = 0;
  end = axis.taps;
  while (begin < end &&
         (high + begin * axis.reach < 0 || low + begin * axis.reach >= axis.from))
    ++begin;
  while (begin < end &&
         (high + (end - 1) * axis.reach < 0 || low + (end - 1) * axis.reach >= axis.from))
    --end;
}

// Line j of the answers. What is read has the borders that `widen` gives.
inline void convolve_line(const Lanes& own, const Map& in, const float* from, const float* panels,
                          const float* bias, const Map& out, float* to, int64_t j) {
  const Parts parts(own.answers, MANY);
  Tile tile;
  tile.channels = own.channels;
  tile.channel = in.plane();
  tile.line = own.y.reach * in.line();
  tile.tap = own.x.reach * LANES;
  tile.column = own.x.stride * LANES;
  tile.lines = own.y.taps;
  tile.taps = own.x.taps;
  tile.to_channel = out.plane();
  tile.to_column = own.x.step * LANES;
  met(own.y, j, j, tile.first_line, tile.end_line);
  const float* panel = panels;
  for (int64_t group = 0; group < own.groups; ++group)
    for (int64_t part = 0; part < parts.parts; ++part) {
      const int64_t o = group * own.answers + parts.start(part), many = parts.size(part);
      const Parts columns(own.x.count, longest(many));
      tile.panel = panel;
      tile.bias = bias ? bias + o : nullptr;
      for (int64_t k = 0; k < columns.parts; ++k) {
        const int64_t first = columns.start(k), wide = columns.size(k);
        met(own.x, first, first + wide - 1, tile.first_tap, tile.end_tap);
        tile.from = from + in.at(group * own.channels, j * own.y.stride + own.y.base,
                                 first * own.x.stride + own.x.base);
        tile.to = to + out.at(o, own.y.first + j * own.y.step, own.x.first + first * own.x.step);
        multiply_any(tile, many, wide);
      }
      panel += many * own.channels * own.taps();
    }
}

// ---- the gradient to the kernels

struct Products {
  const float *dy, *at[LONG];  // the first line of dy's first channel; of x for every tap
  float *sums, *at_sum[LONG];
  int64_t lines, columns;
  int64_t dy_channel, dy_line, x_line, x_column, sum_channel;
};

template <int O, int K>
inline void add_products(const Products& own) {
  Vector sum[O][K];
#pragma GCC unroll 8
  for (int o = 0; o < O; ++o)
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) sum[o][k] = load(own.at_sum[k] + o * own.sum_channel);
  for (int64_t j = 0; j < own.lines; ++j) {
    const float *dy = own.dy + j * own.dy_line, *at[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) at[k] = own.at[k] + j * own.x_line;
    for (int64_t x = 0, from = 0; x < own.columns; ++x, from += own.x_column) {
      Vector wanted[O];
#pragma GCC unroll 8
      for (int o = 0; o < O; ++o) wanted[o] = load(dy + o * own.dy_channel + x * LANES);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k) {
        const Vector seen = load(at[k] + from);
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) sum[o][k] += wanted[o] * seen;
      }
    }
  }
#pragma GCC unroll 8
  for (int o = 0; o < O; ++o)
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) store(own.at_sum[k] + o * own.sum_channel, sum[o][k]);
}

template <int O>
inline void add_taps(const Products& own, int64_t taps) {
  constexpr int most = TILE / O < LONG ? TILE / O : LONG;
  switch (taps) {
    case 1: return add_products<O, 1>(own);
    case 2: return add_products<O, 2>(own);
    case 3: return add_products<O, 3>(own);
    case 4: return add_products<O, most < 4 ? 1 : 4>(own);
    case 5: return add_products<O, most < 5 ? 1 : 5>(own);
    case 6: return add_products<O, most < 6 ? 1 : 6>(own);
    case 7: return add_products<O, most < 7 ? 1 : 7>(own);
    case 8: return add_products<O, most < 8 ? 1 : 8>(own);
  }
}

INLINE void add_any(const Products& own, int64_t channels, int64_t taps) {
  switch (channels) {
    case 1: return add_taps<1>(own, taps);
    case 2: return add_taps<2>(own, taps);
    case 3: return add_taps<3>(own, taps);
    case 4: return add_taps<4>(own, taps);
  }
}

constexpr int64_t CACHED = 20 * 1024;  // bytes of dy that all taps of a line of kernels meet

// Add to sums, a vector for each number of the kernels (o, c / groups, *kernel), the products of dy
// and x over lines `begin` to `end` of dy.
inline void sum_lines(const Lanes& own, const Map& in, const float* x, const Map& out,
                      const float* dy, float* sums, int64_t begin, int64_t end) {
  const Parts parts(own.answers, 4);
  const int64_t pairs = own.channels * own.x.taps;  // of a channel and a tap in a line
  Products tile;
  tile.columns = own.x.count;
  tile.dy_channel = out.plane();
  tile.dy_line = out.line();
  tile.x_line = own.y.stride * in.line();
  tile.x_column = own.x.stride * LANES;
  tile.sum_channel = own.channels * own.taps() * LANES;
  for (int64_t group = 0; group < own.groups; ++group)
    for (int64_t part = 0; part < parts.parts; ++part) {
      const int64_t o = group * own.answers + parts.start(part), many = parts.size(part);
      const Parts blocks(pairs, longest(many));
      for (int64_t block = 0; block < blocks.parts; ++block)
        for (int64_t j = 0; j < own.y.taps; ++j) {
          int64_t first = begin, last = end;  // lines of dy whose tap j is inside
          const int64_t shift = own.y.base + j * own.y.reach;
          while (first < last && first * own.y.stride + shift < 0) ++first;
          while (first < last && (last - 1) * own.y.stride + shift >= own.y.from) --last;
          if (first == last) continue;
          tile.lines = last - first;
          tile.dy = dy + out.at(o, first, 0);
          for (int64_t k = 0; k < blocks.size(block); ++k) {
            const int64_t pair = blocks.start(block) + k;
            const int64_t c = pair / own.x.taps, tap = pair % own.x.taps;
            tile.at[k] = x + in.at(group * own.channels + c, first * own.y.stride + shift,
                                   own.x.base + tap * own.x.reach);
            tile.at_sum[k] =
                sums + (((o * own.channels + c) * own.y.taps + j) * own.x.taps + tap) * LANES;
          }
          add_any(tile, many, blocks.size(block));
        }
    }
}

inline void sum_products(const Lanes& own, const Map& in, const float* x, const Map& out,
                         const float* dy, float* sums) {
  const int64_t cached = CACHED / (4 * 4 * LANES * (own.x.count + 1)), count = own.y.count;
  const Parts chunks(count, cached > 1 ? cached : 1);
  for (int64_t k = 0; k < chunks.parts; ++k)
    sum_lines(own, in, x, out, dy, sums, chunks.start(k), chunks.start(k + 1));
}

}  // namespace LEVEL::images
