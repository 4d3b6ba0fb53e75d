// What each instruction set brings: a table of functions.
#pragma once

#include "api.h"

struct Level {
  const char* name;
  int (*direct_forward)(const StriateConv&, const float*, const float*, const float*, float*);
  int (*direct_input)(const StriateConv&, const float*, const float*, float*);
  int (*direct_weight)(const StriateConv&, const float*, const float*, float*);
  int (*winograd_forward)(const StriateConv&, const float*, const float*, const float*, float*);
  int (*winograd_weight)(const StriateConv&, const float*, const float*, float*);
  int (*norm_forward)(const StriateNorm&, const float*, const float*, const float*, float*, float*,
                      float*);
  int (*norm_backward)(const StriateNorm&, const float*, const float*, const float*, const float*,
                       const float*, const float*, float*, float*, float*);
  double (*burn)(long turns);  // multiply and add `turns` times in every accumulator; how many
};
