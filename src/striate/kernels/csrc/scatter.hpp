// The gradient to the input, output by output: each gives what it saw its share.
//
// Row p of G holds what output p gives the K = taps * C numbers that it sees; with kernels as an
// O x K matrix,
//     G = dy W ,
// and is added where those numbers lie. direct.hpp gathers instead: it also multiplies the zeros
// around dy, whole vectors of channels at a time. To add costs more than to gather, so this is for
// few channels, and for maps that are small beside their kernels.
#pragma once

#include "api.h"
#include "gemm.hpp"
#include "threads.hpp"

namespace LEVEL {

struct Scatter {
  const StriateConv& g;
  const float *dy, *weight, *addend;  // the last of dx's shape, or null
  float* dx;
  int64_t c, o;                            // of one group
  int64_t taps = 0, columns = 0;           // columns of G: K, rounded up to whole vectors
  int64_t inputs = 1, outputs = 1;         // of one image
  int64_t batch = 0;                       // outputs whose rows are in the cache at once
  float* panels = nullptr;
  bool failed = false;

  Scatter(const StriateConv& conv, const float* dy_, const float* weight_, const float* addend_,
          float* dx_)
      : g(conv), dy(dy_), weight(weight_), addend(addend_), dx(dx_), c(conv.c / conv.groups),
        o(conv.o / conv.groups) {
    taps = g.kernel[0] * g.kernel[1] * g.kernel[2];
    columns = up(taps * c, LANES);
    for (int a = 0; a < 3; ++a) {
      inputs *= g.size[a];
      outputs *= g.out[a];
    }
    const int64_t cached = striate::cached_floats() * 3 / 8 / (columns + o);
    batch = cached < ROWS ? ROWS : cached > 16 * ROWS ? 16 * ROWS : cached / ROWS * ROWS;
  }
};

// Whether that is the cheaper way, in multiplications: a number that is gathered costs as many as
// two of them, one that is added as three.
inline bool scatters(const StriateConv& g) {
  const bool ready = g.kernel[0] * g.kernel[1] * g.kernel[2] == 1;  // nothing is gathered
  if (ready || g.n * g.groups < g.threads) return false;  // an image is one thread's
  const int64_t c = g.c / g.groups, o = g.o / g.groups;
  double gathered = static_cast<double>((up(c, LANES) + 2) * o);
  double scattered = static_cast<double>((o + 3) * c);
  for (int a = 0; a < 3; ++a) {
    gathered *= static_cast<double>(g.size[a]) / static_cast<double>(g.stride[a]);
    scattered *= static_cast<double>(g.out[a]);
  }
  return scattered < gathered;
}

// Output k's numbers of one group: columns as they lie in a row of G.
inline void pack_output(void* context, int64_t part, int) {
  const auto& own = *static_cast<Scatter*>(context);
  const StriateConv& g = own.g;
  const int64_t group = part / own.o, k = part % own.o;
  const float* from = own.weight + part * g.weight_o;
  float* to = own.panels + group * own.columns * own.o;
  int64_t column = 0;
  const auto place = [&]() INLINE_LAMBDA -> float& {
    const int64_t start = column / (WIDE * LANES) * (WIDE * LANES);
    return to[start * own.o + k * panel(own.columns - start) + column - start];
  };
  for (int64_t z = 0; z < g.kernel[0]; ++z)
    for (int64_t y = 0; y < g.kernel[1]; ++y)
      for (int64_t x = 0; x < g.kernel[2]; ++x) {
        const float* tap = from + z * g.weight_k[0] + y * g.weight_k[1] + x * g.weight_k[2];
        for (int64_t i = 0; i < own.c; ++i, ++column) place() = tap[i * g.weight_c];
      }
  for (; column < own.columns; ++column) place() = 0;
}

INLINE void add(float* to, const float* from, int64_t count) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, load(to + i) + load(from + i));
  for (; i < count; ++i) to[i] += from[i];  // a part of a vector would cost more
}

// One output's row to where it belongs, `image` being dx's first number of this image and group.
INLINE void add_row(const Scatter& own, const int64_t* start, const float* row, float* image) {
  const StriateConv& g = own.g;
  const int64_t reach = g.dilation[2], c = own.c;
  const bool side_by_side = reach == 1 && g.groups == 1;
  for (int64_t i = 0; i < g.kernel[0]; ++i) {
    const int64_t z = start[0] + i * g.dilation[0];
    for (int64_t j = 0; j < g.kernel[1]; ++j, row += g.kernel[2] * c) {
      const int64_t y = start[1] + j * g.dilation[1];
      if (z < 0 || z >= g.size[0] || y < 0 || y >= g.size[1]) continue;
      float* line = image + (z * g.size[1] + y) * g.size[2] * g.c;
      if (side_by_side) {
        const int64_t first = start[2] < 0 ? -start[2] : 0;
        const int64_t end = least(g.kernel[2], g.size[2] - start[2]);
        if (end > first) add(line + (start[2] + first) * c, row + first * c, (end - first) * c);
        continue;
      }
      for (int64_t l = 0; l < g.kernel[2]; ++l) {
        const int64_t x = start[2] + l * reach;
        if (x >= 0 && x < g.size[2]) add(line + x * g.c, row + l * c, c);
      }
    }
  }
}

// All outputs of one image and group.
inline void scatter_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Scatter*>(context);
  const StriateConv& g = own.g;
  const int64_t image = part / g.groups, group = part % g.groups;
  float* rows = striate::scratch(0, own.batch * own.columns);
  if (!rows) {
    own.failed = true;
    return;
  }
  float* to = own.dx + image * own.inputs * g.c + group * own.c;
  const float* addend = own.addend ? own.addend + (to - own.dx) : nullptr;
  for (int64_t i = 0; i < own.inputs; ++i)
    if (addend)
      copy(to + i * g.c, addend + i * g.c, own.c);
    else
      clear(to + i * g.c, own.c);
  const float* dy = own.dy + image * own.outputs * g.o + group * own.o;
  const float* panels = own.panels + group * own.columns * own.o;
  int64_t at[3] = {0, 0, 0};
  for (int64_t first = 0; first < own.outputs; first += own.batch) {
    const int64_t count = least(own.batch, own.outputs - first);
    multiply<false>(count, own.columns, own.o, dy + first * g.o, g.o, 1, panels, true, 0, rows,
                    own.columns);
    for (int64_t p = 0; p < count; ++p) {
      int64_t start[3];
      for (int a = 0; a < 3; ++a) start[a] = at[a] * g.stride[a] - g.pad[a];
      add_row(own, start, rows + p * own.columns, to);
      for (int a = 2; a >= 0 && ++at[a] == g.out[a]; --a) at[a] = 0;
    }
  }
}

inline int scatter_input(const StriateConv& g, const float* dy, const float* weight,
                         const float* addend, float* dx) {
  Scatter own(g, dy, weight, addend, dx);
  own.panels = striate::scratch(2, g.groups * own.columns * own.o);
  if (!own.panels) return STRIATE_NO_MEMORY;
  const int threads = static_cast<int>(g.threads);
  striate::parallel(g.groups * own.o, threads, pack_output, &own);
  striate::parallel(g.n * g.groups, threads, scatter_part, &own);
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

}  // namespace LEVEL
