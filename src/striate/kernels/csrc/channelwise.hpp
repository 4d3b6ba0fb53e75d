// A depthwise convolution between normalisations: see stage.hpp.
//
// Lines that a kernel reads are normalised into a ring of lines, with zeros around, and computed
// from there: every line is read from memory once, and no neighbour of the border is special.
#pragma once

#include "depthwise.hpp"
#include "stage.hpp"

namespace LEVEL {

// A tap that answers meet: where the first of them reads, and its kernel.
struct Tap {
  const float *x, *kernel;
};

// A line of dy that one row of the kernel's taps met: where its column 0 lies, its first tap.
struct Row {
  const float* line;
  int64_t tap;
};

// to[p, c] = sum over taps of  kernel[c] x[p step, c]  for Many neighbours, `apart` floats apart.
template <int Many>
INLINE void meet(const Tap* tap, int64_t taps, int64_t p, int64_t step, int64_t wide, float* to,
                 int64_t apart) {
  for (int64_t o = 0; o < wide; o += LANES) {
    Vector sum[Many]{};
    for (int64_t t = 0; t < taps; ++t) {
      const float* x = tap[t].x + p * step + o;
      const Vector kernel = load(tap[t].kernel + o);
#pragma GCC unroll 8
      for (int k = 0; k < Many; ++k) sum[k] += kernel * load(x + k * step);
    }
#pragma GCC unroll 8
    for (int k = 0; k < Many; ++k) store(to + (p + k) * apart + o, sum[k]);
  }
}

INLINE void meet_all(const Tap* tap, int64_t taps, int64_t count, int64_t step, int64_t wide,
                     float* to, int64_t apart) {
  int64_t p = 0;
  for (; p + 8 <= count; p += 8) meet<8>(tap, taps, p, step, wide, to, apart);
  for (; p + 4 <= count; p += 4) meet<4>(tap, taps, p, step, wide, to, apart);
  for (; p < count; ++p) meet<1>(tap, taps, p, step, wide, to, apart);
}

// sums[row, tap, c] += sum over p of  dy[row][p, c] x[p step + tap reach, c]  for Rows lines of dy
// and Taps neighbouring taps.
template <int Rows, int Taps>
INLINE void gather_up(const Row* row, const float* x, int64_t count, int64_t step, int64_t reach,
                      int64_t wide, float* sums) {
  for (int64_t o = 0; o < wide; o += LANES) {
    Vector sum[Rows][Taps];
#pragma GCC unroll 3
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 3
      for (int t = 0; t < Taps; ++t) sum[i][t] = load(sums + (row[i].tap + t) * wide + o);
    for (int64_t p = 0; p < count; ++p) {
      Vector seen[Taps];
#pragma GCC unroll 3
      for (int t = 0; t < Taps; ++t) seen[t] = load(x + p * step + t * reach + o);
#pragma GCC unroll 3
      for (int i = 0; i < Rows; ++i) {
        const Vector dy = load(row[i].line + p * wide + o);
#pragma GCC unroll 3
        for (int t = 0; t < Taps; ++t) sum[i][t] += dy * seen[t];
      }
    }
#pragma GCC unroll 3
    for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 3
      for (int t = 0; t < Taps; ++t) store(sums + (row[i].tap + t) * wide + o, sum[i][t]);
  }
}

struct Channelwise {
  Stage& own;
  int64_t lines;                // that are worked through: of y, or of x backward
  int64_t taps, ring;           // of the kernel; lines of the ring
  int64_t left, columns;        // zeros before a line of x; its columns in the cache
  int64_t left_dy, columns_dy;  // the same of y

  Channelwise(Stage& stage, bool back) : own(stage) {
    const StriateConv& g = own.g.conv;
    lines = g.n * (back ? g.size : g.out)[1];
    taps = g.kernel[1] * g.kernel[2];
    const int64_t reach = (g.kernel[1] - 1) * g.dilation[1];
    ring = back ? reach / g.stride[1] + 1 : reach + 1;
    const int64_t along = (g.kernel[2] - 1) * g.dilation[2], s = g.stride[2];
    const int64_t seen = (g.out[2] - 1) * s + along + 1, whole = g.pad[2] + g.size[2];
    left = g.pad[2];
    columns = seen > whole ? seen : whole;
    left_dy = along / s + 1;
    const int64_t met = (g.size[2] - 1 + g.pad[2]) / s + 1;
    columns_dy = left_dy + (met > g.out[2] ? met : g.out[2]);
  }

  int64_t begin(int64_t part) const { return lines * part / own.parts; }
  int64_t parts() const { return least(own.g.conv.threads, lines); }
};

// Lines in the cache: which line of which image lies where.
struct Ring {
  float* lines;
  int64_t* held;
  int64_t count, floats;

  // Memory for as many lines, all 0, and `more` floats behind them; lines are null without memory.
  Ring(int64_t count_, int64_t floats_, int64_t more) : count(count_), floats(floats_) {
    lines = striate::scratch(0, count * floats + more);
    held = reinterpret_cast<int64_t*>(striate::scratch(1, 2 * count));
    if (!held) lines = nullptr;
    if (!lines) return;
    clear(lines, count * floats + more);
    for (int64_t k = 0; k < count; ++k) held[k] = -1;
  }

  float* behind() const { return lines + count * floats; }

  // Line y of an image of `height` lines; fill(number of it in the tensor, where it is to lie).
  template <typename Fill>
  const float* at(int64_t image, int64_t height, int64_t y, Fill fill) {
    const int64_t slot = y % count, number = image * height + y;
    float* line = lines + slot * floats;
    if (held[slot] != number) fill(number, line);
    held[slot] = number;
    return line;
  }
};

inline void channelwise_answers(void* context, int64_t part, int) {
  auto& all = *static_cast<Channelwise*>(context);
  Stage& own = all.own;
  const StriateConv& g = own.g.conv;
  const int64_t wide = own.c;
  Ring ring(all.ring, all.columns * wide, g.out[2] * wide);
  Tap* tap = reinterpret_cast<Tap*>(striate::scratch(3, all.taps * 4 + LANES));
  if (!ring.lines || !tap) {
    own.failed = true;
    return;
  }
  float* made = ring.behind();
  const int64_t first = all.begin(part);
  for (int64_t at = first; at < all.begin(part + 1); ++at) {
    const int64_t image = at / g.out[1], top = at % g.out[1] * g.stride[1] - g.pad[1];
    int64_t taps = 0;
    for (int64_t i = 0; i < g.kernel[1]; ++i) {
      const int64_t y = top + i * g.dilation[1];
      if (y < 0 || y >= g.size[1]) continue;
      const float* line = ring.at(image, g.size[1], y, [&](int64_t number, float* to) {
        read_x<false>(own, number * g.size[2], g.size[2], to + all.left * wide);
      });
      for (int64_t j = 0; j < g.kernel[2]; ++j)
        tap[taps++] = {line + j * g.dilation[2] * wide,
                       own.kernel + (i * g.kernel[2] + j) * wide};
    }
    meet_all(tap, taps, g.out[2], g.stride[2] * wide, wide, made, wide);
    write_y(own, made, at * g.out[2], g.out[2], (at - first) * g.out[2],
            own.sums + part * 2 * own.o);
  }
  settled();
}

inline int channelwise_forward(Stage& own, float* mean, float* variance) {
  const StriateConv& g = own.g.conv;
  Channelwise all(own, false);
  if (!own.begin(all.parts(), all.taps * own.c)) return STRIATE_NO_MEMORY;
  pack_taps(g, Lines(g, forward_axes(g)), own.weight, own.kernel);
  if (!own.run(channelwise_answers, &all)) return STRIATE_NO_MEMORY;
  join_moments(own, [&](int64_t part) { return all.begin(part) * g.out[2]; }, mean, variance);
  return STRIATE_DONE;
}

// Add to the sums of the kernel's gradient what a line of x gives with the lines of dy that met it.
template <int Rows>
INLINE void add_rows(const StriateConv& g, const Row* row, const float* x, int64_t wide,
                     float* sums) {
  const int64_t step = g.stride[2] * wide, reach = g.dilation[2] * wide;
  int64_t j = 0;
  for (; j + 3 <= g.kernel[2]; j += 3)
    gather_up<Rows, 3>(row, x + j * reach, g.out[2], step, reach, wide, sums + j * wide);
  for (; j < g.kernel[2]; ++j)
    gather_up<Rows, 1>(row, x + j * reach, g.out[2], step, reach, wide, sums + j * wide);
}

INLINE void add_line(const StriateConv& g, const Row* row, int64_t rows, const float* x,
                     int64_t wide, float* sums) {
  int64_t i = 0;
  for (; i + 3 <= rows; i += 3) add_rows<3>(g, row + i, x, wide, sums);
  if (rows - i == 2) add_rows<2>(g, row + i, x, wide, sums);
  if (rows - i == 1) add_rows<1>(g, row + i, x, wide, sums);
}

// dx of a line: every stride-th neighbour meets the same taps.
INLINE void turn_line(const Channelwise& all, const Row* row, int64_t rows, Tap* tap, float* to) {
  const StriateConv& g = all.own.g.conv;
  const int64_t wide = all.own.c, s = g.stride[2];
  for (int64_t phase = 0; phase < least(s, g.size[2]); ++phase) {
    int64_t taps = 0;
    for (int64_t j = 0; j < g.kernel[2]; ++j) {
      const int64_t from = phase + g.pad[2] - j * g.dilation[2];
      if (from % s) continue;
      for (int64_t i = 0; i < rows; ++i)
        tap[taps + i] = {row[i].line + from / s * wide,
                         all.own.kernel + (row[i].tap + j) * wide};
      taps += rows;
    }
    meet_all(tap, taps, (g.size[2] - phase + s - 1) / s, wide, wide, to + phase * wide, s * wide);
  }
}

// Behind the kernels lie the sums of their gradient: [part][2][tap][c], of a few lines, of all
// before them: see depthwise.hpp.
inline void channelwise_gradients(void* context, int64_t part, int) {
  auto& all = *static_cast<Channelwise*>(context);
  Stage& own = all.own;
  const StriateConv& g = own.g.conv;
  const int64_t wide = own.c, floats = all.taps * wide;
  Ring ring(all.ring, all.columns_dy * wide, (all.columns + g.size[2]) * wide);
  Tap* tap = reinterpret_cast<Tap*>(striate::scratch(3, (all.taps + g.kernel[1]) * 4 + LANES));
  if (!ring.lines || !tap) {
    own.failed = true;
    return;
  }
  Row* row = reinterpret_cast<Row*>(tap + all.taps);
  float *x = ring.behind(), *made = x + all.columns * wide;
  float *sums = own.sums + part * 2 * wide, *few = own.kernel + (1 + 2 * part) * floats;
  clear(sums, 2 * wide);
  clear(few, 2 * floats);
  int64_t summed = 0;
  for (int64_t at = all.begin(part); at < all.begin(part + 1); ++at) {
    const int64_t image = at / g.size[1], below = at % g.size[1] + g.pad[1];
    int64_t rows = 0;
    for (int64_t i = 0; i < g.kernel[1]; ++i) {
      const int64_t y = below - i * g.dilation[1];
      if (y < 0 || y % g.stride[1] || y / g.stride[1] >= g.out[1]) continue;
      const auto fill = [&](int64_t number, float* to) {
        read_dy(own, number * g.out[2], g.out[2], to + all.left_dy * wide);
      };
      const float* line = ring.at(image, g.out[1], y / g.stride[1], fill);
      row[rows++] = {line + all.left_dy * wide, i * g.kernel[2]};
    }
    read_x<false>(own, at * g.size[2], g.size[2], x + all.left * wide);
    add_line(g, row, rows, x, wide, few);
    turn_line(all, row, rows, tap, made);
    write_dx(own, made, at * g.size[2], g.size[2], sums);
    summed += g.size[2];
    if (summed >= 2 * PIECE) {
      pour(few, few + floats, floats);
      summed = 0;
    }
  }
  pour(few, few + floats, floats);
  settled();
}

inline int channelwise_backward(Stage& own, const float* behind_dweight, const float* behind_dbias,
                                float* dkernel, float* before_dweight, float* before_dbias) {
  const StriateConv& g = own.g.conv;
  Channelwise all(own, true);
  const int64_t each = all.taps * own.c;
  if (!own.begin(all.parts(), (1 + 2 * all.parts()) * each)) return STRIATE_NO_MEMORY;
  pack_taps(g, Lines(g, forward_axes(g)), own.weight, own.kernel);
  own.settle(behind_dweight, behind_dbias, static_cast<double>(g.n * g.out[1] * g.out[2]));
  if (!own.run(channelwise_gradients, &all)) return STRIATE_NO_MEMORY;
  const float* sums = own.kernel + 2 * each;
  for (int64_t i = 0; i < g.kernel[1]; ++i)
    for (int64_t j = 0; j < g.kernel[2]; ++j, sums += own.c)
      for (int64_t c = 0; c < g.c; ++c) {
        float sum = 0;
        for (int64_t part = 0; part < own.parts; ++part) sum += sums[part * 2 * each + c];
        dkernel[c * g.weight_o + i * g.weight_k[1] + j * g.weight_k[2]] = sum;
      }
  join_gradients(own, before_dweight, before_dbias);
  return STRIATE_DONE;
}

}  // namespace LEVEL
