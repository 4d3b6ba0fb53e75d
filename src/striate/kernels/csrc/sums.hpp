// The gradient to the kernels of any convolution: rows of what kernels see times gradients.
//
// With A as in direct.hpp, K numbers that each of P outputs sees,
//     dw = At dy .
// P is long, and K x O sums are many. So a few outputs are taken at a time, and their gradients put
// into panels, of which one stays in the first-level cache; and of A a block of columns, of one tap
// and some channels, which stays in the second-level cache while all panels meet it.
#pragma once

#include "direct.hpp"

namespace LEVEL {

constexpr int64_t CHANNELS = 128;                // of A's columns at a time, at most
constexpr int64_t FEW = 64;                      // of fewer, all taps are taken at once
constexpr int64_t DEEP = 4096 / (WIDE * LANES);  // outputs at a time: panels of 16 KB

struct Sums {
  const Rows& rows;
  const float *x, *dy;
  float* sums;     // [copy][group][k][output]
  int64_t copies;
  bool failed;

  // Whether all taps are taken at once.
  bool whole() const { return rows.c < FEW; }
  // Whether A's columns lie in the input as they are wanted.
  bool lies_ready() const {
    const bool close = rows.c <= CHANNELS && rows.groups == 1;
    return rows.lies_ready() && (whole() || rows.o < FEW || close);
  }
  // Whether so few columns meet dy that it is not worth while to put it into panels.
  bool plain() const { return rows.depth < FEW && rows.o % LANES == 0; }
};

// `count` gradients from dy on, as panels: to[panel][output][lane]
INLINE void pack_gradient(const Rows& rows, const float* dy, int64_t count, float* to) {
  for (int64_t j = 0; j < rows.outputs;) {
    const int64_t wide = panel(rows.outputs - j);
    for (int64_t p = 0; p < count; ++p, to += wide)
      for (int64_t o = 0; o < wide; o += LANES) {
        const int64_t left = rows.o - j - o;
        store(to + o, get(dy + p * rows.row_to + j + o, least(left, LANES)));
      }
    j += wide;
  }
}

// What one tap sees of `wide` channels, from that at x on, for `count` outputs from `first`:
// to[output][channel]
INLINE void gather_tap(const Rows& rows, const float* x, const int64_t (&tap)[3], int64_t first,
                       int64_t count, int64_t wide, float* to) {
  const Axis* axis = rows.axis;
  Pixel pixel = pixel_of(rows, first);
  for (int64_t p = 0; p < count; ++p, next(rows, pixel), to += wide) {
    int64_t at = pixel.image;
    bool inside = true;
    for (int a = 0; a < 3; ++a) {
      const int64_t place = pixel.at[a] * axis[a].stride + axis[a].base + tap[a] * axis[a].reach;
      inside = inside && place >= 0 && place < axis[a].from;
      at = at * axis[a].from + place;
    }
    if (inside)
      copy(to, x + at * rows.row_from, wide);
    else
      clear(to, wide);
  }
}

// sums (+)= At dy for `count` outputs from `first`, of one group; `seen` has room for A's columns.
INLINE void sum_batch(const Sums& own, bool add, int64_t group, int64_t first, int64_t count,
                      const float* dy, float* seen, float* sums) {
  const Rows& rows = own.rows;
  const float* x = own.x + group * rows.c;
  const auto product = add ? multiply<true> : multiply<false>;
  // `wide` columns of A, `step` floats from one output to the next
  const auto add_block = [&](const float* a, int64_t step, int64_t wide) INLINE_LAMBDA {
    product(wide, rows.outputs, count, a, 1, step, dy, !own.plain(), rows.row_to, sums,
            rows.outputs);
    sums += wide * rows.outputs;
  };
  if (own.lies_ready()) return add_block(x + first * rows.row_from, rows.row_from, rows.depth);
  if (own.whole()) {
    gather(rows, x, first, count, seen);
    return add_block(seen, rows.depth, rows.depth);
  }
  const int64_t blocks = (rows.c + CHANNELS - 1) / CHANNELS;
  const int64_t lines = rows.axis[1].taps, columns = rows.axis[2].taps;
  for (int64_t t = 0; t < rows.taps; ++t) {
    const int64_t tap[3] = {t / columns / lines, t / columns % lines, t % columns};
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t c = rows.c * block / blocks, wide = rows.c * (block + 1) / blocks - c;
      gather_tap(rows, x + c, tap, first, count, wide, seen);
      add_block(seen, wide, wide);
    }
  }
}

// A copy adds every `copies`-th batch of outputs, always the same: sums do not depend on who was
// faster.
inline void sum_part(void* context, int64_t copy_, int) {
  auto& own = *static_cast<Sums*>(context);
  const Rows& rows = own.rows;
  float* seen = striate::scratch(0, rows.batch * (own.whole() ? rows.depth : CHANNELS));
  float* panels = striate::scratch(1, own.plain() ? 0 : rows.batch * rows.outputs);
  if (!seen || !panels) {
    own.failed = true;
    return;
  }
  for (int64_t group = 0; group < rows.groups; ++group) {
    float* sums = own.sums + (copy_ * rows.groups + group) * panel_floats(rows);
    for (int64_t part = copy_; part < rows.parts; part += own.copies) {
      const int64_t first = part * rows.batch, count = least(rows.batch, rows.total - first);
      const float* dy = own.dy + first * rows.row_to + group * rows.o;
      if (!own.plain()) pack_gradient(rows, dy, count, panels);
      sum_batch(own, part != copy_, group, first, count, own.plain() ? dy : panels, seen, sums);
    }
  }
}

struct Unpacking {
  const Rows& rows;
  const StriateConv& g;
  const float* sums;
  int64_t copies;
  float* weight;
};

// One tap of a vector of outputs, sums of all copies, to where kernels lie.
INLINE void unpack_tap(const Unpacking& own, const float* from, int64_t left, float* to) {
  const Rows& rows = own.rows;
  const int64_t each = rows.groups * panel_floats(rows), row = rows.outputs;
  const int64_t step_o = own.g.weight_o, step_c = own.g.weight_c;
  const auto sum_of = [&](int64_t c) INLINE_LAMBDA {
    Vector sum = load(from + c * row);
    for (int64_t copy = 1; copy < own.copies; ++copy) sum += load(from + copy * each + c * row);
    return sum;
  };
  unpack_rows(sum_of, rows.c, left, to, step_o, step_c);
}

inline void unpack_vector(void* context, int64_t part, int) {
  const auto& own = *static_cast<Unpacking*>(context);
  const Rows& rows = own.rows;
  const int64_t vectors = rows.outputs / LANES, group = part / vectors, o = part % vectors * LANES;
  const float* from = own.sums + group * panel_floats(rows) + o;
  float* to = own.weight + (group * rows.o + o) * own.g.weight_o;
  const Axis* axis = rows.axis;
  for (int64_t i = 0; i < axis[0].taps; ++i)
    for (int64_t j = 0; j < axis[1].taps; ++j)
      for (int64_t l = 0; l < axis[2].taps; ++l, from += rows.c * rows.outputs)
        unpack_tap(own, from, least(rows.o - o, LANES),
                   to + i * own.g.weight_k[0] + j * own.g.weight_k[1] + l * own.g.weight_k[2]);
}

// How many outputs are taken at a time.
inline void plan_sums(Rows& rows, int threads, bool whole) {
  rows.plan(threads);
  const int64_t cached = striate::cached_floats() * 3 / 4 / (rows.depth + 1);
  const int64_t each = (rows.total + threads - 1) / threads;
  rows.batch = whole ? least(DEEP, cached < 4 * ROWS ? 4 * ROWS : cached) : DEEP;
  rows.batch = least(rows.batch, each > 0 ? each : 1);
  rows.parts = (rows.total + rows.batch - 1) / rows.batch;
}

inline int direct_weight(const StriateConv& g, const float* x, const float* dy, float* dw) {
  Rows rows(g, forward_axes(g), false);
  const int threads = static_cast<int>(g.threads);
  Sums own{rows, x, dy, nullptr, 0, false};
  plan_sums(rows, threads, own.whole());
  own.copies = least(rows.parts, threads);
  const int64_t kept = own.copies ? own.copies : 1;  // without outputs, sums are 0
  own.sums = striate::scratch(2, kept * rows.groups * panel_floats(rows));
  if (!own.sums) return STRIATE_NO_MEMORY;
  striate::parallel(own.copies, threads, sum_part, &own);
  if (own.failed) return STRIATE_NO_MEMORY;
  if (!own.copies) std::memset(own.sums, 0, sizeof(float) * rows.groups * panel_floats(rows));
  Unpacking unpacking{rows, g, own.sums, own.copies, dw};
  striate::parallel(rows.groups * (rows.outputs / LANES), threads, unpack_vector, &unpacking);
  return STRIATE_DONE;
}

}  // namespace LEVEL
