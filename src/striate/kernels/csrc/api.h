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

/* A convolution of three axes: x (n, *size, c) -> y (n, *out, o). Of fewer axes, the first ones
 * have size 1. */
typedef struct StriateConv {
  int64_t n, c, o;
  int64_t size[3], out[3];
  int64_t kernel[3], stride[3], pad[3], dilation[3]; /* pad: zeros before the first sample */
  int64_t groups;
  int64_t weight_o, weight_c, weight_k[3]; /* strides of the kernels (o, c / groups, *kernel) */
  int64_t turned; /* winograd: kernels turned by half a turn, inputs and outputs exchanged */
  int64_t tile;   /* outputs of a tile along an axis: winograd 2 or 4, direct 1 */
  int64_t ready;  /* direct_forward, winograd_forward: kernels are as striate_prepare gives them */
  int64_t threads; /* at least 1 */
  int64_t silu;    /* answers v of forward calls become v / (1 + e^-v); then there are no bounds */
  double low, high; /* answers of forward calls are clipped to these; infinite ones do nothing */
} StriateConv;

/* avx512, avx2 or baseline: the instruction set in use, the best that this CPU has */
STRIATE_API const char* striate_level(void);

/* use another one, from the next call on; STRIATE_NOT_KNOWN where this CPU lacks it */
STRIATE_API int striate_choose(const char* level);

/* Any convolution: y = clip(x * weight + bias + addend, low, high), or SiLU in the place of the
 * bounds, where bias and addend, of y's shape, may be null; dx and dw, the gradients of sum(y dy)
 * where nothing is clipped; to dx, too, something of its shape may be added. */
STRIATE_API int striate_direct_forward(const StriateConv* g, const float* x, const float* weight,
                                       const float* bias, const float* addend, float* y);
STRIATE_API int striate_direct_input(const StriateConv* g, const float* dy, const float* weight,
                                     const float* addend, float* dx);
STRIATE_API int striate_direct_weight(const StriateConv* g, const float* x, const float* dy,
                                      float* dw);

/* K x 3 x 3 kernels, or K x 1 x 3 ones; stride 1, one group. The gradient to x is a forward call
 * with `turned`, and dy in the place of x. On a single plane also stride 2 along the axes of 3
 * taps, with tiles of 4; then `turned` keeps the stride and the border of x. */
STRIATE_API int striate_winograd_forward(const StriateConv* g, const float* x, const float* weight,
                                         const float* bias, const float* addend, float* y);
STRIATE_API int striate_winograd_weight(const StriateConv* g, const float* x, const float* dy,
                                        float* dw);

/* The largest of 2 x 2 neighbours in steps of two, of a convolution of stride 1 on a single plane
 * with 3 x 3 kernels:
 *     y = clip(largest(x * weight) scale + bias, low, high) ,
 * or SiLU; y is (n, out / 2, o), rounded down. scale and bias may be null. place, of y's shape, is
 * which of the four it was, 0 to 3, row after row, the first of equal ones; it may be null. */
STRIATE_API int striate_winograd_pooled(const StriateConv* g, const float* x, const float* weight,
                                        const float* scale, const float* bias, float* y,
                                        uint8_t* place);

/* The same of pictures (n, h, w, c) that are there already, and its gradient. */
typedef struct StriatePooling {
  int64_t n, h, w, c, threads;
} StriatePooling;

STRIATE_API int striate_pool_forward(const StriatePooling* g, const float* x, float* y,
                                     uint8_t* place);
STRIATE_API int striate_pool_backward(const StriatePooling* g, const float* dy,
                                      const uint8_t* place, float* dx);

/* Kernels made ready once for many forward calls of `tile`, whatever their pictures: how many
 * floats, and these. They are of one instruction set. */
STRIATE_API int64_t striate_prepared_floats(const StriateConv* g);
STRIATE_API int striate_prepare(const StriateConv* g, const float* weight, float* to);

/* As many groups as channels in and out: each channel has its own kernel. */
STRIATE_API int striate_depthwise_forward(const StriateConv* g, const float* x, const float* weight,
                                          const float* bias, const float* addend, float* y);
STRIATE_API int striate_depthwise_input(const StriateConv* g, const float* dy, const float* weight,
                                        float* dx);
STRIATE_API int striate_depthwise_weight(const StriateConv* g, const float* x, const float* dy,
                                         float* dw);

/* A depthwise convolution of two axes between two pointwise ones, the first of which may be
 * missing:
 *     h = clip(first x + first_bias), m = clip(kernel * h + kernel_bias),
 *     y = clip(last m + last_bias + addend).
 * Numbers for the channels between stand in blocks of 32, the last one of 16 or 32, and are 0 where
 * there is no channel: first is [block][c][32], kernel [block][tap][32], last [channel][o rounded
 * up to 16]; both biases between have as many. last_bias and addend may be null. */
typedef struct StriateSeparable {
  StriateConv depth;            /* the depthwise one, with its bounds; weight_* are not read */
  int64_t c, o;                 /* channels of x, 0 where the first is missing; of y */
  double first_low, first_high; /* bounds of the first, and of the last */
  double last_low, last_high;
} StriateSeparable;

STRIATE_API int striate_separable_forward(const StriateSeparable* g, const float* x,
                                          const float* first, const float* first_bias,
                                          const float* kernel, const float* kernel_bias,
                                          const float* last, const float* last_bias,
                                          const float* addend, float* y);

/* Batch normalisation of `rows` pixels of c channels each. */
typedef struct StriateNorm {
  int64_t rows, c, threads;
  int64_t silu;     /* answers v become v / (1 + e^-v): without bounds and addend */
  double epsilon;   /* added to the variance */
  double low, high; /* answers are clipped to these, and let no gradient through where they are */
} StriateNorm;

/* y = clip((x - mean) / std * weight + bias + addend, low, high), or SiLU, by the statistics of x,
 * which are given back: variance is the biased one. weight, bias and addend may be null. */
STRIATE_API int striate_norm_forward(const StriateNorm* g, const float* x, const float* weight,
                                     const float* bias, const float* addend, float* y, float* mean,
                                     float* variance);

/* `y`, the answers, and `dsum`, the gradient to the addend, are null where there was no addend, or
 * no bounds: then the latter is dy. */
STRIATE_API int striate_norm_backward(const StriateNorm* g, const float* x, const float* dy,
                                      const float* y, const float* weight, const float* bias,
                                      const float* mean, const float* variance, float* dx,
                                      float* dweight, float* dbias, float* dsum);

/* How a tensor of channels is normalised while it is read:
 *     clip((x - mean) / sqrt(variance + epsilon) weight + bias, low, high) .
 * weight and bias may be null; mean, too: then it is read as it is. */
typedef struct StriateNormed {
  const float *weight, *bias, *mean, *variance;
  double epsilon, low, high;
} StriateNormed;

/* A convolution of two axes between normalisations, pointwise or depthwise: x is what a convolution
 * before wrote, read as `before` says; y is what it writes, and `behind` how others read that. */
typedef struct StriateStage {
  StriateConv conv; /* pointwise: one tap, no border; its bounds are not read */
  StriateNormed before, behind;
} StriateStage;

/* mean and biased variance are of y's channels. */
STRIATE_API int striate_stage_forward(const StriateStage* g, const float* x, const float* weight,
                                      float* y, float* mean, float* variance);

/* dy is the gradient to y as normalised, where its bounds let it through; with it come those to the
 * weight and the bias of `behind`, as this function gives them for `before`. Without `behind` it is
 * that to y. dx, with an addend that may be null, is meant likewise. */
STRIATE_API int striate_stage_backward(const StriateStage* g, const float* x, const float* weight,
                                       const float* dy, const float* y, const float* behind_dweight,
                                       const float* behind_dbias, const float* addend, float* dx,
                                       float* dkernel, float* before_dweight, float* before_dbias);

/* A number that changes with every number of tensors up to 64 KB, and with the first 16 of every
 * 256 of larger ones: to see whether these are still what they were takes a sixteenth of the time
 * that reading them takes. */
STRIATE_API uint64_t striate_fingerprint(const float* const* tensors, const int64_t* counts,
                                         int64_t number);

/* A link of a chain: a convolution of two axes (the first of three has size 1), an activation
 * behind it and pooling behind that. `conv` has the bounds of STRIATE_CLIP. */
enum { STRIATE_STRAIGHT = 0, STRIATE_CLIP = 1, STRIATE_TANH = 2, STRIATE_LOGISTIC = 3 };
enum { STRIATE_NO_POOLING = 0, STRIATE_MAX = 1, STRIATE_MEAN = 2 };

typedef struct StriateLink {
  StriateConv conv;
  int64_t activation, pooling;
  int64_t window[2], step[2], border[2], pooled[2]; /* pooling: its windows, its answers */
  int64_t divisor, counts_border; /* of the mean: by what if not 0; border counts */
  double inner, outer;            /* outer * tanh(inner * x) */
  const float *weight, *bias;     /* bias may be null */
  float *dweight, *dbias;         /* contiguous; null where they are not wanted */
} StriateLink;

/* Links of which each reads what the one before answers. Strides are of (n, c, h, w), in floats; y
 * and dx are contiguous. */
typedef struct StriateChain {
  int64_t n, links, threads;
  int64_t stride_x[4], stride_dy[4];
  const StriateLink* link;
} StriateChain;

/* how many images lie side by side; how many floats each block of so many keeps */
STRIATE_API int64_t striate_chain_lanes(void);
STRIATE_API int64_t striate_chain_floats(const StriateChain* chain);

/* kept, of as many floats for each block, is what the gradient wants, or null. dx may be null. */
STRIATE_API int striate_chain_forward(const StriateChain* chain, const float* x, float* y,
                                      float* kept);
STRIATE_API int striate_chain_backward(const StriateChain* chain, const float* x, const float* dy,
                                       const float* kept, float* dx);

/* 1e9 multiply-and-add per second that one thread of this CPU reaches out of its registers */
STRIATE_API double striate_peak(double seconds);

#ifdef __cplusplus
}
#endif

#endif
