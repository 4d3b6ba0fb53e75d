// Where a convolution reads, along one axis, forward and for the gradient to the input.
//
// The gradient gathers as the answers do: along an axis of stride s, the inputs of one phase (every
// s-th) see the same taps of dy. So it is s^axes convolutions of stride 1 with some of the taps.
#pragma once

#include "api.h"
#include "vector.hpp"

namespace LEVEL {

// Along one axis, answer j lies at first + j * step and meets, for tap t, what lies at
// j * stride + base + t * reach, with the kernel's number k + t * k_step.
struct Axis {
  int64_t count, first, step;
  int64_t stride, base, reach;
  int64_t taps, k, k_step;
  int64_t from, to;  // how many there are of what is read, of answers
};

INLINE Axis forward_axis(const StriateConv& g, int a) {
  return {g.out[a], 0, 1, g.stride[a], -g.pad[a], g.dilation[a], g.kernel[a], 0, 1,
          g.size[a], g.out[a]};
}

// Inputs u = phase - pad + j s with u >= 0 meet dy at (u + pad - k dilation) / s. Where taps were
// left out, pad may be negative: the first inputs meet nothing, and j begins below 0.
INLINE Axis input_axis(const StriateConv& g, int a, int64_t phase) {
  const int64_t s = g.stride[a], d = g.dilation[a];
  int64_t k_step = 1;
  while (k_step * d % s) ++k_step;
  int64_t k = 0;
  while (k < k_step && (k * d - phase) % s) ++k;
  const int64_t taps = k < k_step && k < g.kernel[a] ? (g.kernel[a] - k + k_step - 1) / k_step : 0;
  const int64_t before = g.pad[a] - phase;
  const int64_t skipped = before > 0 ? (before + s - 1) / s : -(-before / s);
  const int64_t first = phase - g.pad[a] + skipped * s;
  const int64_t count = first < g.size[a] ? (g.size[a] - first + s - 1) / s : 0;
  return {count, first, s, 1, skipped + (taps ? (phase - k * d) / s : 0), -k_step * d / s,
          taps, k, k_step, g.out[a], g.size[a]};
}

struct Axes {
  Axis axis[3];
};

INLINE Axes forward_axes(const StriateConv& g) {
  return {{forward_axis(g, 0), forward_axis(g, 1), forward_axis(g, 2)}};
}

// Call each(axes) for every phase of the gradient to the input, until one does not return DONE.
template <typename Each>
int input_phases(const StriateConv& g, Each each) {
  for (int64_t i = 0; i < g.stride[0]; ++i)
    for (int64_t j = 0; j < g.stride[1]; ++j)
      for (int64_t l = 0; l < g.stride[2]; ++l) {
        const Axes axes{{input_axis(g, 0, i), input_axis(g, 1, j), input_axis(g, 2, l)}};
        if (const int status = each(axes)) return status;
      }
  return STRIATE_DONE;
}

}  // namespace LEVEL
