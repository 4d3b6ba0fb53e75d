// Vectors of floats as wide as the instruction set of this translation unit.
//
// Every file that includes this one is compiled once an instruction set (see CMakeLists.txt), each
// time in a namespace of its own, LEVEL. Nothing here may come from the standard library's
// templates: the linker would keep one copy of them, perhaps that of instructions a CPU lacks.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace LEVEL {

#if defined(__AVX512F__)
constexpr int64_t LANES = 16;
constexpr int64_t REGISTERS = 32;
#elif defined(__AVX2__)
constexpr int64_t LANES = 8;
constexpr int64_t REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int64_t LANES = 4;
constexpr int64_t REGISTERS = 32;
#else
constexpr int64_t LANES = 4;
constexpr int64_t REGISTERS = 16;
#endif

using Vector = float __attribute__((vector_size(LANES * 4)));
using Unaligned = float __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

#define INLINE inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))

INLINE Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }

INLINE void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }

// Not Vector{} + value: for the sake of -0 the compiler would add, and spread what came out, where
// one instruction reads memory into all lanes.
INLINE Vector spread(float value) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(value);
#elif defined(__AVX2__)
  return _mm256_set1_ps(value);
#else
  return Vector{value, value, value, value};
#endif
}

// The first `count` floats, 0 to LANES; the rest is 0 and is not read.
INLINE Vector load_part(const float* from, int64_t count) {
#if defined(__AVX512F__)
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
#else
  Vector value{};
  std::memcpy(&value, from, static_cast<size_t>(count) * 4);
  return value;
#endif
}

INLINE void store_part(float* to, Vector value, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), value);
#else
  std::memcpy(to, &value, static_cast<size_t>(count) * 4);
#endif
}

// The same for all lanes or only for some.
INLINE Vector get(const float* from, int64_t left) {
  return left == LANES ? load(from) : load_part(from, left);
}

INLINE void put(float* to, Vector value, int64_t left) {
  if (left == LANES)
    store(to, value);
  else
    store_part(to, value, left);
}

INLINE void copy(float* to, const float* from, int64_t count) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

INLINE void clear(float* to, int64_t count) {
  int64_t i = 0;
  for (; i + LANES <= count; i += LANES) store(to + i, Vector{});
  for (; i < count; ++i) to[i] = 0;
}

// Past the caches, to a multiple of a vector's bytes: what is written and not read soon need not be
// fetched before. Other threads see it behind `settled`.
INLINE void put_past(float* to, Vector value) {
#if defined(__AVX512F__)
  _mm512_stream_ps(to, value);
#elif defined(__AVX2__)
  _mm256_stream_ps(to, value);
#else
  store(to, value);
#endif
}

INLINE void settled() {
#if defined(__AVX512F__) || defined(__AVX2__)
  _mm_sfence();
#endif
}

// Whether rows of c floats from `to` on can be written so, and are more than caches keep.
INLINE bool goes_past(const float* to, int64_t rows, int64_t c) {
  constexpr int64_t MUCH = 4 << 20;  // floats
  return rows * c >= MUCH && c % LANES == 0 && reinterpret_cast<uintptr_t>(to) % (LANES * 4) == 0;
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define STRIATE_SHUFFLES
#endif
#endif

#if defined(STRIATE_SHUFFLES)
// Of a and b as squares of Step lanes: exchange b's left ones with a's right ones.
template <int Step, int... Lane>
INLINE void exchange(Vector& a, Vector& b, std::integer_sequence<int, Lane...>) {
  constexpr int MANY = sizeof...(Lane);
  const Vector left = __builtin_shufflevector(a, b, (Lane & Step ? MANY + Lane - Step : Lane)...);
  b = __builtin_shufflevector(a, b, (Lane & Step ? MANY + Lane : Lane + Step)...);
  a = left;
}

template <int Step>
INLINE void transpose_by(Vector* row) {
  if constexpr (Step < LANES) {
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i)
      if (!(i & Step))
        exchange<Step>(row[i], row[i + Step], std::make_integer_sequence<int, LANES>());
    transpose_by<2 * Step>(row);
  }
}
#endif

// A square of LANES x LANES numbers: rows become columns.
INLINE void transpose(Vector* row) {
#if defined(STRIATE_SHUFFLES)
  transpose_by<1>(row);
#else
  for (int i = 0; i < LANES; ++i)
    for (int j = 0; j < i; ++j) {
      const float kept = row[i][j];
      row[i][j] = row[j][i];
      row[j][i] = kept;
    }
#endif
}

// What is no number stays none: these instructions return their second number then.
INLINE Vector clipped(Vector value, Vector low, Vector high) {
#if defined(__AVX512F__)
  constexpr __mmask16 all = 0xffff;  // without a mask GCC 12 warns of its own header
  return _mm512_maskz_min_ps(all, high, _mm512_maskz_max_ps(all, low, value));
#elif defined(__AVX2__)
  return _mm256_min_ps(high, _mm256_max_ps(low, value));
#else
  value = value < low ? low : value;
  return value > high ? high : value;
#endif
}

// A distance whose multiples are not computed ahead of a loop: dozens of them would be kept in
// memory, and an addition is cheaper than to read one.
INLINE int64_t anew(int64_t distance) {
  asm volatile("" : "+r"(distance));
  return distance;
}

INLINE bool has_bounds(double low, double high) {
  return low != -__builtin_inf() || high != __builtin_inf();
}

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

INLINE int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

}  // namespace LEVEL
