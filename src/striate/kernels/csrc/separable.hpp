// A depthwise convolution between two pointwise ones, as one: what lies between stays in the cache.
//
//     h = clip(A x + a)             many channels from few
//     m = clip(k * h + b)           a kernel for each
//     y = clip(B m + c + addend)    few from many
//
// h and m are several times as large as x and y, and cost more to write and to read than to
// compute. So an image is cut into bands of lines, and the channels between into blocks; a band of
// a block goes all the way, and what it adds to y is summed up. Lines that two bands see are
// computed twice.
#pragma once

#include "depthwise.hpp"
#include "gemm.hpp"

namespace LEVEL {

constexpr int64_t GROUP = 32;    // channels between that are worked on at once
constexpr int64_t NARROW = 16;   // their number and that of answers is rounded up to this in memory
constexpr int64_t CHUNK = 4096;  // floats that stay in the first-level cache

struct Separable {
  const StriateSeparable& g;
  const float *x, *first, *first_bias, *kernel, *kernel_bias, *last;
  Finish finish;
  int64_t channels, answers, columns;  // between, rounded up; of the answer, and as computed
  int64_t bands, height;               // of an image; lines of the answer in each
  bool failed;

  void plan() {
    const StriateConv& d = g.depth;
    const int64_t reach = (d.kernel[1] - 1) * d.dilation[1] + 1;
    const int64_t read = d.size[2] * (g.c + GROUP), written = d.out[2] * (GROUP + columns);
    const int64_t left = striate::cached_floats() * 5 / 8 - read * reach;
    height = left / (read * d.stride[1] + written);
    if (height < 1) height = 1;
    bands = (d.out[1] + height - 1) / height;
    if (d.n * bands < d.threads) bands = least(d.out[1], (d.threads + d.n - 1) / d.n);
    height = (d.out[1] + bands - 1) / bands;
    bands = (d.out[1] + height - 1) / height;
  }
};

// What a band reads: lines `begin` to `end`; the depthwise convolution as it sees them.
struct Band {
  int64_t image, top, lines, begin, end;
  Axes axes;
};

INLINE Band band_of(const Separable& own, int64_t part) {
  const StriateConv& d = own.g.depth;
  Band band{part / own.bands, part % own.bands * own.height, 0, 0, 0, forward_axes(d)};
  Axis& y = band.axes.axis[1];
  band.lines = least(own.height, d.out[1] - band.top);
  const int64_t above = band.top * y.stride + y.base;
  const int64_t below = above + (band.lines - 1) * y.stride + (y.taps - 1) * y.reach + 1;
  band.begin = least(above > 0 ? above : 0, d.size[1]);
  band.end = least(below > band.begin ? below : band.begin, d.size[1]);
  y.base = above - band.begin;
  y.count = y.to = band.lines;
  y.from = band.end - band.begin;
  return band;
}

// h of `wide` channels from `start`, for `pixels` pixels.
INLINE void widen(const Separable& own, const float* x, int64_t pixels, int64_t start, int64_t wide,
                  float* h) {
  const StriateSeparable& g = own.g;
  const Vector low = spread(static_cast<float>(g.first_low));
  const Vector high = spread(static_cast<float>(g.first_high));
  const int64_t chunk = up(CHUNK / wide, ROWS);
  for (int64_t p = 0; p < pixels; p += chunk, h += chunk * wide) {
    const int64_t rows = least(chunk, pixels - p);
    multiply<false>(rows, wide, g.c, x + p * g.c, g.c, 1, own.first + start * g.c, false, wide, h,
                    wide);
    for (int64_t o = 0; o < wide; o += LANES) {
      const Vector bias = load(own.first_bias + start + o);
      for (int64_t k = 0; k < rows; ++k)
        store(h + k * wide + o, clipped(load(h + k * wide + o) + bias, low, high));
    }
  }
}

// The same where there is no first convolution.
INLINE void pick(const Separable& own, const float* x, int64_t pixels, int64_t start, int64_t wide,
                 float* h) {
  const int64_t c = own.g.depth.c;
  for (int64_t p = 0; p < pixels; ++p)
    for (int64_t o = 0; o < wide; o += LANES) {
      const int64_t left = c - start - o;
      const Vector value = left >= LANES ? load(x + p * c + start + o)
                           : left > 0    ? load_part(x + p * c + start + o, left)
                                         : Vector{};
      store(h + p * wide + o, value);
    }
}

inline void separable_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Separable*>(context);
  const StriateSeparable& g = own.g;
  const StriateConv& d = g.depth;
  const Band band = band_of(own, part);
  const int64_t pixels = (band.end - band.begin) * d.size[2], answers = band.lines * d.out[2];
  float* h = striate::scratch(0, pixels * GROUP + LANES);
  float* m = striate::scratch(1, answers * GROUP);
  float* sums = striate::scratch(2, answers * own.columns);
  if (!h || !m || !sums) {
    own.failed = true;
    return;
  }
  const int64_t taps = d.kernel[1] * d.kernel[2], from = g.c ? g.c : d.c;
  const float* x = own.x + (band.image * d.size[1] + band.begin) * d.size[2] * from;
  StriateConv block = d;
  block.n = 1;
  for (int64_t start = 0; start < own.channels; start += GROUP) {
    const int64_t wide = block.c = least(GROUP, own.channels - start);
    if (g.c)
      widen(own, x, pixels, start, wide, h);
    else
      pick(own, x, pixels, start, wide, h);
    const Lines lines(block, band.axes);
    Spread between{lines, h, own.kernel + start * taps,
                   Finish(d, own.kernel_bias + start, nullptr, m), false};
    for (int64_t k = 0; k < lines.parts; ++k) spread_part(&between, k, 0);
    if (between.failed) own.failed = true;
    const float* last = own.last + start * own.answers;
    if (start)
      multiply<true>(answers, own.columns, wide, m, wide, 1, last, false, own.answers, sums,
                     own.columns);
    else
      multiply<false>(answers, own.columns, wide, m, wide, 1, last, false, own.answers, sums,
                      own.columns);
  }
  const Finish finish = own.finish;  // a copy, that what is stored cannot change
  const int64_t to = (band.image * d.out[1] + band.top) * d.out[2];
  for (int64_t p = 0; p < answers; ++p)
    for (int64_t o = 0; o < g.o; o += LANES) {
      const int64_t left = least(g.o - o, LANES);
      const Vector sum = load(sums + p * own.columns + o) + finish.bias_of(o, left);
      finish.put_at((to + p) * g.o + o, sum, left);
    }
}

inline int separable_forward(const StriateSeparable& g, const float* x, const float* first,
                             const float* first_bias, const float* kernel,
                             const float* kernel_bias, const float* last, const float* last_bias,
                             const float* addend, float* y) {
  StriateConv end = g.depth;
  end.low = g.last_low;
  end.high = g.last_high;
  Separable own{g, x, first, first_bias, kernel, kernel_bias, last,
                Finish(end, last_bias, addend, y), up(g.depth.c, NARROW), up(g.o, NARROW),
                up(g.o, LANES), 0, 0, false};
  if (!g.depth.n || !g.depth.out[1] || !g.depth.out[2]) return STRIATE_DONE;
  own.plan();
  const int threads = static_cast<int>(g.depth.threads);
  striate::parallel(g.depth.n * own.bands, threads, separable_part, &own);
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

}  // namespace LEVEL
