// Convolution 3x3 by Winograd's minimal filtering, F(4x4, 3x3) and F(2x2, 3x3); along lines F(4, 3)
// and F(2, 3); of stride 2 F(4x4, 2x2) and F(4, 2) of each phase.
//
// A tile of M x M outputs sees (M + 2) x (M + 2) inputs. With three small matrices,
//     Y = At [ (G g Gt) . (Bt d B) ] A ,
// where . multiplies element by element: 36 products in place of 144 for M = 4, 16 for 36 for
// M = 2. Summed over channels, each of the (M + 2)^2 elements is a matrix product of its own:
//     out[f] (tiles x O) = in[f] (tiles x C)  kernel[f] (C x O) .
// The gradient to the input is the same convolution with kernels turned and transposed. That to
// the kernels runs it backwards: dkernel[f] = in[f]^T (A dY At)[f], then Gt dkernel G.
//
// Kernels of K x 3 x 3 sum K such products, of K planes of the input: each plane is transformed
// once, and those that lie in the border cost nothing. Kernels of 3 along a line need half of it:
//     y = At [ (G g) . (Bt d) ] ,
// 6 products in place of 12 for M = 4.
//
// Stride 2: taps 0 and 2 along an axis see every other sample, tap 1 those between. The two (on
// planes four) phases are convolutions of stride 1 whose answers are summed while they are points:
// 81 products in place of 144 for 4 x 4 outputs, 9 in place of 12 along a line. Phases take the
// place of planes: read as `sources` by a forward call, written as `targets` by the gradient to the
// input, which is the same backwards.
//
// What is left at the end of lines and columns is a tile of fewer outputs, which has fewer points
// (Rest in minimal.hpp). A batch holds tiles of equal size side by side: out[f] is a product over
// those that have point f.
//
// Work comes in one of two orders. By tiles: all kernels are transformed, then each batch of tiles
// goes through all three steps. By outputs: all tiles are transformed, then each panel of outputs
// goes through its steps with all of them. The second one does not write and read kernels 4 times
// as large as they were; the first one does not do so with pictures.
//
// Source: Lavin, Gray 2015, Fast Algorithms for Convolutional Neural Networks, arXiv:1509.09308.
#pragma once

#include "taps.hpp"
#include "tiles.hpp"

namespace LEVEL {

// ---- by tiles

template <typename T>
struct Forward {
  const Plan<T>& plan;
  const float *x, *weight;
  Finish finish;
  float* shared;         // kernels, [tap][point] ...; or tiles by outputs, [plane][point] ...
  const float* kernels;  // by tiles; by outputs, null where they are not ready
  bool failed;
};

template <typename T>
void kernel_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Forward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const int64_t k = part % plan.taps, o = part / plan.taps * LANES;
  const int64_t start = o / (WIDE * LANES) * (WIDE * LANES);
  transform_kernel(plan, own.weight, k, o,
                   own.shared + k * tap_floats(plan) + start * plan.g.c + (o - start),
                   panel(plan.outputs - start), plan.spacing(plan.channels, plan.outputs));
}

// The sources that a batch of tiles sees from one target, transformed. They are kept until no
// further target sees them.
template <typename T>
struct Planes {
  const Plan<T>& plan;
  const float* x;
  Batch all;
  int64_t spacing;
  float* memory;         // null: there is none
  int64_t next = 0;

  Planes(const Plan<T>& plan_, const float* x_, const Batch& all_)
      : plan(plan_), x(x_), all(all_), spacing(plan_.spacing(all_.count, plan_.channels)),
        memory(striate::scratch(0, plan_.kept * T::POINTS * spacing)) {}

  float* at(int64_t z) const { return memory + z % plan.kept * T::POINTS * spacing; }

  // Let there be those that are seen from target z.
  void reach(int64_t z) {
    const int64_t last = plan.source_of(z, plan.taps_of(z).end - 1);
    for (; next <= last; ++next)
      transform_input(plan, x, next, all, at(next), spacing);
  }
};

// Target z, in points: the sum over taps of in[source][point] kernel[tap][point]. `at` says where a
// source lies, `from` how far its points are apart; `tap` and `kernel` how far taps of `kernels`
// and their points.
template <typename T, typename At>
void multiply_taps(const Plan<T>& plan, int64_t z, const Batch& all, int64_t columns, At at,
                   int64_t from, const float* kernels, int64_t tap, int64_t kernel, float* out) {
  const Taps taps = plan.taps_of(z);
  const int64_t to = plan.spacing(all.count, columns);
  if (taps.first == taps.end) std::memset(out, 0, sizeof(float) * T::POINTS * to);
  for (int64_t f = 0; f < T::POINTS; ++f) {
    const Some some = plan.with_point(f, all);
    float* sums = out + f * to + some.first * columns;
    for (int64_t k = taps.first; k < taps.end; ++k) {
      if (!plan.meets(k, f)) {
        if (k == taps.first) std::memset(sums, 0, sizeof(float) * some.count * columns);
        continue;
      }
      const auto product = k == taps.first ? multiply<false> : multiply<true>;
      product(some.count, columns, plan.g.c,
              at(plan.source_of(z, k)) + f * from + some.first * plan.channels, plan.channels, 1,
              kernels + k * tap + f * kernel, true, 0, sums, columns);
    }
  }
}

template <typename T>
void tile_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Forward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const Batch all = plan.batch_of(part);
  Planes<T> planes(plan, own.x, all);
  const int64_t to = plan.spacing(all.count, plan.outputs);
  float* out = striate::scratch(1, T::POINTS * to);
  if (!planes.memory || !out) {
    own.failed = true;
    return;
  }
  for (int64_t z = 0; z < plan.targets; ++z) {
    planes.reach(z);
    multiply_taps(
        plan, z, all, plan.outputs, [&](int64_t source) { return planes.at(source); },
        planes.spacing, own.kernels, tap_floats(plan), plan.spacing(plan.channels, plan.outputs),
        out);
    transform_output(plan, out, z, all, {0, plan.g.o}, own.finish);
  }
}

template <typename T>
struct Backward {
  const Plan<T>& plan;
  const float *x, *dy;
  float* dw;
  float* shared;  // sums of each copy, or tiles by outputs
  int64_t copies;
  bool failed;
};

// Add to the sums of each tap in[point]^T out[point], where `out` is target z of dy; `begun`: the
// sums hold something before z = 0. Arguments are those of multiply_taps.
template <typename T, typename At>
void sum_taps(const Plan<T>& plan, int64_t z, bool begun, const Batch& all, int64_t columns,
              At at, int64_t from, const float* out, float* sums, int64_t tap, int64_t kernel) {
  const Taps taps = plan.taps_of(z);
  const int64_t spacing = plan.spacing(all.count, columns);
  for (int64_t k = taps.first; k < taps.end; ++k)
    for (int64_t f = 0; f < T::POINTS; ++f) {
      const Some some = plan.with_point(f, all);
      const bool adds = begun || z > plan.first_of(k);
      if (!plan.meets(k, f) || (adds && !some.count)) continue;
      const auto add = adds ? multiply<true> : multiply<false>;
      add(plan.g.c, columns, some.count,
          at(plan.source_of(z, k)) + f * from + some.first * plan.channels, 1, plan.channels,
          out + f * spacing + some.first * columns, false, columns, sums + k * tap + f * kernel,
          columns);
    }
}

// Sums of taps that see nothing but the border, from no plane.
template <typename T>
void clear_unseen(const Plan<T>& plan, float* sums, int64_t tap) {
  for (int64_t k = 0; k < plan.taps; ++k)
    if (plan.first_of(k) == plan.targets) std::memset(sums + k * tap, 0, sizeof(float) * tap);
}

// A copy sums every `copies`-th batch of tiles, always the same: sums do not depend on who was
// faster.
template <typename T>
void sum_tiles(void* context, int64_t copy, int) {
  auto& own = *static_cast<Backward<T>*>(context);
  const Plan<T>& plan = own.plan;
  float* sums = own.shared + copy * plan.taps * tap_floats(plan);
  clear_unseen(plan, sums, tap_floats(plan));
  for (int64_t part = copy; part < plan.parts; part += own.copies) {
    const Batch all = plan.batch_of(part);
    Planes<T> planes(plan, own.x, all);
    float* out = striate::scratch(1, T::POINTS * plan.spacing(all.count, plan.outputs));
    if (!planes.memory || !out) {
      own.failed = true;
      return;
    }
    for (int64_t z = 0; z < plan.targets; ++z) {
      planes.reach(z);
      transform_gradient(plan, own.dy, z, all, {0, plan.g.o}, out);
      sum_taps(
          plan, z, part != copy, all, plan.outputs,
          [&](int64_t source) { return planes.at(source); }, planes.spacing, out, sums,
          tap_floats(plan), plan.spacing(plan.channels, plan.outputs));
    }
  }
}

template <typename T>
void gather_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Backward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const int64_t k = part % plan.taps, o = part / plan.taps * LANES;
  gather_kernel(plan, own.shared + k * tap_floats(plan) + o, plan.outputs,
                plan.spacing(plan.channels, plan.outputs), own.copies, k, o, own.dw);
}

// ---- by outputs

// Of one source.
template <typename T>
int64_t plane_floats(const Plan<T>& plan) {
  return T::POINTS * plan.spacing(plan.tiles, plan.channels);
}

// `Call` is Forward or Backward: a batch of tiles of a source into what all share.
template <typename T, typename Call>
void input_part(void* context, int64_t part, int) {
  const auto& own = *static_cast<Call*>(context);
  const Plan<T>& plan = own.plan;
  const int64_t z = part / plan.parts;
  const Batch all = plan.batch_of(part % plan.parts);
  transform_input(plan, own.x, z, all,
                  own.shared + z * plane_floats(plan) + all.first * plan.channels,
                  plan.spacing(plan.tiles, plan.channels));
}

template <typename T>
Outputs outputs_of(const Plan<T>& plan, int64_t part) {
  const int64_t first = part * WIDE * LANES;
  return {first, least(WIDE * LANES, plan.g.o - first)};
}

template <typename T>
void output_part(void* context, int64_t part, int) {
  auto& own = *static_cast<Forward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const Outputs some = outputs_of(plan, part);
  const bool ready = own.kernels;
  const int64_t spacing = ready ? plan.spacing(plan.channels, plan.outputs)
                                : plan.spacing(plan.g.c, some.wide());
  const int64_t tap = T::POINTS * spacing;
  float* made = ready ? nullptr : striate::scratch(0, plan.taps * tap);
  float* out = striate::scratch(1, T::POINTS * plan.spacing(plan.batch, some.wide()));
  if ((!ready && !made) || !out) {
    own.failed = true;
    return;
  }
  for (int64_t k = 0; !ready && k < plan.taps; ++k)
    for (int64_t o = 0; o < some.count; o += LANES)
      transform_kernel(plan, own.weight, k, some.first + o, made + k * tap + o, some.wide(),
                       spacing);
  const float* kernels = ready ? own.kernels + some.first * plan.g.c : made;
  for (int64_t batch = 0; batch < plan.parts; ++batch) {
    const Batch all = plan.batch_of(batch);
    const float* tiles = own.shared + all.first * plan.channels;
    for (int64_t z = 0; z < plan.targets; ++z) {
      multiply_taps(
          plan, z, all, some.wide(),
          [&](int64_t source) { return tiles + source * plane_floats(plan); },
          plan.spacing(plan.tiles, plan.channels), kernels, tap, spacing, out);
      transform_output(plan, out, z, all, some, own.finish);
    }
  }
}

template <typename T>
void sum_outputs(void* context, int64_t part, int) {
  auto& own = *static_cast<Backward<T>*>(context);
  const Plan<T>& plan = own.plan;
  const Outputs some = outputs_of(plan, part);
  const int64_t spacing = plan.spacing(plan.g.c, some.wide()), tap = T::POINTS * spacing;
  float* sums = striate::scratch(0, plan.taps * tap);
  float* out = striate::scratch(1, T::POINTS * plan.spacing(plan.tiles, some.wide()));
  if (!sums || !out) {
    own.failed = true;
    return;
  }
  clear_unseen(plan, sums, tap);
  for (int64_t z = 0; z < plan.targets; ++z) {
    transform_gradient(plan, own.dy, z, plan.whole(), some, out);
    sum_taps(
        plan, z, false, plan.whole(), some.wide(),
        [&](int64_t source) { return own.shared + source * plane_floats(plan); },
        plan.spacing(plan.tiles, plan.channels), out, sums, tap, spacing);
  }
  for (int64_t k = 0; k < plan.taps; ++k)
    for (int64_t o = 0; o < some.count; o += LANES)
      gather_kernel(plan, sums + k * tap + o, some.wide(), spacing, 1, k, some.first + o, own.dw);
}

// ---- what is called

template <typename T>
int64_t winograd_floats(const StriateConv& g) {
  const Plan<T> plan(g, FORWARD);
  return plan.taps * tap_floats(plan);
}

template <typename T>
int winograd_kernels(const StriateConv& g, const float* weight, float* to) {
  const Plan<T> plan(g, FORWARD);
  Forward<T> own{plan, nullptr, weight, Finish(g, nullptr, nullptr, nullptr), to, nullptr, false};
  striate::parallel(plan.taps * (plan.outputs / LANES), static_cast<int>(g.threads),
                    kernel_part<T>, &own);
  return STRIATE_DONE;
}

template <typename T>
int winograd_forward(const StriateConv& g, const float* x, const float* weight,
                     const Finish& finish) {
  const Plan<T> plan(g, FORWARD, finish.halved);
  const int threads = static_cast<int>(g.threads);
  float* shared = striate::scratch(2, plan.by_outputs ? plan.sources * plane_floats(plan)
                                      : g.ready       ? 0
                                                      : winograd_floats<T>(g));
  if (!shared) return STRIATE_NO_MEMORY;
  Forward<T> own{plan, x, weight, finish, shared, nullptr, false};
  if (g.ready)
    own.kernels = weight;
  else if (!plan.by_outputs)
    own.kernels = shared;
  if (plan.by_outputs) {
    striate::parallel(plan.sources * plan.parts, threads, input_part<T, Forward<T>>, &own);
    striate::parallel((g.o + WIDE * LANES - 1) / (WIDE * LANES), threads, output_part<T>, &own);
  } else {
    if (!g.ready)
      striate::parallel(plan.taps * (plan.outputs / LANES), threads, kernel_part<T>, &own);
    striate::parallel(plan.parts, threads, tile_part<T>, &own);
  }
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

template <typename T>
int winograd_weight(const StriateConv& g, const float* x, const float* dy, float* dw) {
  const Plan<T> plan(g, WEIGHT);
  const int threads = static_cast<int>(g.threads);
  const int64_t copies = least(plan.parts, threads);
  float* shared = striate::scratch(2, plan.by_outputs ? plan.sources * plane_floats(plan)
                                                      : copies * plan.taps * tap_floats(plan));
  if (!shared) return STRIATE_NO_MEMORY;
  Backward<T> own{plan, x, dy, dw, shared, copies, false};
  if (plan.by_outputs) {
    striate::parallel(plan.sources * plan.parts, threads, input_part<T, Backward<T>>, &own);
    striate::parallel((g.o + WIDE * LANES - 1) / (WIDE * LANES), threads, sum_outputs<T>, &own);
  } else {
    striate::parallel(copies, threads, sum_tiles<T>, &own);
    if (!own.failed)
      striate::parallel(plan.taps * (plan.outputs / LANES), threads, gather_part<T>, &own);
  }
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

}  // namespace LEVEL
