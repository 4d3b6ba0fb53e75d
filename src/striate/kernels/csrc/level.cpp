// Compiled once for every instruction set, LEVEL: see CMakeLists.txt.
#include "level.hpp"

#include "chain.hpp"
#include "channelwise.hpp"
#include "depthwise.hpp"
#include "direct.hpp"
#include "norm.hpp"
#include "pointwise.hpp"
#include "separable.hpp"
#include "sums.hpp"
#include "winograd.hpp"

namespace LEVEL {
namespace {

// Call with<Tile>() of the tile that a geometry asks for: of two axes where kernels are 3 x 3.
template <typename With>
int with_tile(const StriateConv& g, With with) {
  const bool planes = g.kernel[1] == 3;
  if (g.kernel[2] != 3 || (!planes && g.kernel[1] != 1)) return STRIATE_NOT_KNOWN;
  if (g.stride[2] == 2) {
    if (g.tile != 4 || g.size[0] * g.out[0] * g.kernel[0] > 1) return STRIATE_NOT_KNOWN;
    return planes ? with(Tile<4, 2, 2>()) : with(Tile<4, 1, 2>());
  }
  if (g.tile == 4) return planes ? with(Tile<4, 2>()) : with(Tile<4, 1>());
  if (g.tile == 2) return planes ? with(Tile<2, 2>()) : with(Tile<2, 1>());
  return STRIATE_NOT_KNOWN;
}

int forward(const StriateConv& g, const float* x, const float* w, const float* bias,
            const float* addend, float* y) {
  Finish finish(g, bias, addend, y);
  finish.curved = g.silu && !addend;
  const int said = with_tile(
      g, [&](auto tile) { return winograd_forward<decltype(tile)>(g, x, w, finish); });
  return finish.curved ? said : curved(g, said, y);
}

int pooled(const StriateConv& g, const float* x, const float* w, const float* scale,
           const float* bias, float* y, uint8_t* place) {
  const bool plane = g.size[0] * g.out[0] * g.kernel[0] == 1 && g.kernel[1] == 3;
  if (!plane || g.stride[2] != 1) return STRIATE_NOT_KNOWN;
  Finish finish(g, bias, nullptr, y);
  finish.curved = g.silu;
  finish.halved = true;
  finish.scale = scale;
  finish.place = place;
  return with_tile(
      g, [&](auto tile) { return winograd_forward<decltype(tile)>(g, x, w, finish); });
}

int direct(const StriateConv& g, const float* x, const float* w, const float* bias,
           const float* addend, float* y) {
  return curved(g, direct_forward(g, x, w, bias, addend, y), y);
}

int depthwise(const StriateConv& g, const float* x, const float* w, const float* bias,
              const float* addend, float* y) {
  return curved(g, depthwise_forward(g, x, w, bias, addend, y), y);
}

int weight(const StriateConv& g, const float* x, const float* dy, float* dw) {
  return with_tile(
      g, [&](auto tile) { return winograd_weight<decltype(tile)>(g, x, dy, dw); });
}

int64_t prepared_floats(const StriateConv& g) {
  if (g.tile == 1) return direct_floats(g);
  int64_t count = 0;
  with_tile(g, [&](auto tile) {
    count = winograd_floats<decltype(tile)>(g);
    return STRIATE_DONE;
  });
  return count;
}

int prepare(const StriateConv& g, const float* w, float* to) {
  if (g.tile == 1) return direct_kernels(g, w, to);
  return with_tile(g, [&](auto tile) { return winograd_kernels<decltype(tile)>(g, w, to); });
}

bool is_depthwise(const StriateStage& g) { return g.conv.groups > 1; }

int stage_forward(const StriateStage& g, const float* x, const float* weight, float* y,
                  float* mean, float* variance) {
  Stage own(g, x, weight);
  own.y = y;
  return is_depthwise(g) ? channelwise_forward(own, mean, variance)
                         : pointwise_forward(own, mean, variance);
}

int stage_backward(const StriateStage& g, const float* x, const float* weight, const float* dy,
                   const float* y, const float* behind_dweight, const float* behind_dbias,
                   const float* addend, float* dx, float* dkernel, float* before_dweight,
                   float* before_dbias) {
  Stage own(g, x, weight);
  own.dy = dy;
  own.answer = y;
  own.addend = addend;
  own.dx = dx;
  return is_depthwise(g)
             ? channelwise_backward(own, behind_dweight, behind_dbias, dkernel, before_dweight,
                                    before_dbias)
             : pointwise_backward(own, behind_dweight, behind_dbias, dkernel, before_dweight,
                                  before_dbias);
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
const Level table{NAME(LEVEL),
                  direct,
                  direct_input,
                  direct_weight,
                  depthwise,
                  depthwise_input,
                  depthwise_weight,
                  separable_forward,
                  forward,
                  pooled,
                  weight,
                  pool_forward,
                  pool_backward,
                  prepared_floats,
                  prepare,
                  norm_forward,
                  norm_backward,
                  stage_forward,
                  stage_backward,
                  LANES,
                  images::chain_floats,
                  images::chain_forward,
                  images::chain_backward,
                  burn};

}  // namespace LEVEL
