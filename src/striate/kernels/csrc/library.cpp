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

int striate_direct_input(const StriateConv* g, const float* dy, const float* weight, float* dx) {
  return level().direct_input(*g, dy, weight, dx);
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

int striate_winograd_forward(const StriateConv* g, const float* x, const float* weight,
                             const float* bias, const float* addend, float* y) {
  return level().winograd_forward(*g, x, weight, bias, addend, y);
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
