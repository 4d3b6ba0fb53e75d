// The largest of 2 x 2 numbers, and which of them it is: maximum pooling in steps of two.
//
// Numbers count from the left upper one, 0 to 3, row after row. As in PyTorch the first of equal
// ones is taken, and what is no number is larger than all, the last of several.
#pragma once

#include "api.h"
#include "threads.hpp"
#include "vector.hpp"

namespace LEVEL {

using Places = int32_t __attribute__((vector_size(LANES * 4)));
using Bytes = uint8_t __attribute__((vector_size(LANES)));

struct Largest {
  Vector value;
  Places place;

  explicit INLINE Largest(Vector first) : value(first), place{} {}

  INLINE void see(Vector other, int32_t number) {
    const Places more = (other > value) | (other != other);
    value = more ? other : value;
    place = more ? number - Places{} : place;
  }
};

INLINE Largest largest(Vector a, Vector b, Vector c, Vector d) {
  Largest found(a);
  found.see(b, 1);
  found.see(c, 2);
  found.see(d, 3);
  return found;
}

INLINE void put_places(uint8_t* to, Places place, int64_t left) {
  const Bytes bytes = __builtin_convertvector(place, Bytes);
  std::memcpy(to, &bytes, left == LANES ? sizeof bytes : static_cast<size_t>(left));
}

INLINE Places places_at(const uint8_t* from, int64_t left) {
  Bytes bytes{};
  std::memcpy(&bytes, from, left == LANES ? sizeof bytes : static_cast<size_t>(left));
  return __builtin_convertvector(bytes, Places);
}

// ---- pictures (n, h, w, c) and their halves (n, h / 2, w / 2, c)

struct Pooling {
  const StriatePooling& g;
  const float* from;
  float* to;
  uint8_t* put;          // forward
  const uint8_t* place;  // backward
};

// A line of the halves: line part % (h / 2) of image part / (h / 2).
inline void pool_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Pooling*>(context);
  const StriatePooling& g = own.g;
  const int64_t tall = g.h / 2, wide = g.w / 2, across = g.w * g.c;
  const float* x = own.from + (part / tall * g.h + part % tall * 2) * across;
  for (int64_t j = 0; j < wide; ++j, x += 2 * g.c)
    for (int64_t c = 0; c < g.c; c += LANES) {
      const int64_t left = least(g.c - c, LANES), at = (part * wide + j) * g.c + c;
      const float *above = x + c, *below = above + across;
      const Largest found = largest(get(above, left), get(above + g.c, left), get(below, left),
                                    get(below + g.c, left));
      put(own.to + at, found.value, left);
      if (own.put) put_places(own.put + at, found.place, left);
    }
}

// Two lines of the picture, or a last one that no window saw: what is given to the largest of four
// numbers goes to it alone.
inline void unpool_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Pooling*>(context);
  const StriatePooling& g = own.g;
  const int64_t tall = g.h / 2, wide = g.w / 2, across = g.w * g.c, pairs = tall + g.h % 2;
  const int64_t image = part / pairs, pair = part % pairs;
  float* dx = own.to + (image * g.h + pair * 2) * across;
  if (pair == tall) return clear(dx, across);
  const bool past = goes_past(own.to, g.n * g.h * g.w, g.c);
  for (int64_t j = 0; j < wide; ++j, dx += 2 * g.c)
    for (int64_t c = 0; c < g.c; c += LANES) {
      const int64_t left = least(g.c - c, LANES), at = ((image * tall + pair) * wide + j) * g.c + c;
      const Places place = places_at(own.place + at, left);
      const Vector dy = get(own.from + at, left);
#pragma GCC unroll 4
      for (int32_t k = 0; k < 4; ++k) {
        float* to = dx + k / 2 * across + k % 2 * g.c + c;
        const Vector given = place == k ? dy : Vector{};
        if (past)
          put_past(to, given);
        else
          put(to, given, left);
      }
    }
  clear(dx, g.w % 2 * g.c);
  clear(dx + across, g.w % 2 * g.c);
  if (past) settled();
}

inline int pool_forward(const StriatePooling& g, const float* x, float* y, uint8_t* place) {
  Pooling own{g, x, y, place, nullptr};
  striate::parallel(g.n * (g.h / 2), static_cast<int>(g.threads), pool_part, &own);
  return STRIATE_DONE;
}

inline int pool_backward(const StriatePooling& g, const float* dy, const uint8_t* place,
                         float* dx) {
  Pooling own{g, dy, dx, nullptr, place};
  const int64_t pairs = (g.h + 1) / 2;
  striate::parallel(g.n * pairs, static_cast<int>(g.threads), unpool_part, &own);
  return STRIATE_DONE;
}

}  // namespace LEVEL
