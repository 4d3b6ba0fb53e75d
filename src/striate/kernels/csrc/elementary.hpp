// tanh and the logistic function of vectors, from powers of two.
//
// 2^t = 2^n (1 + rest), n the integer next to t; rest is a polynomial of degree 6 in t - n that
// errs by 2e-8 of itself [fitted: least maximum of the relative error]. What is no number stays
// none.
#pragma once

#include "vector.hpp"

namespace LEVEL {

struct Power {
  Vector scale, rest;  // scale * (1 + rest)
};

// e^(factor x) for |factor x| <= 87: `of_two` is factor / ln 2.
INLINE Power power(Vector x, float of_two) {
  using Bits = int32_t __attribute__((vector_size(LANES * 4)));
  // Added to a small number, it leaves n + 127 in the last bits, which are the exponent of 2^n.
  const Vector magic = spread(12582912.0f + 127.0f);
  const Vector shifted = x * of_two + magic;
  const Vector r = x * of_two - (shifted - magic);
  Vector q = spread(0x1.4308fap-13f);
  q = q * r + 0x1.5f07b4p-10f;
  q = q * r + 0x1.3b2ba0p-7f;
  q = q * r + 0x1.c6af6ep-5f;
  q = q * r + 0x1.ebfbdep-3f;
  q = q * r + 0x1.62e430p-1f;
  return {reinterpret_cast<Vector>(reinterpret_cast<Bits>(shifted) << 23), q * r};
}

// (e^2x - 1) / (e^2x + 1), where e^2x - 1 is exact next to 0.
INLINE Vector hyperbolic_tangent(Vector x) {
  const Power own = power(clipped(x, spread(-10.0f), spread(10.0f)), 0x1.715476p+1f);
  const Vector less = own.scale * own.rest + (own.scale - 1.0f);
  return less / (less + 2.0f);
}

INLINE Vector logistic(Vector x) {
  const Power own = power(clipped(x, spread(-86.0f), spread(86.0f)), -0x1.715476p+0f);
  return 1.0f / (own.scale * own.rest + own.scale + 1.0f);
}

}  // namespace LEVEL
