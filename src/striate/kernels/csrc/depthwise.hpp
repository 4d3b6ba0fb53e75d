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

// A line of x that a piece sees: where its column 0 lies, and which tap meets it first.
struct Seen {
  int64_t x, tap;
};

// Those of a piece; null where there is no memory.
INLINE const Seen* lines_of(const Lines& lines, const Piece& at, int64_t& count) {
  const Axis &z = lines.axis[0], &y = lines.axis[1], &w = lines.axis[2];
  constexpr int64_t FLOATS = sizeof(Seen) / sizeof(float);
  auto* seen = reinterpret_cast<Seen*>(striate::scratch(3, (z.taps * y.taps + 1) * FLOATS));
  count = 0;
  for (int64_t i = 0; seen && i < z.taps; ++i) {
    const int64_t plane = at.z * z.stride + z.base + i * z.reach;
    if (plane < 0 || plane >= z.from) continue;
    for (int64_t j = 0; j < y.taps; ++j) {
      const int64_t row = at.y * y.stride + y.base + j * y.reach;
      if (row < 0 || row >= y.from) continue;
      const int64_t line = (at.image * z.from + plane) * y.from + row;
      seen[count++] = {line * w.from * lines.c, (i * y.taps + j) * w.taps};
    }
  }
  return seen;
}

// The taps along a line that lie inside, of neighbour p.
struct Range {
  int64_t begin, end;
};

INLINE Range inside_of(const Axis& axis, int64_t p) {
  const int64_t start = p * axis.stride + axis.base;
  Range taps{0, axis.taps};
  const auto is_in = [&](int64_t t) {
    const int64_t x = start + t * axis.reach;
    return x >= 0 && x < axis.from;
  };
  while (taps.begin < taps.end && !is_in(taps.begin)) ++taps.begin;
  while (taps.begin < taps.end && !is_in(taps.end - 1)) --taps.end;
  return taps;
}

// How many neighbours from p on have all their taps inside.
INLINE int64_t inside_from(const Axis& axis, int64_t p) {
  const int64_t reach = axis.taps ? (axis.taps - 1) * axis.reach : 0;
  const int64_t start = p * axis.stride + axis.base;
  const int64_t first = start + least(0, reach), last = start + reach - least(0, reach);
  return first < 0 || last >= axis.from ? 0 : (axis.from - 1 - last) / axis.stride + 1;
}

// Call each.many<Count>(p) for neighbours p, p + 1, ... of a piece that have all taps inside, and
// each.one(p, taps) for those that are left.
template <typename Each>
INLINE void neighbours(const Lines& lines, const Piece& at, const Each& each) {
  for (int64_t p = at.begin; p < at.end;) {
    const int64_t many = least(inside_from(lines.axis[2], p), at.end - p);
    if (many >= 8) {
      each.template many<8>(p);
      p += 8;
    } else if (many >= 4) {
      each.template many<4>(p);
      p += 4;
    } else {
      each.one(p, inside_of(lines.axis[2], p));
      ++p;
    }
  }
}

// Call each(o, LANES) for whole vectors of channels, each(o, left) for what is left of them.
template <typename Each>
INLINE void vectors(int64_t first, int64_t channels, Each each) {
  int64_t o = first;
  for (; o + LANES <= channels; o += LANES) each(o, LANES);  // a count that the compiler knows
  if (o < channels) each(o, channels - o);
}

// ---- answers, and the gradient to the input

struct Spread {
  const Lines& lines;
  const float *x, *kernel;  // kernel: [tap][channel]
  Finish finish;
  bool failed;
};

struct SpreadPiece {
  const Spread& own;
  int64_t line;  // of answers: its column 0, in floats
  const Seen* seen;
  int64_t count;

  // Neighbours p, p + 1, ..., and vectors of channels o, o + LANES, ...
  template <int Many, int Wide>
  INLINE void sum_up(int64_t p, Range taps, int64_t o, int64_t left) const {
    const Lines& lines = own.lines;
    const Axis& w = lines.axis[2];
    const int64_t step = w.stride * lines.c, reach = w.reach * lines.c;
    const int64_t start = (p * w.stride + w.base + taps.begin * w.reach) * lines.c + o;
    const Finish finish = own.finish;  // a copy, that what is stored cannot change
    Vector sum[Many][Wide];
#pragma GCC unroll 8
    for (int k = 0; k < Many; ++k)
#pragma GCC unroll 4
      for (int v = 0; v < Wide; ++v) sum[k][v] = finish.bias_of(o + v * LANES, left);
    for (int64_t i = 0; i < count; ++i) {
      const float* x = own.x + seen[i].x + start;
      const float* kernel = own.kernel + (seen[i].tap + taps.begin) * lines.wide + o;
      for (int64_t t = taps.begin; t < taps.end; ++t, x += reach, kernel += lines.wide)
#pragma GCC unroll 4
        for (int v = 0; v < Wide; ++v) {
          const Vector weight = load(kernel + v * LANES);
#pragma GCC unroll 8
          for (int k = 0; k < Many; ++k) sum[k][v] += weight * get(x + k * step + v * LANES, left);
        }
    }
    const int64_t to = line + (w.first + p * w.step) * lines.c + o;
#pragma GCC unroll 8
    for (int k = 0; k < Many; ++k)
#pragma GCC unroll 4
      for (int v = 0; v < Wide; ++v)
        finish.put_at(to + k * w.step * lines.c + v * LANES, sum[k][v], left);
  }

  template <int Many>
  INLINE void many(int64_t p) const {
    const Range all{0, own.lines.axis[2].taps};
    vectors(0, own.lines.c, [&](int64_t o, int64_t left) INLINE_LAMBDA {
      sum_up<Many, 1>(p, all, o, left);
    });
  }

  // A single one: vectors of channels side by side hide how long each addition takes.
  INLINE void one(int64_t p, Range taps) const {
    constexpr int WIDE_ONE = 4;
    int64_t o = 0;
    for (; o + WIDE_ONE * LANES <= own.lines.c; o += WIDE_ONE * LANES)
      sum_up<1, WIDE_ONE>(p, taps, o, LANES);
    vectors(o, own.lines.c, [&](int64_t at, int64_t left) INLINE_LAMBDA {
      sum_up<1, 1>(p, taps, at, left);
    });
  }
};

inline void spread_part(void* context, int64_t part, int) {
  Spread& own = *static_cast<Spread*>(context);
  const Piece at = piece_of(own.lines, part);
  const Axis *z = &own.lines.axis[0], *y = &own.lines.axis[1], *w = &own.lines.axis[2];
  const int64_t plane = at.image * z->to + z->first + at.z * z->step;
  const int64_t line = (plane * y->to + y->first + at.y * y->step) * w->to * own.lines.c;
  SpreadPiece piece{own, line, nullptr, 0};
  piece.seen = lines_of(own.lines, at, piece.count);
  if (piece.seen)
    neighbours(own.lines, at, piece);
  else
    own.failed = true;
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
  Spread own{lines, x, kernel, finish, false};
  striate::parallel(lines.parts, static_cast<int>(g.threads), spread_part, &own);
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
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
  bool failed;
};

struct CollectPiece {
  const Collect& own;
  int64_t line;  // of dy: its column 0, in floats
  const Seen* seen;
  int64_t count;
  float* sums;

  template <int Many>
  INLINE void add(int64_t p, Range taps) const {
    const Lines& lines = own.lines;
    const Axis& w = lines.axis[2];
    const int64_t step = w.stride * lines.c, reach = w.reach * lines.c;
    const int64_t start = (p * w.stride + w.base + taps.begin * w.reach) * lines.c;
    vectors(0, lines.c, [&](int64_t o, int64_t left) INLINE_LAMBDA {
      Vector dy[Many];
#pragma GCC unroll 8
      for (int k = 0; k < Many; ++k) dy[k] = get(own.dy + line + (p + k) * lines.c + o, left);
      for (int64_t i = 0; i < count; ++i) {
        const float* x = own.x + seen[i].x + start + o;
        float* to = sums + (seen[i].tap + taps.begin) * lines.wide + o;
        for (int64_t t = taps.begin; t < taps.end; ++t, x += reach, to += lines.wide) {
          Vector sum[2] = {load(to), Vector{}};  // two, so that additions need not wait
#pragma GCC unroll 8
          for (int k = 0; k < Many; ++k) sum[k % 2] += dy[k] * get(x + k * step, left);
          store(to, Many > 1 ? sum[0] + sum[1] : sum[0]);
        }
      }
    });
  }

  template <int Many>
  INLINE void many(int64_t p) const {
    add<Many>(p, {0, own.lines.axis[2].taps});
  }

  INLINE void one(int64_t p, Range taps) const { add<1>(p, taps); }
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
  Collect& own = *static_cast<Collect*>(context);
  const int64_t floats = own.lines.taps * own.lines.wide;
  float *few = own.sums + copy * 2 * floats, *all = few + floats;
  for (int64_t i = 0; i < 2 * floats; i += LANES) store(few + i, Vector{});
  int64_t summed = 0;
  for (int64_t part = copy; part < own.lines.parts; part += own.copies) {
    const Piece at = piece_of(own.lines, part);
    const Axis *z = &own.lines.axis[0], *y = &own.lines.axis[1], *w = &own.lines.axis[2];
    const int64_t line = ((at.image * z->to + at.z) * y->to + at.y) * w->to * own.lines.c;
    CollectPiece piece{own, line, nullptr, 0, few};
    piece.seen = lines_of(own.lines, at, piece.count);
    if (!piece.seen) {
      own.failed = true;
      return;
    }
    neighbours(own.lines, at, piece);
    summed += at.end - at.begin;
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
  Collect own{lines, x, dy, sums, copies, false};
  striate::parallel(copies, static_cast<int>(g.threads), collect_part, &own);
  if (own.failed) return STRIATE_NO_MEMORY;
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
