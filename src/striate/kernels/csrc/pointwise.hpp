// A pointwise convolution between normalisations: see stage.hpp. Pixels are rows of a matrix, which
// meets one of C x O.
#pragma once

#include "direct.hpp"
#include "stage.hpp"

namespace LEVEL {

constexpr int64_t FEWEST = 32;  // pixels at a time, at least

struct Pointwise {
  Stage& own;
  int64_t pixels, batch;  // of all samples; that are worked on at once

  Pointwise(Stage& stage, int64_t copies)
      : own(stage), pixels(stage.g.conv.n * stage.g.conv.size[1] * stage.g.conv.size[2]) {
    const int64_t most = striate::cached_floats() / 2 / (copies * (own.c + own.o));
    batch = up(most < FEWEST ? FEWEST : most, ROWS);
  }

  int64_t begin(int64_t part) const { return pixels * part / own.parts; }
  int64_t parts() const { return least(own.g.conv.threads, (pixels + batch - 1) / batch); }
};

inline void pointwise_answers(void* context, int64_t part, int) {
  auto& all = *static_cast<Pointwise*>(context);
  Stage& own = all.own;
  float* seen = striate::scratch(0, all.batch * own.c);
  float* made = striate::scratch(1, all.batch * own.o);
  if (!seen || !made) {
    own.failed = true;
    return;
  }
  const int64_t first = all.begin(part), end = all.begin(part + 1), c = own.g.conv.c;
  for (int64_t at = first; at < end; at += all.batch) {
    const int64_t rows = least(all.batch, end - at);
    if (own.normed()) read_x<false>(own, at, rows, seen);
    multiply<false>(rows, own.o, c, own.normed() ? seen : own.x + at * c, own.normed() ? own.c : c,
                    1, own.kernel, true, 0, made, own.o);
    write_y(own, made, at, rows, at - first, own.sums + part * 2 * own.o);
  }
  settled();
}

inline int pointwise_forward(Stage& own, float* mean, float* variance) {
  Pointwise all(own, 1);
  Rows rows(own.g.conv, forward_axes(own.g.conv), false);
  rows.plan(1);
  if (!own.begin(all.parts(), all_panels(rows))) return STRIATE_NO_MEMORY;
  pack(rows, own.g.conv, own.weight, own.kernel, false);
  if (!own.run(pointwise_answers, &all)) return STRIATE_NO_MEMORY;
  join_moments(own, [&](int64_t part) { return all.begin(part); }, mean, variance);
  return STRIATE_DONE;
}

// Behind the kernels lie the sums of their gradient: [part][o][c].
inline void pointwise_gradients(void* context, int64_t part, int) {
  auto& all = *static_cast<Pointwise*>(context);
  Stage& own = all.own;
  const int64_t o = own.g.conv.o;
  float* dy = striate::scratch(0, all.batch * own.o);
  float* x = striate::scratch(1, all.batch * own.c);
  float* made = striate::scratch(3, all.batch * own.c);
  if (!dy || !x || !made) {
    own.failed = true;
    return;
  }
  float *sums = own.sums + part * 2 * own.c, *dw = own.kernel + (1 + part) * o * own.c;
  clear(sums, 2 * own.c);
  auto add = multiply<false>;
  for (int64_t at = all.begin(part); at < all.begin(part + 1); at += all.batch) {
    const int64_t rows = least(all.batch, all.begin(part + 1) - at);
    read_dy(own, at, rows, dy);
    read_x<true>(own, at, rows, x);
    add(o, own.c, rows, dy, 1, own.o, x, true, 0, dw, own.c);
    multiply<false>(rows, own.c, o, dy, own.o, 1, own.kernel, true, 0, made, own.c);
    write_dx(own, made, at, rows, sums);
    add = multiply<true>;
  }
  settled();
}

inline int pointwise_backward(Stage& own, const float* behind_dweight, const float* behind_dbias,
                              float* dkernel, float* before_dweight, float* before_dbias) {
  const StriateConv& g = own.g.conv;
  Pointwise all(own, 2);
  Rows rows(g, forward_axes(g), true);
  rows.plan(1);
  const int64_t each = g.o * own.c;
  if (!own.begin(all.parts(), (1 + all.parts()) * each)) return STRIATE_NO_MEMORY;
  pack(rows, g, own.weight, own.kernel, true);
  own.settle(behind_dweight, behind_dbias, static_cast<double>(all.pixels));
  if (!own.run(pointwise_gradients, &all)) return STRIATE_NO_MEMORY;
  for (int64_t o = 0; o < g.o; ++o)
    for (int64_t c = 0; c < g.c; ++c) {
      float sum = 0;
      for (int64_t part = 1; part <= own.parts; ++part)
        sum += own.kernel[part * each + o * own.c + c];
      dkernel[o * g.weight_o + c * g.weight_c] = sum;
    }
  join_gradients(own, before_dweight, before_dbias);
  return STRIATE_DONE;
}

}  // namespace LEVEL
