// Compiled once for every instruction set, LEVEL: see CMakeLists.txt.
#include "level.hpp"

#include "depthwise.hpp"
#include "direct.hpp"
#include "norm.hpp"
#include "winograd.hpp"

namespace LEVEL {
namespace {

int forward(const StriateConv& g, const float* x, const float* w, const float* bias,
            const float* addend, float* y) {
  if (g.tile == 4) return winograd_forward<4>(g, x, w, bias, addend, y);
  if (g.tile == 2) return winograd_forward<2>(g, x, w, bias, addend, y);
  return STRIATE_NOT_KNOWN;
}

int weight(const StriateConv& g, const float* x, const float* dy, float* dw) {
  if (g.tile == 4) return winograd_weight<4>(g, x, dy, dw);
  if (g.tile == 2) return winograd_weight<2>(g, x, dy, dw);
  return STRIATE_NOT_KNOWN;
}

// Enough sums side by side to hide how long one addition takes; the empty asm keeps them apart.
double burn(long turns) {
  constexpr int MANY = REGISTERS == 32 ? 24 : 12;
  Vector sum[MANY], one = spread(0.999f), more = spread(1e-3f);
  for (int i = 0; i < MANY; ++i) sum[i] = spread(static_cast<float>(i));
  asm volatile("" : "+m"(one), "+m"(more));
  for (long k = 0; k < turns; ++k) {
#pragma GCC unroll 24
    for (int i = 0; i < MANY; ++i) sum[i] = sum[i] * one + more;
  }
  volatile float kept = 0;
  for (int i = 0; i < MANY; ++i) kept = kept + sum[i][0];
  return static_cast<double>(turns) * MANY * LANES;
}

}  // namespace

#define QUOTED(name) #name
#define NAME(name) QUOTED(name)
extern const Level table;
const Level table{NAME(LEVEL),     direct_forward,   direct_input, direct_weight,
                  depthwise_forward, depthwise_input, depthwise_weight, forward,
                  weight,            norm_forward,    norm_backward,    burn};

}  // namespace LEVEL
