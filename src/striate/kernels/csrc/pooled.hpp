// Activation and pooling of blocks of images (C, H, W, lanes), and their gradients in one pass.
#pragma once

#include "elementary.hpp"
#include "lanes.hpp"

namespace LEVEL::images {

// An activation and its slope at answer a.
struct Straight {
  INLINE Vector operator()(Vector x) const { return x; }
  INLINE Vector slope(Vector dy, Vector) const { return dy; }
};

struct Bounded {
  Vector low, high;
  INLINE Vector operator()(Vector x) const { return clipped(x, low, high); }
  INLINE Vector slope(Vector dy, Vector a) const {
    dy = a <= low ? Vector{} : dy;
    return a >= high ? Vector{} : dy;
  }
};

struct Tangent {  // a = amplitude * tanh(slope * x)
  float inner, outer;
  INLINE Vector operator()(Vector x) const { return outer * hyperbolic_tangent(inner * x); }
  INLINE Vector slope(Vector dy, Vector a) const {
    return dy * (inner * outer - inner / outer * a * a);
  }
};

struct Logistic {
  INLINE Vector operator()(Vector x) const { return logistic(x); }
  INLINE Vector slope(Vector dy, Vector a) const { return dy * (a * (1.0f - a)); }
};

template <typename Each>
INLINE void with_activation(const StriateLink& link, Each each) {
  const float inner = static_cast<float>(link.inner), outer = static_cast<float>(link.outer);
  const Vector low = spread(static_cast<float>(link.conv.low));
  const Vector high = spread(static_cast<float>(link.conv.high));
  switch (link.activation) {
    case STRIATE_CLIP: return each(Bounded{low, high});
    case STRIATE_TANH: return each(Tangent{inner, outer});
    case STRIATE_LOGISTIC: return each(Logistic{});
    default: return each(Straight{});
  }
}

// Lines j of all channels.
inline void activate_line(const StriateLink& link, const Map& map, float* data, int64_t j) {
  with_activation(link, [&](auto activation) INLINE_LAMBDA {
    for (int64_t c = 0; c < map.c; ++c) {
      float* line = data + map.at(c, j, 0);
      for (int64_t x = 0; x < map.w; ++x)
        store(line + x * LANES, activation(load(line + x * LANES)));
    }
  });
}

// ---- windows

struct Window {
  int64_t top, bottom, start, end;  // inside the map
  float share;                      // of each number in the mean
};

INLINE Window window_at(const StriateLink& link, const Map& map, int64_t j, int64_t k) {
  Window own;
  own.top = j * link.step[0] - link.border[0];
  own.start = k * link.step[1] - link.border[1];
  own.bottom = least(own.top + link.window[0], map.h + link.border[0]);
  own.end = least(own.start + link.window[1], map.w + link.border[1]);
  const int64_t whole = (own.bottom - own.top) * (own.end - own.start);
  if (own.top < 0) own.top = 0;
  if (own.start < 0) own.start = 0;
  own.bottom = least(own.bottom, map.h);
  own.end = least(own.end, map.w);
  const int64_t inside = (own.bottom - own.top) * (own.end - own.start);
  const int64_t count = link.divisor ? link.divisor : link.counts_border ? whole : inside;
  own.share = 1.0f / static_cast<float>(count);
  return own;
}

// Every number lies in at most one window, and windows lie inside.
INLINE bool apart(const StriateLink& link, const Map& map) {
  const int64_t* size[] = {&map.h, &map.w};
  for (int a = 0; a < 2; ++a)
    if (link.step[a] < link.window[a] || link.border[a] ||
        (link.pooled[a] - 1) * link.step[a] + link.window[a] > *size[a])
      return false;
  return true;
}

// Squares of two that fill the map, the usual case: the compiler knows their bounds.
INLINE bool are_pairs(const StriateLink& link, const Map& map) {
  return apart(link, map) && link.window[0] == 2 && link.window[1] == 2 && link.step[0] == 2 &&
         link.step[1] == 2;
}

struct AnyWindow {
  const StriateLink& link;
  const Map& map;
  INLINE Window at(int64_t j, int64_t k) const { return window_at(link, map, j, k); }
};

struct Pair {
  float share;
  INLINE Window at(int64_t j, int64_t k) const {
    return {2 * j, 2 * j + 2, 2 * k, 2 * k + 2, share};
  }
};

struct Mean {};
struct Largest {};

// Call each(pooling, windows).
template <typename Each>
INLINE void with_pooling(const StriateLink& link, const Map& map, Each each) {
  if (are_pairs(link, map)) {
    const Pair pair{1.0f / static_cast<float>(link.divisor ? link.divisor : 4)};
    return link.pooling == STRIATE_MEAN ? each(Mean{}, pair) : each(Largest{}, pair);
  }
  const AnyWindow any{link, map};
  return link.pooling == STRIATE_MEAN ? each(Mean{}, any) : each(Largest{}, any);
}

INLINE Vector pooled(Mean, const Map& map, const float* plane, const Window& own) {
  Vector sum{};
  for (int64_t y = own.top; y < own.bottom; ++y)
    for (int64_t x = own.start; x < own.end; ++x) sum += load(plane + map.at(0, y, x));
  return sum * own.share;
}

// What is no number stays.
INLINE Vector pooled(Largest, const Map& map, const float* plane, const Window& own) {
  Vector most = spread(-__builtin_inff());
  for (int64_t y = own.top; y < own.bottom; ++y)
    for (int64_t x = own.start; x < own.end; ++x) {
      const Vector value = load(plane + map.at(0, y, x));
      most = value > most ? value : most;
      most = value != value ? value : most;
    }
  return most;
}

// Line j of all channels.
inline void pool_line(const StriateLink& link, const Map& in, const float* from, const Map& out,
                      float* to, int64_t j) {
  with_pooling(link, in, [&](auto pooling, auto windows) INLINE_LAMBDA {
    for (int64_t c = 0; c < out.c; ++c)
      for (int64_t k = 0; k < out.w; ++k)
        store(to + out.at(c, j, k), pooled(pooling, in, from + c * in.plane(), windows.at(j, k)));
  });
}

// ---- gradients

// Call give(y, x, a, part) for every number a of a window, with its part of the gradient d.
template <typename Give>
INLINE void share(Mean, const Map& map, const float* plane, const Window& own, Vector d, Vector,
                  Give give) {
  d *= own.share;
  for (int64_t y = own.top; y < own.bottom; ++y)
    for (int64_t x = own.start; x < own.end; ++x) give(y, x, load(plane + map.at(0, y, x)), d);
}

// All of it to the first that is the largest.
template <typename Give>
INLINE void share(Largest, const Map& map, const float* plane, const Window& own, Vector d,
                  Vector answer, Give give) {
  for (int64_t y = own.top; y < own.bottom; ++y)
    for (int64_t x = own.start; x < own.end; ++x) {
      const Vector a = load(plane + map.at(0, y, x));
      const auto here = (a == answer) | ((a != a) & (answer != answer));
      give(y, x, a, here ? d : Vector{});
      d = here ? Vector{} : d;
    }
}

// What a link's activation and pooling are given, and what came back.
struct Behind {
  const StriateLink& link;
  const Map &mid, &out;          // before and behind pooling
  const float *a, *answer, *dy;  // of mid; of out; of out, laid out as `given`
  const Map& given;
  const Map& wanted;             // where mid's gradient goes
  float *dx, *sums;              // sums: a vector a channel, to which the gradient is added
};

INLINE void clear_plane(const Map& map, float* data, int64_t c) {
  float* to = data + map.at(c, 0, -map.left);
  for (int64_t i = 0; i < map.plane(); i += LANES) store(to + i, Vector{});
}

// Where windows are apart, each number's gradient is known at once; what lies in none has none.
template <typename Activation>
INLINE void give_back_apart(const Behind& own, Activation activation, int64_t c) {
  const float* plane = own.a + c * own.mid.plane();
  const StriateLink& link = own.link;
  if (link.pooled[0] * link.window[0] < own.mid.h || link.pooled[1] * link.window[1] < own.mid.w)
    clear_plane(own.wanted, own.dx, c);
  Vector sum = load(own.sums + c * LANES);
  with_pooling(link, own.mid, [&](auto pooling, auto windows) INLINE_LAMBDA {
    for (int64_t j = 0; j < own.out.h; ++j)
      for (int64_t k = 0; k < own.out.w; ++k)
        share(pooling, own.mid, plane, windows.at(j, k), load(own.dy + own.given.at(c, j, k)),
              load(own.answer + own.out.at(c, j, k)),
              [&](int64_t y, int64_t x, Vector a, Vector d) INLINE_LAMBDA {
                const Vector part = activation.slope(d, a);
                store(own.dx + own.wanted.at(c, y, x), part);
                sum += part;
              });
  });
  store(own.sums + c * LANES, sum);
}

inline void share_overlapping(const Behind& own, int64_t c) {
  const float* plane = own.a + c * own.mid.plane();
  clear_plane(own.wanted, own.dx, c);
  with_pooling(own.link, own.mid, [&](auto pooling, auto windows) INLINE_LAMBDA {
    for (int64_t j = 0; j < own.out.h; ++j)
      for (int64_t k = 0; k < own.out.w; ++k)
        share(pooling, own.mid, plane, windows.at(j, k), load(own.dy + own.given.at(c, j, k)),
              load(own.answer + own.out.at(c, j, k)),
              [&](int64_t y, int64_t x, Vector, Vector d) INLINE_LAMBDA {
                float* to = own.dx + own.wanted.at(c, y, x);
                store(to, load(to) + d);
              });
  });
}

// Where pooling has left its gradient in dx, or where there is none.
template <typename Activation>
INLINE void give_back_each(const Behind& own, Activation activation, int64_t c) {
  Vector sum = load(own.sums + c * LANES);
  for (int64_t y = 0; y < own.mid.h; ++y)
    for (int64_t x = 0; x < own.mid.w; ++x) {
      float* to = own.dx + own.wanted.at(c, y, x);
      const Vector d = own.link.pooling ? load(to) : load(own.dy + own.given.at(c, y, x));
      const Vector part = activation.slope(d, load(own.a + own.mid.at(c, y, x)));
      store(to, part);
      sum += part;
    }
  store(own.sums + c * LANES, sum);
}

// The gradient to what the convolution answers, and its sum for each channel.
inline void give_back(const Behind& own) {
  const bool once = own.link.pooling && apart(own.link, own.mid);
  with_activation(own.link, [&](auto activation) INLINE_LAMBDA {
    for (int64_t c = 0; c < own.mid.c; ++c) {
      if (once) {
        give_back_apart(own, activation, c);
      } else {
        if (own.link.pooling) share_overlapping(own, c);
        give_back_each(own, activation, c);
      }
    }
  });
  clear_borders(own.wanted, own.dx);
}

}  // namespace LEVEL::images
