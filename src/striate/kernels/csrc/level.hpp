// What each instruction set brings: a table of functions.
#pragma once

#include "api.h"

using Forward = int(const StriateConv&, const float* x, const float* weight, const float* bias,
                    const float* addend, float* y);
using Gradient = int(const StriateConv&, const float*, const float*, float*);

struct Level {
  const char* name;
  Forward* direct_forward;
  int (*direct_input)(const StriateConv&, const float* dy, const float* weight,
                      const float* addend, float* dx);
  Gradient* direct_weight;
  Forward* depthwise_forward;
  Gradient *depthwise_input, *depthwise_weight;
  int (*separable_forward)(const StriateSeparable&, const float* x, const float* first,
                           const float* first_bias, const float* kernel, const float* kernel_bias,
                           const float* last, const float* last_bias, const float* addend,
                           float* y);
  Forward* winograd_forward;
  int (*winograd_pooled)(const StriateConv&, const float* x, const float* weight,
                         const float* scale, const float* bias, float* y, uint8_t* place);
  Gradient* winograd_weight;
  int (*pool_forward)(const StriatePooling&, const float* x, float* y, uint8_t* place);
  int (*pool_backward)(const StriatePooling&, const float* dy, const uint8_t* place, float* dx);
  int64_t (*prepared_floats)(const StriateConv&);
  int (*prepare)(const StriateConv&, const float* weight, float* to);
  int (*norm_forward)(const StriateNorm&, const float* x, const float* weight, const float* bias,
                      const float* addend, float* y, float* mean, float* variance);
  int (*norm_backward)(const StriateNorm&, const float* x, const float* dy, const float* y,
                       const float* weight, const float* bias, const float* mean,
                       const float* variance, float* dx, float* dweight, float* dbias,
                       float* dsum);
  int (*stage_forward)(const StriateStage&, const float* x, const float* weight, float* y,
                       float* mean, float* variance);
  int (*stage_backward)(const StriateStage&, const float* x, const float* weight, const float* dy,
                        const float* y, const float* behind_dweight, const float* behind_dbias,
                        const float* addend, float* dx, float* dkernel, float* before_dweight,
                        float* before_dbias);
  int64_t lanes;
  int64_t (*chain_floats)(const StriateChain&);
  int (*chain_forward)(const StriateChain&, const float* x, float* y, float* kept);
  int (*chain_backward)(const StriateChain&, const float* x, const float* dy, const float* kept,
                        float* dx);
  double (*burn)(long turns);  // multiply and add `turns` times in every accumulator; how many
};
