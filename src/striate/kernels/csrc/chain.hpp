// A chain of convolutions, activations and pooling, one block of images after the other: what lies
// between two links stays in the cache, and no call lies between them.
//
// Forward, a block keeps what its gradient wants: answers of every activation and pooling.
#pragma once

#include "gemm.hpp"
#include "pooled.hpp"

namespace LEVEL::images {

// How a link's numbers lie in a block.
struct Place {
  Lanes lanes;
  Map in, mid, out;          // before the convolution, behind the activation, behind the pooling
  Map asked;                 // the gradient of mid, with the borders that the one of `in` reads
  int64_t at_mid, at_out;    // in what a block keeps, in floats
  int64_t panels, sums;      // where its packed kernels, its gradients' sums begin, in floats
};

// Phases of the gradient to the input, each with kernels of its own.
template <typename Each>
INLINE void phases(const StriateConv& g, Each each) {
  int64_t panels = 0;
  input_phases(g, [&](const Axes& axes) {
    const Lanes lanes{axes.axis[1], axes.axis[2], g.groups, g.o / g.groups, g.c / g.groups};
    each(lanes, panels);
    panels += lanes.panel_floats();
    return STRIATE_DONE;
  });
}

// A linear layer is a convolution of single pixels: a matrix product.
INLINE bool is_linear(const StriateConv& g) {
  for (int a = 0; a < 3; ++a)
    if (g.size[a] != 1 || g.out[a] != 1 || g.kernel[a] != 1 || g.pad[a]) return false;
  return g.groups == 1;
}

INLINE int64_t kernel_floats(const StriateConv& g) {
  return g.o * (g.c / g.groups) * g.kernel[1] * g.kernel[2];
}

// Sums for a link's kernels: a vector a number, or whole lines of a matrix.
INLINE int64_t sum_floats(const StriateConv& g) {
  return is_linear(g) ? g.o * up(g.c, LANES) : kernel_floats(g) * LANES;
}

constexpr int64_t LINKS = 16;

struct Places {
  Place link[LINKS];
  int64_t kept = 0, panels = 0, sums = 0;       // floats
  int64_t largest_in = 0, largest_asked = 0, largest_kept = 0;

  // `back`: the gradient to what the first link reads is wanted.
  explicit Places(const StriateChain& chain, bool back = false) {
    for (int64_t k = 0; k < chain.links; ++k) begin(chain.link[k], link[k], k || back);
    for (int64_t k = 0; k < chain.links; ++k) place(chain, k);
  }

 private:
  static void begin(const StriateLink& own, Place& to, bool back) {
    const StriateConv& g = own.conv;
    to.lanes = {forward_axis(g, 1), forward_axis(g, 2), g.groups, g.c / g.groups, g.o / g.groups};
    to.in = {g.c, g.size[1], g.size[2], 0, g.size[2]};
    to.mid = to.asked = {g.o, g.out[1], g.out[2], 0, g.out[2]};
    widen(to.in, to.lanes.x);
    if (back) phases(g, [&](const Lanes& lanes, int64_t) { widen(to.asked, lanes.x); });
  }

  void place(const StriateChain& chain, int64_t k) {
    const StriateLink& own = chain.link[k];
    Place& to = link[k];
    to.out = {to.mid.c, own.pooled[0], own.pooled[1], 0, own.pooled[1]};
    if (!own.pooling) to.out = to.mid;
    if (k + 1 < chain.links && link[k + 1].in.c == to.out.c) to.out = link[k + 1].in;
    if (!own.pooling) to.mid = to.out;
    to.at_mid = kept;
    kept += to.mid.floats();
    to.at_out = own.pooling ? kept : to.at_mid;
    kept += own.pooling ? to.out.floats() : 0;
    to.panels = panels;
    panels += is_linear(own.conv) ? 0 : up(kernel_floats(own.conv), LANES);
    to.sums = sums;
    sums += sum_floats(own.conv) + own.conv.o * LANES;
    most(largest_in, to.in.floats());
    most(largest_in, to.out.floats());
    most(largest_asked, to.asked.floats());
  }

  static void most(int64_t& largest, int64_t value) { largest = largest < value ? value : largest; }
};

// ---- images to lanes and back

struct Images {
  int64_t stride[4];
  int64_t first, count;  // of a block; lanes behind them are empty
};

inline void into_lanes(const Images& own, const float* x, const Map& map, float* to) {
  clear_borders(map, to);
  for (int64_t c = 0; c < map.c; ++c)
    for (int64_t y = 0; y < map.h; ++y) {
      float* line = to + map.at(c, y, 0);
      for (int64_t lane = 0; lane < LANES; ++lane) {
        const bool there = lane < own.count;
        const float* from = x + (own.first + (there ? lane : 0)) * own.stride[0] +
                            c * own.stride[1] + y * own.stride[2];
        for (int64_t k = 0; k < map.w; ++k)
          line[k * LANES + lane] = there ? from[k * own.stride[3]] : 0.0f;
      }
    }
}

// To contiguous images.
inline void out_of_lanes(const Images& own, const Map& map, const float* from, float* y) {
  for (int64_t lane = 0; lane < own.count; ++lane) {
    float* to = y + (own.first + lane) * map.c * map.h * map.w;
    for (int64_t c = 0; c < map.c; ++c)
      for (int64_t j = 0; j < map.h; ++j) {
        const float* line = from + map.at(c, j, 0) + lane;
        for (int64_t k = 0; k < map.w; ++k) *to++ = line[k * LANES];
      }
  }
}

INLINE Images block_of(const StriateChain& chain, const int64_t* stride, int64_t part) {
  Images own;
  for (int a = 0; a < 4; ++a) own.stride[a] = stride[a];
  own.first = part * LANES;
  own.count = least(LANES, chain.n - own.first);
  return own;
}

INLINE int64_t blocks(const StriateChain& chain) { return (chain.n + LANES - 1) / LANES; }

// ---- forward

struct Forward {
  const StriateChain& chain;
  const Places& places;
  const float *x, *panels;
  float *y, *kept;
  bool failed;
};

inline void multiply_linear(const StriateLink& link, const float* in, const Map& map, float* out) {
  const StriateConv& g = link.conv;
  for (int64_t o = 0; o < g.o; ++o)
    store(out + map.at(o, 0, 0), spread(link.bias ? link.bias[o] : 0.0f));
  multiply<true>(g.o, LANES, g.c, link.weight, g.weight_o, g.weight_c, in, false, LANES,
                 out + map.at(0, 0, 0), map.plane());
}

// Line after line, and of pooling each line as soon as its windows are full.
inline void forward_link(const StriateLink& link, const Place& own, const float* in,
                         const float* panels, float* kept) {
  float *mid = kept + own.at_mid, *out = kept + own.at_out;
  const int64_t lines = link.pooling ? own.out.h : 0;
  for (int64_t j = 0, k = 0; j < own.mid.h; ++j) {
    if (is_linear(link.conv))
      multiply_linear(link, in, own.mid, mid);
    else
      convolve_line(own.lanes, own.in, in, panels + own.panels, link.bias, own.mid, mid, j);
    activate_line(link, own.mid, mid, j);
    for (; k < lines && (k * link.step[0] - link.border[0] + link.window[0] <= j + 1 ||
                         j + 1 == own.mid.h);
         ++k)
      pool_line(link, own.mid, mid, own.out, out, k);
  }
  clear_borders(own.mid, mid);
  if (link.pooling) clear_borders(own.out, out);
}

inline void forward_block(void* context, int64_t part, int) {
  auto& own = *static_cast<Forward*>(context);
  const Places& places = own.places;
  float* in = striate::scratch(0, places.link[0].in.floats());
  float* kept = own.kept ? own.kept + part * places.kept : striate::scratch(1, places.kept);
  if (!in || !kept) {
    own.failed = true;
    return;
  }
  const Images images = block_of(own.chain, own.chain.stride_x, part);
  into_lanes(images, own.x, places.link[0].in, in);
  for (int64_t k = 0; k < own.chain.links; ++k) {
    forward_link(own.chain.link[k], places.link[k], in, own.panels, kept);
    in = kept + places.link[k].at_out;
  }
  out_of_lanes(images, places.link[own.chain.links - 1].out, in, own.y);
}

inline int64_t chain_floats(const StriateChain& chain) { return Places(chain).kept; }

inline int chain_forward(const StriateChain& chain, const float* x, float* y, float* kept) {
  if (chain.links > LINKS) return STRIATE_NOT_KNOWN;
  const Places places(chain);
  float* panels = striate::scratch(2, places.panels);
  if (!panels) return STRIATE_NO_MEMORY;
  for (int64_t k = 0; k < chain.links; ++k) {
    const StriateLink& link = chain.link[k];
    if (is_linear(link.conv)) continue;
    pack(places.link[k].lanes, link.conv, link.weight, false, panels + places.link[k].panels);
  }
  Forward own{chain, places, x, panels, y, kept, false};
  striate::parallel(blocks(chain), static_cast<int>(chain.threads), forward_block, &own);
  return own.failed ? STRIATE_NO_MEMORY : STRIATE_DONE;
}

// ---- backward

struct Backward {
  const StriateChain& chain;
  const Places& places;
  const float *x, *dy, *kept, *panels;
  float *dx, *sums;
  int64_t copies;
  bool failed;
};

inline void backward_linear(const StriateConv& g, const float* weight, const float* dy, float* dx) {
  multiply<false>(g.c, LANES, g.o, weight, g.weight_c, g.weight_o, dy, false, LANES, dx, LANES);
}

// Add the products of dy and x, both of one block: x is turned to lines of images.
inline void sum_linear(const StriateConv& g, const float* x, const float* dy, float* lines,
                       float* sums) {
  const int64_t wide = up(g.c, LANES);
  for (int64_t lane = 0; lane < LANES; ++lane)
    for (int64_t c = 0; c < wide; ++c)
      lines[lane * wide + c] = c < g.c ? x[c * LANES + lane] : 0.0f;
  multiply<true>(g.o, wide, LANES, dy, LANES, 1, lines, false, wide, sums, wide);
}

// The gradient to what a link reads.
inline void backward_input(const StriateConv& g, const Place& own, const float* asked,
                           const float* panels, float* to) {
  const Map plain{own.in.c, own.in.h, own.in.w, 0, own.in.w};
  bool all = true;
  phases(g, [&](const Lanes& lanes, int64_t) { all = all && lanes.taps(); });
  if (!all) std::memset(to, 0, static_cast<size_t>(plain.floats()) * 4);
  phases(g, [&](const Lanes& lanes, int64_t at) {
    for (int64_t j = 0; lanes.taps() && j < lanes.y.count; ++j)
      convolve_line(lanes, own.asked, asked, panels + own.panels + at, nullptr, plain, to, j);
  });
}

// What a thread works in: gradients before and behind a link, the first link's images, lines.
struct Desk {
  float *given, *asked, *x, *lines;
};

inline void backward_link(const Backward& own, const Desk& desk, int64_t k, const float* in,
                          float* sums) {
  const StriateLink& link = own.chain.link[k];
  const Place& place = own.places.link[k];
  const bool linear = is_linear(link.conv), back = k || own.dx;
  if (link.dweight && linear)
    sum_linear(link.conv, in, desk.asked, desk.lines, sums);
  else if (link.dweight)
    sum_products(place.lanes, place.in, in, place.asked, desk.asked, sums);
  if (back && linear)
    backward_linear(link.conv, link.weight, desk.asked, desk.given);
  else if (back)
    backward_input(link.conv, place, desk.asked, own.panels, desk.given);
}

// Given the gradient to all answers of a block in desk.given, laid out without borders.
inline void backward_block(const Backward& own, const Desk& desk, const float* kept, float* sums) {
  for (int64_t k = own.chain.links - 1; k >= 0; --k) {
    const StriateLink& link = own.chain.link[k];
    const Place& place = own.places.link[k];
    const Map given{place.out.c, place.out.h, place.out.w, 0, place.out.w};
    float* sum = sums + place.sums;
    give_back({link, place.mid, place.out, kept + place.at_mid, kept + place.at_out, desk.given,
               given, place.asked, desk.asked, sum + sum_floats(link.conv)});
    backward_link(own, desk, k, k ? kept + own.places.link[k - 1].at_out : desk.x, sum);
  }
}

// A copy of sums belongs to every `copies`-th block, always the same.
inline void backward_part(void* context, int64_t copy, int) {
  auto& own = *static_cast<Backward*>(context);
  const Places& places = own.places;
  const Place &first = places.link[0], &last = places.link[own.chain.links - 1];
  const int64_t room = places.largest_in + places.largest_asked + first.in.floats();
  const int64_t lines = places.largest_in + LANES * LANES;  // whole vectors of a linear layer's x
  Desk desk{striate::scratch(0, room + lines), nullptr, nullptr, nullptr};
  if (!desk.given) {
    own.failed = true;
    return;
  }
  desk.asked = desk.given + places.largest_in;
  desk.x = desk.asked + places.largest_asked;
  desk.lines = desk.given + room;
  float* sums = own.sums + copy * places.sums;
  std::memset(sums, 0, static_cast<size_t>(places.sums) * 4);
  const Map answers{last.out.c, last.out.h, last.out.w, 0, last.out.w};
  const Map inputs{first.in.c, first.in.h, first.in.w, 0, first.in.w};
  for (int64_t part = copy; part < blocks(own.chain); part += own.copies) {
    into_lanes(block_of(own.chain, own.chain.stride_x, part), own.x, first.in, desk.x);
    const Images images = block_of(own.chain, own.chain.stride_dy, part);
    into_lanes(images, own.dy, answers, desk.given);
    backward_block(own, desk, own.kept + part * places.kept, sums);
    if (own.dx) out_of_lanes(images, inputs, desk.given, own.dx);
  }
}

INLINE float total(Vector value) {
  float sum = 0;
  for (int64_t lane = 0; lane < LANES; ++lane) sum += value[lane];
  return sum;
}

// Sums of all copies, of rows of a matrix.
inline void add_up_linear(const Backward& own, int64_t at, const StriateConv& g, float* to) {
  const int64_t wide = up(g.c, LANES);
  for (int64_t o = 0; to && o < g.o; ++o)
    for (int64_t c = 0; c < g.c; ++c) {
      float sum = 0;
      for (int64_t copy = 0; copy < own.copies; ++copy)
        sum += own.sums[copy * own.places.sums + at + o * wide + c];
      to[o * g.c + c] = sum;
    }
}

// Sums of all copies and lanes.
inline void add_up(const Backward& own, int64_t at, int64_t count, float* to) {
  for (int64_t k = 0; to && k < count; ++k) {
    Vector sum{};
    for (int64_t copy = 0; copy < own.copies; ++copy)
      sum += load(own.sums + copy * own.places.sums + at + k * LANES);
    to[k] = total(sum);
  }
}

inline int chain_backward(const StriateChain& chain, const float* x, const float* dy,
                          const float* kept, float* dx) {
  if (chain.links > LINKS) return STRIATE_NOT_KNOWN;
  const Places places(chain, dx != nullptr);
  const int64_t copies = least(blocks(chain), chain.threads);
  float* panels = striate::scratch(2, places.panels);
  float* sums = striate::scratch(3, copies * places.sums + LANES);
  if (!panels || !sums) return STRIATE_NO_MEMORY;
  for (int64_t k = dx ? 0 : 1; k < chain.links; ++k) {
    const StriateLink& link = chain.link[k];
    if (is_linear(link.conv)) continue;
    phases(link.conv, [&](const Lanes& lanes, int64_t at) {
      pack(lanes, link.conv, link.weight, true, panels + places.link[k].panels + at);
    });
  }
  Backward own{chain, places, x, dy, kept, panels, dx, sums, copies, false};
  striate::parallel(copies, static_cast<int>(chain.threads), backward_part, &own);
  if (own.failed) return STRIATE_NO_MEMORY;
  for (int64_t k = 0; k < chain.links; ++k) {
    const StriateLink& link = chain.link[k];
    const int64_t at = places.link[k].sums;
    if (is_linear(link.conv))
      add_up_linear(own, at, link.conv, link.dweight);
    else
      add_up(own, at, kernel_floats(link.conv), link.dweight);
    add_up(own, at + sum_floats(link.conv), link.conv.o, link.dbias);
  }
  return STRIATE_DONE;
}

}  // namespace LEVEL::images
