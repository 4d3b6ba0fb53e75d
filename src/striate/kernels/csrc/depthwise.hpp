// Depthwise convolution: every channel has a kernel of its own, and no other.
//
//     y[p, c] = sum over taps t of  w[t, c] x[p + t, c]
//
// There is no matrix product in it, only vectors of channels: what it costs is reading. So a few
// neighbours of a line are computed at once, each from one load, and share the load of the kernel;
// channels follow one another as they lie.
#pragma once

#include "axis.hpp"
#include "finish.hpp"
#include "threads.hpp"

namespace LEVEL {

constexpr int64_t PIECE = 128;  // neighbours of a line that are one part of the work

struct Lines : Axes {
  int64_t c, pieces, parts;  // channels; pieces of a line; of all lines
  int64_t taps, wide;        // of the kernel; channels, rounded up to whole vectors

  Lines(const StriateConv& g, const Axes& axes) : Axes(axes), c(g.c) {
    pieces = (axis[2].count + PIECE - 1) / PIECE;
    parts = g.n * axis[0].count * axis[1].count * pieces;
    taps = axis[0].taps * axis[1].taps * axis[2].taps;
    wide = up(c, LANES);
  }
};

// A part of the work: neighbours `begin` to `end` of a line.
struct Piece {
  int64_t image, z, y, begin, end;
};

INLINE Piece piece_of(const Lines& lines, int64_t part) {
  const int64_t at = part % lines.pieces * PIECE, line = part / lines.pieces;
  const int64_t plane = line / lines.axis[1].count;
  return {plane / lines.axis[0].count, plane % lines.axis[0].count, line % lines.axis[1].count, at,
          least(at + PIECE, lines.axis[2].count)};
}

// Call each(tap, first) for the taps that lie inside, for neighbours from p: `first` is the place
// of what the first of them reads. Inside: all taps along the line do, of all neighbours.
template <bool Inside, typename Each>
INLINE void taps_of(const Lines& lines, const Piece& at, int64_t p, Each each) {
  const Axis &z = lines.axis[0], &y = lines.axis[1], &w = lines.axis[2];
  const int64_t start = p * w.stride + w.base;
  for (int64_t i = 0; i < z.taps; ++i) {
    const int64_t plane = at.z * z.stride + z.base + i * z.reach;
    if (plane < 0 || plane >= z.from) continue;
    for (int64_t j = 0; j < y.taps; ++j) {
      const int64_t row = at.y * y.stride + y.base + j * y.reach;
      if (row < 0 || row >= y.from) continue;
      const int64_t line = ((at.image * z.from + plane) * y.from + row) * w.from;
      for (int64_t l = 0; l < w.taps; ++l) {
        const int64_t x = start + l * w.reach;
        if (!Inside && (x < 0 || x >= w.from)) continue;
        each((i * y.taps + j) * w.taps + l, (line + x) * lines.c);
      }
    }
  }
}

// How many neighbours from p on have all their taps inside.
INLINE int64_t inside_from(const Axis& axis, int64_t p) {
  const int64_t reach = axis.taps ? (axis.taps - 1) * axis.reach : 0;
  const int64_t start = p * axis.stride + axis.base;
  const int64_t first = start + least(0, reach), last = start + reach - least(0, reach);
  return first < 0 || last >= axis.from ? 0 : (axis.from - 1 - last) / axis.stride + 1;
}

// Call each.run<Many, Inside>(p) for neighbours p, p + 1, ... of a piece: many of them at once
// where their taps lie inside.
template <typename Each>
INLINE void neighbours(const Lines& lines, const Piece& at, const Each& each) {
  for (int64_t p = at.begin; p < at.end;) {
    const int64_t many = least(inside_from(lines.axis[2], p), at.end - p);
    if (many >= 8) {
      each.template run<8, true>(p);
      p += 8;
    } else if (many >= 4) {
      each.template run<4, true>(p);
      p += 4;
    } else {
      each.template run<1, false>(p);
      ++p;
    }
  }
}

// ---- answers, and the gradient to the input

struct Spread {
  const Lines& lines;
  const float *x, *kernel;  // kernel: [tap][channel]
  Finish finish;
};

struct SpreadPiece {
  const Spread& own;
  Piece at;

  template <int Many, bool Inside>
  INLINE void run(int64_t p) const {
    const Lines& lines = own.lines;
    const Axis *z = &lines.axis[0], *y = &lines.axis[1], *w = &lines.axis[2];
    const int64_t step = w->stride * lines.c, plane = z->first + at.z * z->step;
    const int64_t line = ((at.image * z->to + plane) * y->to + y->first + at.y * y->step) * w->to;
    for (int64_t o = 0; o < lines.c; o += LANES) {
      const int64_t left = least(lines.c - o, LANES);
      Vector sum[Many];
      const Vector bias = own.finish.bias_of(o, left);
#pragma GCC unroll 8
      for (int k = 0; k < Many; ++k) sum[k] = bias;
      const auto add = [&](int64_t lanes) INLINE_LAMBDA {
        taps_of<Inside>(lines, at, p, [&](int64_t tap, int64_t first) INLINE_LAMBDA {
          const Vector weight = load(own.kernel + tap * lines.wide + o);
          const float* x = own.x + first + o;
#pragma GCC unroll 8
          for (int k = 0; k < Many; ++k) sum[k] += weight * get(x + k * step, lanes);
        });
      };
      if (left == LANES)
        add(LANES);  // a count that the compiler knows
      else
        add(left);
#pragma GCC unroll 8
      for (int k = 0; k < Many; ++k)
        own.finish.put_at((line + w->first + (p + k) * w->step) * lines.c + o, sum[k], left);
    }
  }
};

inline void spread_part(void* context, int64_t part, int) {
  const Spread& own = *static_cast<Spread*>(context);
  const SpreadPiece piece{own, piece_of(own.lines, part)};
  neighbours(own.lines, piece.at, piece);
}

// The taps of these axes, [tap][channel].
INLINE void pack_taps(const StriateConv& g, const Lines& lines, const float* weight, float* to) {
  const Axis* axis = lines.axis;
  for (int64_t i = 0; i < axis[0].taps; ++i)
    for (int64_t j = 0; j < axis[1].taps; ++j)
      for (int64_t l = 0; l < axis[2].taps; ++l, to += lines.wide) {
        const float* from = weight + (axis[0].k + i * axis[0].k_step) * g.weight_k[0] +
                            (axis[1].k + j * axis[1].k_step) * g.weight_k[1] +
                            (axis[2].k + l * axis[2].k_step) * g.weight_k[2];
        for (int64_t c = 0; c < lines.wide; ++c) to[c] = c < g.c ? from[c * g.weight_o] : 0;
      }
}

inline int spread_lines(const StriateConv& g, const Axes& axes, const float* x,
                        const float* weight, const Finish& finish) {
  const Lines lines(g, axes);
  float* kernel = striate::scratch(2, lines.taps * lines.wide + LANES);
  if (!kernel) return STRIATE_NO_MEMORY;
  pack_taps(g, lines, weight, kernel);
  Spread own{lines, x, kernel, finish};
  striate::parallel(lines.parts, static_cast<int>(g.threads), spread_part, &own);
  return STRIATE_DONE;
}

inline int depthwise_forward(const StriateConv& g, const float* x, const float* weight,
                             const float* bias, const float* addend, float* y) {
  return spread_lines(g, forward_axes(g), x, weight, Finish(g, bias, addend, y));
}

inline int depthwise_input(const StriateConv& g, const float* dy, const float* weight, float* dx) {
  const Finish finish(g, nullptr, nullptr, dx);
  return input_phases(
      g, [&](const Axes& axes) { return spread_lines(g, axes, dy, weight, finish); });
}

// ---- the gradient to the kernels

struct Collect {
  const Lines& lines;
  const float *x, *dy;
  float* sums;  // [copy][2][tap][channel]: of a few lines, of all before them
  int64_t copies;
};

struct CollectPiece {
  const Collect& own;
  Piece at;
  float* sums;

  template <int Many, bool Inside>
  INLINE void run(int64_t p) const {
    const Lines& lines = own.lines;
    const Axis *z = &lines.axis[0], *y = &lines.axis[1], *w = &lines.axis[2];
    const int64_t step = w->stride * lines.c;
    const float* line =
        own.dy + (((at.image * z->to + at.z) * y->to + at.y) * w->to + p) * lines.c;
    for (int64_t o = 0; o < lines.c; o += LANES) {
      const int64_t left = least(lines.c - o, LANES);
      const auto add = [&](int64_t lanes) INLINE_LAMBDA {
        Vector dy[Many];
#pragma GCC unroll 8
        for (int k = 0; k < Many; ++k) dy[k] = get(line + k * lines.c + o, lanes);
        taps_of<Inside>(lines, at, p, [&](int64_t tap, int64_t first) INLINE_LAMBDA {
          float* to = sums + tap * lines.wide + o;
          const float* x = own.x + first + o;
          Vector sum = load(to);
#pragma GCC unroll 8
          for (int k = 0; k < Many; ++k) sum += dy[k] * get(x + k * step, lanes);
          store(to, sum);
        });
      };
      if (left == LANES)
        add(LANES);  // a count that the compiler knows
      else
        add(left);
    }
  }
};

INLINE void pour(float* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += LANES) {
    store(to + i, load(to + i) + load(from + i));
    store(from + i, Vector{});
  }
}

// A copy sums every `copies`-th piece, always the same: sums do not depend on who was faster. Sums
// of few numbers are added to that of many, which would round them off one by one.
inline void collect_part(void* context, int64_t copy, int) {
  const Collect& own = *static_cast<Collect*>(context);
  const int64_t floats = own.lines.taps * own.lines.wide;
  float *few = own.sums + copy * 2 * floats, *all = few + floats;
  for (int64_t i = 0; i < 2 * floats; i += LANES) store(few + i, Vector{});
  int64_t summed = 0;
  for (int64_t part = copy; part < own.lines.parts; part += own.copies) {
    const CollectPiece piece{own, piece_of(own.lines, part), few};
    neighbours(own.lines, piece.at, piece);
    summed += piece.at.end - piece.at.begin;
    if (summed >= 2 * PIECE) {
      pour(few, all, floats);
      summed = 0;
    }
  }
  pour(few, all, floats);
}

inline int depthwise_weight(const StriateConv& g, const float* x, const float* dy, float* dw) {
  const Lines lines(g, forward_axes(g));
  const int64_t floats = lines.taps * lines.wide;
  const int64_t copies = lines.parts > g.threads ? g.threads : 1;
  float* sums = striate::scratch(2, copies * 2 * floats);
  if (!sums) return STRIATE_NO_MEMORY;
  Collect own{lines, x, dy, sums, copies};
  striate::parallel(copies, static_cast<int>(g.threads), collect_part, &own);
  const Axis* axis = lines.axis;
  const float* from = sums + floats;
  for (int64_t i = 0; i < axis[0].taps; ++i)
    for (int64_t j = 0; j < axis[1].taps; ++j)
      for (int64_t l = 0; l < axis[2].taps; ++l, from += lines.wide)
        for (int64_t c = 0; c < g.c; ++c) {
          float sum = 0;
          for (int64_t copy = 0; copy < copies; ++copy) sum += from[copy * 2 * floats + c];
          dw[c * g.weight_o + i * g.weight_k[0] + j * g.weight_k[1] + l * g.weight_k[2]] = sum;
        }
  return STRIATE_DONE;
}

}  // namespace LEVEL
