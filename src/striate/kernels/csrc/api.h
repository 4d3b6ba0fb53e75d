/* What Python calls, through ctypes: plain C, so that one build serves every version of PyTorch.
 *
 * Tensors are float32. Images lie channels last: pixel (n, y, x) holds its channels one after the
 * other. Functions return STRIATE_DONE or why nothing was computed, and release nothing they got.
 */
#ifndef STRIATE_API_H
#define STRIATE_API_H

#include <stdint.h>

#if defined(__GNUC__)
#define STRIATE_API __attribute__((visibility("default")))
#else
#define STRIATE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum { STRIATE_DONE = 0, STRIATE_NO_MEMORY = 1, STRIATE_NOT_KNOWN = 2 };

/* A convolution in two axes: x (n, h, w, c) -> y (n, out_h, out_w, o). */
typedef struct StriateConv {
  int64_t n, c, h, w;
  int64_t o, out_h, out_w;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
  int64_t weight_o, weight_c, weight_h, weight_w; /* strides of the kernels, in floats */
  int64_t turned;  /* use kernels turned by half a turn, inputs and outputs exchanged */
  int64_t tile;    /* Winograd's M: 2 or 4 */
  int64_t threads; /* at least 1 */
} StriateConv;

/* avx512, avx2 or baseline: the instruction set in use, the best that this CPU has */
STRIATE_API const char* striate_level(void);

/* use another one, from the next call on; STRIATE_NOT_KNOWN where this CPU lacks it */
STRIATE_API int striate_choose(const char* level);

/* y = x * weight + bias; bias may be null */
STRIATE_API int striate_winograd_forward(const StriateConv* g, const float* x, const float* weight,
                                         const float* bias, float* y);

/* dw = gradient of sum(y dy) to the kernels */
STRIATE_API int striate_winograd_weight(const StriateConv* g, const float* x, const float* dy,
                                        float* dw);

/* 1e9 multiply-and-add per second that one thread of this CPU reaches out of its registers */
STRIATE_API double striate_peak(double seconds);

#ifdef __cplusplus
}
#endif

#endif
