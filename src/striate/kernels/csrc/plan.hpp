// How a call of Winograd's algorithm is cut into tiles, and in which order they are worked on.
#pragma once

#include "api.h"
#include "gemm.hpp"
#include "minimal.hpp"
#include "threads.hpp"

namespace LEVEL {

// Whether kernels are multiplied, or sums made of them: from which ratio of kernels to tiles on the
// order by outputs (winograd.hpp) is the faster one. Measured on a Zen 4.
constexpr int64_t FORWARD = 2, WEIGHT = 4;

// Tiles that are worked on at once: `count` from `first` of those of some images, which lie region
// by region.
struct Batch {
  int64_t image, images, first, count;
};

// Those of a batch that have a point: neighbours.
struct Some {
  int64_t first, count;
};

// Taps of the first axis, from `first` to before `end`.
struct Taps {
  int64_t first, end;
};

// Tiles of equally many outputs: whole ones, or those at the end of lines, of columns, of both.
struct Region {
  int64_t before;                 // tiles of an image in regions before it
  int64_t tall, wide;             // tiles of a plane, down and across
  int64_t y, x;                   // the first output of a plane
  int rows, columns;              // outputs of a tile
};

// What is known of a call before its first tile.
template <typename T>
struct Plan {
  const StriateConv& g;
  bool halved;                    // of 2 x 2 outputs the largest: one over is not wanted
  Region regions[4];              // ends of lines, whole tiles, ends of columns, of both
  int64_t of_image, tiles;        // tiles of a plane, of all planes of one depth
  int64_t channels, outputs;      // rounded up to whole vectors
  int64_t sources, targets;       // planes that are read, and written: of depth, or phases
  int64_t taps, kept;             // planes that a kernel sees; of them, those that there are
  int64_t together;               // images whose tiles lie region by region
  int64_t batch;                  // tiles that are worked on at once, at most
  int64_t of_group, parts;        // of such: of images that lie together, of all
  bool by_outputs;                // the order of work: see winograd.hpp

  Plan(const StriateConv& geometry, int64_t ratio, bool halved_ = false)
      : g(geometry), halved(halved_) {
    set_regions();
    channels = up(g.c, LANES);
    outputs = up(g.o, LANES);
    sources = T::STEP == 1 ? g.size[0] : scattered() ? 1 : T::PHASES;
    targets = T::STEP == 1 ? g.out[0] : scattered() ? T::PHASES : 1;
    taps = T::STEP == 1 ? g.kernel[0] : T::PHASES;
    kept = least(taps, sources);
    // What lies between the transforms should stay in the second-level cache. But kernels are read
    // once a batch: where they are large, more tiles must share them, and more again where each
    // meets them at few points, or where they are sums, which are written besides.
    const int64_t cached =
        striate::cached_floats() * 5 / 8 / (T::POINTS * (kept * channels + outputs));
    const int64_t size = channels * outputs;
    const int64_t shared = T::STEP > 1 ? 8 * ROWS
                           : T::TALL == 1 ? (size > 256 * 256 ? 16 : 8) * ROWS
                           : ratio == WEIGHT && T::POINTS * size > striate::cached_floats()
                               ? 16 * ROWS
                           : size >= 128 * 128 ? 3 * ROWS
                                               : 2 * ROWS;
    batch = cached < shared ? shared : cached > 8 * ROWS ? 8 * ROWS : cached / ROWS * ROWS;
    const int64_t each = (tiles + g.threads - 1) / g.threads;  // nobody stands idle
    if (batch > each) batch = each > 0 ? each : 1;
    // Few tiles and many kernels: transform tiles once, and kernels where they are used.
    by_outputs =
        ratio * taps * channels * outputs > tiles * (sources * channels + targets * outputs) &&
        T::POINTS * sources * tiles * channels <= 8 * 1024 * 1024;
    set_parts();
  }

  // Images whose tiles differ are whole in a batch where several fit in: each is read once.
  void set_parts() {
    bool alike = by_outputs;
    for (const Region& region : regions) alike |= region.tall * region.wide == of_image;
    together = alike ? g.n : (batch + of_image / 2) / of_image;
    if (together < 1) together = 1;
    // So that at each point there are whole blocks of rows, or halves, of few images too.
    if (!alike && together > ROWS / 2) together -= together % (ROWS / 2);
    const int64_t all = together * of_image;
    of_group = (all + (alike ? batch - 1 : batch * 3 / 4)) / batch;  // a quarter more may be one
    if (of_group < 1) of_group = 1;
    if (!alike) batch = up((all + of_group - 1) / of_group, ROWS);
    parts = (g.n + together - 1) / together * of_group;
  }

  Batch batch_of(int64_t part) const {
    const int64_t image = part / of_group * together, images = least(together, g.n - image);
    const int64_t first = part % of_group * batch, left = images * of_image - first;
    return {image, images, first, left > 0 ? least(batch, left) : 0};
  }

  // All tiles; of what is ordered by outputs.
  Batch whole() const { return {0, g.n, 0, tiles}; }

  void set_regions() {
    const int64_t tall = positions(1) / T::HIGH, wide = positions(2) / T::M;
    const int rows = static_cast<int>(positions(1) % T::HIGH);
    const int columns = static_cast<int>(positions(2) % T::M);
    const int64_t y = tall * T::HIGH, x = wide * T::M;
    regions[0] = {0, tall, columns > 0, 0, x, T::HIGH, columns};
    regions[1] = {0, tall, wide, 0, 0, T::HIGH, T::M};
    regions[2] = {0, rows > 0, wide, y, 0, rows, T::M};
    regions[3] = {0, rows > 0, columns > 0, y, x, rows, columns};
    of_image = 0;
    for (Region& region : regions) {
      region.before = of_image;
      of_image += region.tall * region.wide;
    }
    tiles = g.n * of_image;
  }

  Some with_point(int64_t f, const Batch& all) const {
    const bool below = T::TALL == 1 || T::has(f / T::SIDE, regions[3].rows);
    const bool right = T::has(f % T::SIDE, regions[3].columns);
    const int64_t begin = all.images * (right ? 0 : regions[1].before) - all.first;
    const int64_t end = all.images * (!below  ? regions[2].before
                                      : right ? of_image
                                              : regions[3].before) - all.first;
    const int64_t from = begin > 0 ? least(begin, all.count) : 0;
    const int64_t to = end > 0 ? least(end, all.count) : 0;
    return {from, to > from ? to - from : 0};
  }

  // Whether it is the gradient to an input that was read in steps: each phase of it is an answer.
  bool scattered() const { return T::STEP != 1 && g.turned; }

  // Places of outputs along an axis, of each phase where there are several.
  int64_t positions(int axis) const {
    const bool stepped = scattered() && (axis == 2 || T::TALL > 1);
    return stepped ? (g.out[axis] + 1) / 2 : halved ? g.out[axis] / 2 * 2 : g.out[axis];
  }

  // Whether the single tap of an odd phase stands in the second place, and not in the first one: of
  // answers that are scattered, where their first is of an even phase.
  bool late(int axis) const { return scattered() && g.pad[axis] % 2 == 0; }

  // Whether tap k is anything at a point: single ones are 0 at infinity, or at 0.
  bool meets(int64_t k, int64_t point) const {
    if (T::STEP == 1) return true;
    const int64_t rest = T::SIDE - 1, row = point / T::SIDE, column = point % T::SIDE;
    return !(T::down(k) && row == (late(1) ? 0 : rest)) &&
           !(T::across(k) && column == (late(2) ? 0 : rest));
  }

  // Distance of two points in what `count` tiles give; odd in lines, lest all of them fall into
  // the same few places of the cache.
  static int64_t spacing(int64_t count, int64_t channels) { return count * channels + 16; }

  // The source that tap k sees from target z.
  int64_t source_of(int64_t z, int64_t k) const {
    return T::STEP == 1 ? z + k - g.pad[0] : scattered() ? 0 : k;
  }

  // Those of a kernel's taps that see a source from target z.
  Taps taps_of(int64_t z) const {
    if (T::STEP != 1) return scattered() ? Taps{z, z + 1} : Taps{0, taps};
    const int64_t first = g.pad[0] > z ? g.pad[0] - z : 0;
    const int64_t end = least(taps, g.size[0] + g.pad[0] - z);
    return {least(first, taps), end > first ? end : least(first, taps)};
  }

  // The first target from which tap k sees something; the number of them where none does.
  int64_t first_of(int64_t k) const {
    if (T::STEP != 1) return 0;
    const int64_t z = g.pad[0] > k ? g.pad[0] - k : 0;
    return z < g.out[0] && z + k - g.pad[0] < g.size[0] ? z : g.out[0];
  }
};

}  // namespace LEVEL
