// The functions of api.h: each goes to the best instruction set that this CPU has.
#include <atomic>
#include <chrono>
#include <cstring>

#include "level.hpp"

namespace baseline {
extern const Level table;
}
#if defined(STRIATE_X86)
namespace avx2 {
extern const Level table;
}
namespace avx512 {
extern const Level table;
}
#endif

namespace {

// Best first.
const Level* const known[] = {
#if defined(STRIATE_X86)
    &avx512::table, &avx2::table,
#endif
    &baseline::table};

bool runs_here(const Level& one) {
#if defined(STRIATE_X86)
  __builtin_cpu_init();
  const bool two = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (&one == &avx2::table) return two;
  if (&one == &avx512::table)
    return two && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
#endif
  return &one == &baseline::table;
}

const Level* best() {
  for (const Level* one : known)
    if (runs_here(*one)) return one;
  return &baseline::table;
}

std::atomic<const Level*> used{best()};

const Level& level() { return *used.load(std::memory_order_relaxed); }

}  // namespace

extern "C" {

const char* striate_level(void) { return level().name; }

int striate_choose(const char* name) {
  for (const Level* one : known)
    if (std::strcmp(one->name, name) == 0 && runs_here(*one)) {
      used = one;
      return STRIATE_DONE;
    }
  return STRIATE_NOT_KNOWN;
}

int striate_direct_forward(const StriateConv* g, const float* x, const float* weight,
                           const float* bias, const float* addend, float* y) {
  return level().direct_forward(*g, x, weight, bias, addend, y);
}

int striate_direct_input(const StriateConv* g, const float* dy, const float* weight,
                         const float* addend, float* dx) {
  return level().direct_input(*g, dy, weight, addend, dx);
}

int striate_direct_weight(const StriateConv* g, const float* x, const float* dy, float* dw) {
  return level().direct_weight(*g, x, dy, dw);
}

int striate_depthwise_forward(const StriateConv* g, const float* x, const float* weight,
                              const float* bias, const float* addend, float* y) {
  return level().depthwise_forward(*g, x, weight, bias, addend, y);
}

int striate_depthwise_input(const StriateConv* g, const float* dy, const float* weight, float* dx) {
  return level().depthwise_input(*g, dy, weight, dx);
}

int striate_depthwise_weight(const StriateConv* g, const float* x, const float* dy, float* dw) {
  return level().depthwise_weight(*g, x, dy, dw);
}

int striate_separable_forward(const StriateSeparable* g, const float* x, const float* first,
                              const float* first_bias, const float* kernel,
                              const float* kernel_bias, const float* last, const float* last_bias,
                              const float* addend, float* y) {
  return level().separable_forward(*g, x, first, first_bias, kernel, kernel_bias, last, last_bias,
                                   addend, y);
}

int striate_winograd_forward(const StriateConv* g, const float* x, const float* weight,
                             const float* bias, const float* addend, float* y) {
  return level().winograd_forward(*g, x, weight, bias, addend, y);
}

int64_t striate_prepared_floats(const StriateConv* g) { return level().prepared_floats(*g); }

int striate_prepare(const StriateConv* g, const float* weight, float* to) {
  return level().prepare(*g, weight, to);
}

int striate_winograd_pooled(const StriateConv* g, const float* x, const float* weight,
                            const float* scale, const float* bias, float* y, uint8_t* place) {
  return level().winograd_pooled(*g, x, weight, scale, bias, y, place);
}

int striate_pool_forward(const StriatePooling* g, const float* x, float* y, uint8_t* place) {
  return level().pool_forward(*g, x, y, place);
}

int striate_pool_backward(const StriatePooling* g, const float* dy, const uint8_t* place,
                          float* dx) {
  return level().pool_backward(*g, dy, place, dx);
}

int striate_winograd_weight(const StriateConv* g, const float* x, const float* dy, float* dw) {
  return level().winograd_weight(*g, x, dy, dw);
}

int striate_norm_forward(const StriateNorm* g, const float* x, const float* weight,
                         const float* bias, const float* addend, float* y, float* mean,
                         float* variance) {
  return level().norm_forward(*g, x, weight, bias, addend, y, mean, variance);
}

int striate_norm_backward(const StriateNorm* g, const float* x, const float* dy, const float* y,
                          const float* weight, const float* bias, const float* mean,
                          const float* variance, float* dx, float* dweight, float* dbias,
                          float* dsum) {
  return level().norm_backward(*g, x, dy, y, weight, bias, mean, variance, dx, dweight, dbias,
                               dsum);
}

int striate_stage_forward(const StriateStage* g, const float* x, const float* weight, float* y,
                          float* mean, float* variance) {
  return level().stage_forward(*g, x, weight, y, mean, variance);
}

int striate_stage_backward(const StriateStage* g, const float* x, const float* weight,
                           const float* dy, const float* y, const float* behind_dweight,
                           const float* behind_dbias, const float* addend, float* dx,
                           float* dkernel, float* before_dweight, float* before_dbias) {
  return level().stage_backward(*g, x, weight, dy, y, behind_dweight, behind_dbias, addend, dx,
                                dkernel, before_dweight, before_dbias);
}

uint64_t striate_fingerprint(const float* const* tensors, const int64_t* counts, int64_t number) {
  constexpr int64_t LINE = 16, STEP = 256, WHOLE = 1 << 14, TURN = 27;  // floats; bits
  constexpr int64_t AHEAD = 32;  // lines a kilobyte apart are not foreseen by the CPU
  uint64_t sums[LINE / 2] = {};
  for (int64_t k = 0; k < number; ++k) {
    const int64_t step = counts[k] <= WHOLE ? LINE : STEP;
    if (k + AHEAD < number) __builtin_prefetch(tensors[k + AHEAD]);
    for (int64_t first = 0; first < counts[k]; first += step) {
      uint64_t line[LINE / 2] = {};
      if (step == STEP) __builtin_prefetch(tensors[k] + first + AHEAD * STEP);
      const int64_t left = counts[k] - first;
      if (left >= LINE)  // a copy of known size is two instructions
        std::memcpy(line, tensors[k] + first, sizeof line);
      else
        std::memcpy(line, tensors[k] + first, static_cast<size_t>(left) * sizeof(float));
      for (int i = 0; i < LINE / 2; ++i)
        sums[i] = ((sums[i] << TURN) | (sums[i] >> (64 - TURN))) ^ line[i];
    }
  }
  uint64_t all = 0;
  for (const uint64_t sum : sums) all = ((all ^ (all >> 32)) + sum) * 0x9E3779B97F4A7C15u;
  return all;
}

int64_t striate_chain_lanes(void) { return level().lanes; }

int64_t striate_chain_floats(const StriateChain* chain) { return level().chain_floats(*chain); }

int striate_chain_forward(const StriateChain* chain, const float* x, float* y, float* kept) {
  return level().chain_forward(*chain, x, y, kept);
}

int striate_chain_backward(const StriateChain* chain, const float* x, const float* dy,
                           const float* kept, float* dx) {
  return level().chain_backward(*chain, x, dy, kept, dx);
}

double striate_peak(double seconds) {
  using clock = std::chrono::steady_clock;
  double best = 0;
  for (const auto begun = clock::now();;) {
    const auto start = clock::now();
    const double done = level().burn(200000);
    const auto now = clock::now();
    const double rate = done / std::chrono::duration<double>(now - start).count() / 1e9;
    if (rate > best) best = rate;
    if (std::chrono::duration<double>(now - begun).count() >= seconds) return best;
  }
}

}  // extern "C"
