// Kernels as winograd.hpp wants them, G g Gt in panels of outputs, and their gradient as they lie.
#pragma once

#include "pack.hpp"
#include "tiles.hpp"

namespace LEVEL {

// A tap of a kernel.
struct Weight {
  int64_t plane, row, column;
};

// Where kernels lie: how far the next output, input, plane, row and column are.
struct KernelStrides {
  int64_t o, c, d, h, w;
  const float* first;

  INLINE int64_t of(const Weight& tap) const {
    return tap.plane * d + tap.row * h + tap.column * w;
  }
};

// As they lie, or turned by half a turn and with inputs and outputs exchanged.
INLINE KernelStrides strides_of(const StriateConv& g, const float* weight) {
  const int64_t* k = g.weight_k;
  if (!g.turned) return {g.weight_o, g.weight_c, k[0], k[1], k[2], weight};
  const float* last = weight;
  for (int a = 0; a < 3; ++a) last += (g.kernel[a] - 1) * k[a];
  return {g.weight_c, g.weight_o, -k[0], -k[1], -k[2], last};
}

// Where tap (i, j) of tap k's plane, or of phase k, lies in the kernels; outside of them where it
// is 0.
template <typename T>
INLINE Weight weight_of(const Plan<T>& plan, int64_t k, int i, int j) {
  if (T::STEP == 1) return {k, i, j};
  const int64_t row = T::STEP * i + (plan.late(1) ? -1 : 1) * T::down(k);
  return {0, T::TALL > 1 ? row : 0, T::STEP * j + (plan.late(2) ? -1 : 1) * T::across(k)};
}

INLINE bool lies_within(const StriateConv& g, const Weight& tap) {
  return tap.row >= 0 && tap.row < g.kernel[1] && tap.column >= 0 && tap.column < g.kernel[2];
}

// Of one tap of the first axis, or of a phase.
template <typename T>
int64_t tap_floats(const Plan<T>& plan) {
  return T::POINTS * plan.spacing(plan.channels, plan.outputs);
}

// Taps of some inputs' kernels to a vector of outputs: vectors in the order in which they lie.
template <typename T>
struct Bundle {
  static constexpr int64_t MOST = 9;
  Vector rows[MOST * LANES];
  int64_t of_tap, of_input;

  // Those of stride 1 lie input by input where each input's taps are one piece.
  Bundle(const StriateConv& g, const KernelStrides& s)
      : of_tap(whole(g, s) ? 1 : LANES), of_input(whole(g, s) ? T::TAPS_TALL * T::TAPS : 1) {}

  static bool whole(const StriateConv& g, const KernelStrides& s) {
    return T::STEP == 1 && g.kernel[0] == 1 && s.w == 1 && (T::TAPS_TALL == 1 || s.h == 3) &&
           s.c == T::TAPS_TALL * T::TAPS;
  }

  INLINE Vector& at(int i, int j, int64_t c) {
    return rows[(i * T::TAPS + j) * of_tap + c * of_input];
  }
};

// G g Gt of tap k, a vector of outputs from `o`: to[point][channel], `wide` floats and `spacing`
// apart
template <typename T>
void transform_kernel(const Plan<T>& plan, const float* weight, int64_t k, int64_t o, float* to,
                      int64_t wide, int64_t spacing) {
  using Kernel = typename T::template Across<>::Kernel;
  const StriateConv& g = plan.g;
  const KernelStrides s = strides_of(g, weight);
  const int64_t left = least(g.o - o, LANES);
  Bundle<T> taps(g, s);
  for (int64_t c = 0; c < g.c; c += LANES) {
    const int64_t count = least(g.c - c, LANES);
    const float* from = s.first + o * s.o + c * s.c;
    float* rows = reinterpret_cast<float*>(taps.rows);
    if (taps.of_tap == 1)
      pack_rows(from, s.o, 1, left, count * taps.of_input, rows, LANES);
    else
      for (int i = 0; i < T::TAPS_TALL; ++i)
        for (int j = 0; j < T::TAPS; ++j) {
          const Weight tap = weight_of(plan, k, i, j);
          float* row = reinterpret_cast<float*>(&taps.at(i, j, 0));
          if (lies_within(g, tap))
            pack_rows(from + s.of(tap), s.o, s.c, left, count, row, LANES);
          else
            std::memset(row, 0, sizeof(Vector) * count);
        }
    for (int64_t each = 0; each < count; ++each, to += wide)
      T::template both<Kernel, Kernel>(
          [&](int i, int j) INLINE_LAMBDA { return taps.at(i, j, each); },
          [&](int y, const Vector* line) INLINE_LAMBDA { T::put_points(to, spacing, y, line); });
  }
}

// Gt (sum of copies) G into the kernels' gradient, a vector of outputs from `o` of tap k.
template <typename T>
void gather_kernel(const Plan<T>& plan, const float* from, int64_t wide, int64_t spacing,
                   int64_t copies, int64_t k, int64_t o, float* weight) {
  using Back = typename T::template Across<>::KernelBackward;
  const StriateConv& g = plan.g;
  const int64_t left = least(g.o - o, LANES), each = plan.taps * tap_floats(plan);
  const KernelStrides s = strides_of(g, weight);
  Bundle<T> taps(g, s);
  for (int64_t c = 0; c < g.c; c += LANES) {
    const int64_t count = least(g.c - c, LANES);
    for (int64_t each_c = 0; each_c < count; ++each_c, from += wide)
      T::template both<Back, Back>(
          [&](int i, int j) INLINE_LAMBDA {
            Vector sum{};
            if (!plan.meets(k, i * T::SIDE + j)) return sum;
            const float* point = from + (i * T::SIDE + j) * spacing;
            sum = load(point);
            for (int64_t copy = 1; copy < copies; ++copy) sum += load(point + copy * each);
            return sum;
          },
          [&](int i, const Vector* line) INLINE_LAMBDA {
            for (int j = 0; j < T::TAPS; ++j) taps.at(i, j, each_c) = line[j];
          });
    float* to = weight + o * s.o + c * s.c;
    if (taps.of_tap == 1) {
      unpack_rows([&](int64_t r) INLINE_LAMBDA { return taps.rows[r]; }, count * taps.of_input,
                  left, to, s.o, 1);
      continue;
    }
    for (int i = 0; i < T::TAPS_TALL; ++i)
      for (int j = 0; j < T::TAPS; ++j) {
        const Weight tap = weight_of(plan, k, i, j);
        if (lies_within(g, tap))
          unpack_rows([&](int64_t r) INLINE_LAMBDA { return taps.at(i, j, r); }, count, left,
                      to + s.of(tap), s.o, s.c);
      }
  }
}

}  // namespace LEVEL
