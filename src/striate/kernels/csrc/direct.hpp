// Any convolution as a matrix product: what a kernel sees of the input, gathered into rows.
//
// Row p of A holds the K = taps * C numbers that output p sees; with kernels as a K x O matrix,
//     y = A W .
// Rows are gathered for a few outputs at a time and stay in the cache. Copying a number once costs
// little beside the O multiplications that it meets.
//
// The gradient to the input gathers too, phase by phase (see axis.hpp), or scatters where that is
// less work (scatter.hpp). That to the kernels is in sums.hpp.
#pragma once

#include "axis.hpp"
#include "finish.hpp"
#include "gemm.hpp"
#include "pack.hpp"
#include "scatter.hpp"
#include "threads.hpp"

namespace LEVEL {

// What is known of a product before its first row.
struct Rows : Axes {
  int64_t n, c, o;  // samples; channels of what is read and of answers, in one group
  int64_t groups;
  int64_t row_from, row_to;          // channels of all groups: distance of two pixels
  int64_t taps = 0, depth = 0;       // K = taps * c
  int64_t outputs = 0;               // o, rounded up to whole vectors
  int64_t total = 0, batch = 0, parts = 0;  // answers; that are worked on at once; of such

  // Turned: what is read are y's channels, and answers are x's.
  Rows(const StriateConv& g, const Axes& axes, bool turned)
      : Axes(axes), n(g.n), c((turned ? g.o : g.c) / g.groups), o((turned ? g.c : g.o) / g.groups),
        groups(g.groups), row_from(turned ? g.o : g.c), row_to(turned ? g.c : g.o) {}

  void plan(int threads) {
    taps = axis[0].taps * axis[1].taps * axis[2].taps;
    depth = taps * c;
    outputs = up(o, LANES);
    total = n * axis[0].count * axis[1].count * axis[2].count;
    const int64_t cached = striate::cached_floats() * 3 / 8 / (depth + outputs + 1);
    batch = cached < ROWS ? ROWS : cached > 16 * ROWS ? 16 * ROWS : cached / ROWS * ROWS;
    const int64_t each = (total + threads - 1) / threads;
    if (batch > each) batch = each > 0 ? each : 1;
    parts = (total + batch - 1) / batch;
  }

  // One tap that reads pixel after pixel: rows lie in the input as they are wanted.
  bool lies_ready() const {
    for (const Axis& one : axis)
      if (one.taps != 1 || one.stride != 1 || one.base != 0 || one.from != one.count) return false;
    return true;
  }
};

struct Pixel {
  int64_t image, at[3];
};

INLINE Pixel pixel_of(const Rows& rows, int64_t p) {
  Pixel pixel;
  for (int a = 2; a >= 0; --a) {
    pixel.at[a] = p % rows.axis[a].count;
    p /= rows.axis[a].count;
  }
  pixel.image = p;
  return pixel;
}

INLINE void next(const Rows& rows, Pixel& pixel) {
  for (int a = 2; a >= 0; --a) {
    if (++pixel.at[a] < rows.axis[a].count) return;
    pixel.at[a] = 0;
  }
  ++pixel.image;
}

// Taps of the last axis, from `line`; those that reach outside are 0.
INLINE float* gather_line(const Rows& rows, const float* line, int64_t start, float* to) {
  const Axis& axis = rows.axis[2];
  const int64_t c = rows.c;
  if (axis.reach == 1 && rows.groups == 1) {  // neighbours lie side by side: one piece
    const int64_t before = start < 0 ? least(-start, axis.taps) : 0;
    const int64_t end = least(axis.taps, axis.from - start);
    clear(to, before * c);
    if (end > before) copy(to + before * c, line + (start + before) * c, (end - before) * c);
    const int64_t rest = end > before ? end : before;
    clear(to + rest * c, (axis.taps - rest) * c);
    return to + axis.taps * c;
  }
  for (int64_t t = 0; t < axis.taps; ++t, to += c) {
    const int64_t x = start + t * axis.reach;
    if (x < 0 || x >= axis.from)
      clear(to, c);
    else
      copy(to, line + x * rows.row_from, c);
  }
  return to;
}

// Rows of `count` answers from `first`, of one group.
inline void gather(const Rows& rows, const float* x, int64_t first, int64_t count, float* to) {
  const Axis *z = &rows.axis[0], *y = &rows.axis[1], *w = &rows.axis[2];
  Pixel pixel = pixel_of(rows, first);
  const int64_t line = w->taps * rows.c;
  for (int64_t p = 0; p < count; ++p, next(rows, pixel)) {
    const float* image = x + pixel.image * z->from * y->from * w->from * rows.row_from;
    const int64_t start = pixel.at[2] * w->stride + w->base;
    for (int64_t i = 0; i < z->taps; ++i) {
      const int64_t depth = pixel.at[0] * z->stride + z->base + i * z->reach;
      for (int64_t j = 0; j < y->taps; ++j) {
        const int64_t row = pixel.at[1] * y->stride + y->base + j * y->reach;
        if (depth < 0 || depth >= z->from || row < 0 || row >= y->from) {
          clear(to, line);
          to += line;
        } else {
          to = gather_line(rows, image + (depth * y->from + row) * w->from * rows.row_from, start,
                           to);
        }
      }
    }
  }
}

// ---- kernels as panels of a K x O matrix

struct Packing {
  const Rows& rows;
  const StriateConv& g;
  const float* weight;
  float* panels;   // [group][panel][k][lane]
  bool turned;     // outputs and inputs exchanged
};

INLINE int64_t panel_floats(const Rows& rows) { return rows.depth * rows.outputs; }

inline void pack_vector(void* context, int64_t part, int) {
  const auto& own = *static_cast<Packing*>(context);
  const Rows& rows = own.rows;
  const int64_t vectors = rows.outputs / LANES, group = part / vectors;
  const int64_t o = part % vectors * LANES, left = least(rows.o - o, LANES);
  const int64_t start = o / (WIDE * LANES) * (WIDE * LANES), wide = panel(rows.outputs - start);
  // Within a group, the numbers of a kernel's first dimension are outputs, or inputs if turned.
  const int64_t step_o = own.turned ? own.g.weight_c : own.g.weight_o;
  const int64_t step_c = own.turned ? own.g.weight_o : own.g.weight_c;
  const int64_t of_group = group * own.g.weight_o * (own.turned ? rows.c : rows.o);
  float* to = own.panels + group * panel_floats(rows) + start * rows.depth + (o - start);
  const Axis* axis = rows.axis;
  for (int64_t i = 0; i < axis[0].taps; ++i)
    for (int64_t j = 0; j < axis[1].taps; ++j)
      for (int64_t l = 0; l < axis[2].taps; ++l) {
        const float* from = own.weight + of_group + o * step_o +
                            (axis[0].k + i * axis[0].k_step) * own.g.weight_k[0] +
                            (axis[1].k + j * axis[1].k_step) * own.g.weight_k[1] +
                            (axis[2].k + l * axis[2].k_step) * own.g.weight_k[2];
        pack_rows(from, step_o, step_c, left, rows.c, to, wide);
        to += rows.c * wide;
      }
}

// ---- answers

struct Product {
  const Rows& rows;
  const float *x, *panels;
  Finish finish;
  bool failed;
};

inline void product_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Product*>(context);
  const Rows& rows = own.rows;
  const int64_t group = part / rows.parts, first = part % rows.parts * rows.batch;
  const int64_t count = least(rows.batch, rows.total - first);
  const bool ready = rows.lies_ready();
  float* seen = ready ? nullptr : striate::scratch(0, rows.batch * rows.depth);
  float* sums = striate::scratch(1, rows.batch * rows.outputs);
  if (!sums || (!ready && !seen)) {
    own.failed = true;
    return;
  }
  const float* x = own.x + group * rows.c;
  if (!ready) gather(rows, x, first, count, seen);
  const float* a = ready ? x + first * rows.row_from : seen;
  multiply<false>(count, rows.outputs, rows.depth, a, ready ? rows.row_from : rows.depth, 1,
                  own.panels + group * panel_floats(rows), true, 0, sums, rows.outputs);
  const Axis* axis = rows.axis;
  const bool past = rows.groups == 1 && goes_past(own.finish.y, rows.total, rows.row_to);
  Pixel pixel = pixel_of(rows, first);
  for (int64_t p = 0; p < count; ++p, next(rows, pixel)) {
    int64_t at = pixel.image;
    for (int a = 0; a < 3; ++a)
      at = at * axis[a].to + axis[a].first + pixel.at[a] * axis[a].step;
    const int64_t to = at * rows.row_to + group * rows.o;
    const float* from = sums + p * rows.outputs;
    for (int64_t o = 0; past && o < rows.o; o += LANES)
      own.finish.put_past_at(to + o, load(from + o) + own.finish.bias_of(o, LANES));
    for (int64_t o = 0; !past && o < rows.o; o += LANES) {
      const int64_t left = least(rows.o - o, LANES);
      const Vector bias = own.finish.bias_of(group * rows.o + o, left);
      own.finish.put_at(to + o, load(from + o) + bias, left);
    }
  }
  if (past) settled();
}

INLINE int64_t all_panels(const Rows& rows) { return rows.groups * panel_floats(rows) + LANES; }

inline void pack(const Rows& rows, const StriateConv& g, const float* weight, float* panels,
                 bool turned) {
  Packing packing{rows, g, weight, panels, turned};
  striate::parallel(rows.groups * (rows.outputs / LANES), static_cast<int>(g.threads), pack_vector,
                    &packing);
}

inline int multiply_rows(Rows& rows, const StriateConv& g, const float* x, const float* weight,
                         const Finish& finish, bool turned) {
  const int threads = static_cast<int>(g.threads);
  rows.plan(threads);
  if (!rows.total) return STRIATE_DONE;
  float* panels = g.ready ? nullptr : striate::scratch(2, all_panels(rows));
  if (!g.ready && !panels) return STRIATE_NO_MEMORY;
  if (panels) pack(rows, g, weight, panels, turned);
  Product product{rows, x, panels ? panels : weight, finish, false};
  striate::parallel(rows.groups * rows.parts, threads, product_part, &product);
  return product.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

inline int direct_forward(const StriateConv& g, const float* x, const float* weight,
                          const float* bias, const float* addend, float* y) {
  Rows rows(g, forward_axes(g), false);
  return multiply_rows(rows, g, x, weight, Finish(g, bias, addend, y), false);
}

inline int64_t direct_floats(const StriateConv& g) {
  Rows rows(g, forward_axes(g), false);
  rows.plan(1);
  return all_panels(rows);
}

inline int direct_kernels(const StriateConv& g, const float* weight, float* to) {
  Rows rows(g, forward_axes(g), false);
  rows.plan(1);
  pack(rows, g, weight, to, false);
  return STRIATE_DONE;
}

inline int direct_input(const StriateConv& g, const float* dy, const float* weight,
                        const float* addend, float* dx) {
  if (scatters(g)) return scatter_input(g, dy, weight, addend, dx);
  const Finish finish(g, nullptr, addend, dx);
  return input_phases(g, [&](const Axes& axes) {
    Rows rows(g, axes, true);
    return multiply_rows(rows, g, dy, weight, finish, true);
  });
}

}  // namespace LEVEL
