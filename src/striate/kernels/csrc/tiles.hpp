// Tiles of pictures, cut out, transformed and put back: what both orders of work in winograd.hpp
// are made of.
#pragma once

#include "finish.hpp"
#include "plan.hpp"

namespace LEVEL {

struct Place {
  int64_t image, y, x;  // of a tile's first output
};

// Call each(t, place, rows, columns) for the tiles of a batch; how many outputs a tile has are
// numbers known when compiled.
template <typename T, typename Each>
INLINE void each_tile(const Plan<T>& plan, const Batch& all, Each each) {
  for (int64_t t = 0; t < all.count; ++t) {
    const int64_t tile = all.first + t;
    const Region* region = plan.regions + 3;
    while (tile < all.images * region->before) --region;
    const int64_t of_image = region->tall * region->wide, in = tile - all.images * region->before;
    const int64_t at = in % of_image;
    const Place place{all.image + in / of_image, region->y + at / region->wide * T::HIGH,
                      region->x + at % region->wide * T::M};
    with_number<T::HIGH>(region->rows, [&](auto rows) INLINE_LAMBDA {
      with_number<T::M>(region->columns,
                        [&](auto columns) INLINE_LAMBDA { each(t, place, rows, columns); });
    });
  }
}

// Pixels of LANES channels from `c`, the first of which is (y, x); zeros around the image.
struct Pixels {
  const float* image;
  int64_t h, w, channels, y, x, step, c;

  INLINE int64_t left() const { return least(channels - c, LANES); }

  INLINE const float* at(int i, int j) const {
    return image + ((y + i * step) * w + x + j * step) * channels + c;
  }

  // Whether Tall x Wide of them lie in the image, and have all channels.
  template <int Tall, int Wide>
  INLINE bool within() const {
    return y >= 0 && x >= 0 && y + (Tall - 1) * step < h && x + (Wide - 1) * step < w &&
           left() == LANES;
  }

  // Those at the border, or of the last channels: zeros where there is nothing.
  template <int Tall, int Wide>
  INLINE void gather(Vector (*square)[6]) const {
    const int64_t some = left();
    for (int i = 0; i < Tall; ++i) {
      const int64_t row = y + i * step;
      for (int j = 0; j < Wide; ++j) {
        const int64_t column = x + j * step;
        const bool there = row >= 0 && row < h && column >= 0 && column < w;
        square[i][j] = there ? get(at(i, j), some) : Vector{};
      }
    }
  }
};

// Take a step from pixels; see Tile::both. Tiles that are not `whole` lie at the border.
template <typename T, typename Down, typename Across, bool Whole, typename Take>
INLINE void transform_pixels(const Pixels& from, Take take) {
  constexpr int TALL = T::TALL == 1 ? 1 : Down::FROM;
  if (Whole && from.within<TALL, Across::FROM>()) {
    T::template both<Down, Across>(
        [&](int i, int j) INLINE_LAMBDA { return load(from.at(i, j)); }, take);
    return;
  }
  Vector square[TALL][6];
  from.gather<TALL, Across::FROM>(square);
  T::template both<Down, Across>([&](int i, int j) INLINE_LAMBDA { return square[i][j]; }, take);
}

// The first pixel that a tile reads of source z; the next ones are `STEP` apart, or neighbours of
// what is scattered.
template <typename T>
INLINE Place source_at(const Plan<T>& plan, const Place& at, int64_t z) {
  const StriateConv& g = plan.g;
  if (plan.scattered()) {
    const int64_t y = T::TALL > 1 ? at.y + (g.pad[1] + 1) / 2 - 1 : at.y;
    return {at.image, y, at.x + (g.pad[2] + 1) / 2 - 1};
  }
  const int64_t y = T::TALL > 1 ? T::STEP * at.y + T::down(z) : at.y;
  return {at.image, y - g.pad[1], T::STEP * at.x + T::across(z) - g.pad[2]};
}

// The first pixel that it writes of target z.
template <typename T>
INLINE Place target_at(const Plan<T>& plan, const Place& at, int64_t z) {
  if (!plan.scattered()) return at;
  const int64_t y = T::TALL > 1 ? T::STEP * at.y + (T::down(z) + plan.g.pad[1]) % 2 : at.y;
  return {at.image, y, T::STEP * at.x + (T::across(z) + plan.g.pad[2]) % 2};
}

// Bt d B of a batch of tiles of source z: to[point][tile][channel], points `spacing` apart
template <typename T>
void transform_input(const Plan<T>& plan, const float* x, int64_t z, const Batch& all, float* to,
                     int64_t spacing) {
  const StriateConv& g = plan.g;
  const int64_t step = plan.scattered() ? 1 : T::STEP;
  const auto each = [&](int64_t t, const Place& at, auto rows, auto columns) INLINE_LAMBDA {
    using Down = typename T::template Down<rows.VALUE>;
    using Across = typename T::template Across<columns.VALUE>;
    const int64_t plane = at.image * g.size[0] + (T::STEP == 1 ? z : 0);
    const float* image = x + plane * g.size[1] * g.size[2] * g.c;
    const Place from = source_at(plan, at, z);
    for (int64_t c = 0; c < g.c; c += LANES)
      transform_pixels<T, typename Down::Input, typename Across::Input,
                       T::whole(rows.VALUE, columns.VALUE)>(
          {image, g.size[1], g.size[2], g.c, from.y, from.x, step, c},
          [&](int y, const Vector* line) INLINE_LAMBDA {
            T::template put_points<Down::SIDE, Across::SIDE>(to + t * plan.channels + c, spacing, y,
                                                             line);
          });
  };
  each_tile(plan, all, each);
}

// Some outputs: `count` of them, in whole vectors but for the last, from `first`.
struct Outputs {
  int64_t first, count;
  int64_t wide() const { return up(count, LANES); }
};

// A dY At of a batch of tiles of plane z: to[point][tile][output]
template <typename T>
void transform_gradient(const Plan<T>& plan, const float* dy, int64_t z, const Batch& all,
                        Outputs some, float* to) {
  const StriateConv& g = plan.g;
  const int64_t spacing = plan.spacing(all.count, some.wide());
  const auto each = [&](int64_t t, const Place& at, auto rows, auto columns) INLINE_LAMBDA {
    using Down = typename T::template Down<rows.VALUE>;
    using Across = typename T::template Across<columns.VALUE>;
    const float* plane = dy + (at.image * g.out[0] + z) * g.out[1] * g.out[2] * g.o;
    for (int64_t o = 0; o < some.count; o += LANES)
      transform_pixels<T, typename Down::OutputBackward, typename Across::OutputBackward,
                       T::whole(rows.VALUE, columns.VALUE)>(
          {plane, g.out[1], g.out[2], g.o, at.y, at.x, 1, some.first + o},
          [&](int y, const Vector* line) INLINE_LAMBDA {
            T::template put_points<Down::SIDE, Across::SIDE>(to + t * some.wide() + o, spacing, y,
                                                             line);
          });
  };
  each_tile(plan, all, each);
}

// Where a tile's answers go: the first of them and the distances of the next ones in y.
template <typename T>
struct Target {
  const StriateConv& g;
  int64_t y, x, step;           // of the first answer in its plane; to the next one
  int64_t plane, tall, wide;    // the first number of the plane in y, and how large it is

  Target(const Plan<T>& plan, const Place& at, int64_t z)
      : g(plan.g), step(plan.scattered() ? T::STEP : 1) {
    const Place to = target_at(plan, at, z);
    y = to.y;
    x = to.x;
    tall = plan.halved ? g.out[1] / 2 : g.out[1];
    wide = plan.halved ? g.out[2] / 2 : g.out[2];
    plane = (at.image * g.out[0] + (T::STEP == 1 ? z : 0)) * tall * wide * g.o;
  }

  // Whether there are all of Rows x Columns answers.
  template <int Rows, int Columns>
  INLINE bool within() const {
    return y >= 0 && x >= 0 && y + (Rows - 1) * step < tall && x + (Columns - 1) * step < wide;
  }

  INLINE int64_t at(int64_t row, int64_t column) const {
    return plane + (row * wide + column) * g.o;
  }

  // Call put(place in y, i, j) of those of Rows x Columns answers that there are, the first one at
  // (first_row, first_column) of the plane.
  template <int Rows, int Columns, typename Put>
  INLINE void each(int64_t first_row, int64_t first_column, Put put) const {
    for (int i = 0; i < Rows; ++i) {
      const int64_t row = first_row + i * step;
      if (row < 0 || row >= tall) continue;
      for (int j = 0; j < Columns; ++j) {
        const int64_t column = first_column + j * step;
        if (column >= 0 && column < wide) put(at(row, column), i, j);
      }
    }
  }
};

// What is not stored as it comes: the largest of 2 x 2, SiLU, answers at a border, last channels.
template <typename T, int Rows, int Columns>
INLINE void finish_square(const Target<T>& to, Vector (*square)[Columns], int64_t o, int64_t left,
                          const Finish& finish) {
  if constexpr (T::HIGH == T::M && T::STEP == 1 && Rows % 2 == 0 && Columns % 2 == 0)
    if (finish.halved) {
      constexpr int TALL = Rows / 2, WIDE = Columns / 2;
      Vector values[TALL * WIDE];
      Places places[TALL * WIDE];
      for (int i = 0; i < TALL; ++i)
        for (int j = 0; j < WIDE; ++j) {
          const Vector *above = square[2 * i] + 2 * j, *below = square[2 * i + 1] + 2 * j;
          const Largest found = largest(above[0], above[1], below[0], below[1]);
          values[i * WIDE + j] = found.value;
          places[i * WIDE + j] = found.place;
        }
      finish.template finish<TALL * WIDE>(values, o, left);
      to.template each<TALL, WIDE>(to.y / 2, to.x / 2, [&](int64_t at, int i, int j) INLINE_LAMBDA {
        put(finish.y + at + o, values[i * WIDE + j], left);
        if (finish.place) put_places(finish.place + at + o, places[i * WIDE + j], left);
      });
      return;
    }
  if (finish.curved) {
    finish.template finish<Rows * Columns>(&square[0][0], o, left);
    to.template each<Rows, Columns>(to.y, to.x, [&](int64_t at, int i, int j) INLINE_LAMBDA {
      put(finish.y + at + o, square[i][j], left);
    });
    return;
  }
  const Vector bias = finish.bias_of(o, left);
  to.template each<Rows, Columns>(to.y, to.x, [&](int64_t at, int i, int j) INLINE_LAMBDA {
    finish.put_at(at + o, square[i][j] + bias, left);
  });
}

// At m A of a batch of tiles into target z of the images.
template <typename T>
void transform_output(const Plan<T>& plan, const float* from, int64_t z, const Batch& all,
                      Outputs some, const Finish finish) {
  const int64_t spacing = plan.spacing(all.count, some.wide());
  const auto each = [&](int64_t t, const Place& at, auto rows, auto columns) INLINE_LAMBDA {
    using Down = typename T::template Down<rows.VALUE>;
    using Across = typename T::template Across<columns.VALUE>;
    constexpr int ROWS = rows.VALUE, COLUMNS = columns.VALUE;
    const Target<T> to(plan, at, z);
    const bool straight =
        to.template within<ROWS, COLUMNS>() && !finish.halved && !finish.curved;
    const int64_t across = to.step * plan.g.o, down = across * to.wide;
    for (int64_t o = 0; o < some.count; o += LANES) {
      const int64_t left = least(some.count - o, LANES);
      const float* point = from + t * some.wide() + o;
      const int64_t apart = anew(spacing), below = T::SIDE * apart;
      const auto give = [&](int i, int j) INLINE_LAMBDA {
        return load(point + T::point(i, Down::SIDE) * below + T::point(j, Across::SIDE) * apart);
      };
      if (straight && left == LANES) {
        const Vector bias = finish.bias_of(some.first + o, LANES);
        const int64_t corner = to.at(to.y, to.x) + some.first + o;
        T::template both<typename Down::Output, typename Across::Output>(
            give, [&](int i, const Vector* line) INLINE_LAMBDA {
#pragma GCC unroll 4
              for (int j = 0; j < COLUMNS; ++j)
                finish.put_at(corner + i * down + j * across, line[j] + bias, LANES);
            });
        continue;
      }
      Vector square[ROWS][COLUMNS];
      T::template both<typename Down::Output, typename Across::Output>(
          give, [&](int i, const Vector* line) INLINE_LAMBDA {
#pragma GCC unroll 4
            for (int j = 0; j < COLUMNS; ++j) square[i][j] = line[j];
          });
      finish_square<T, ROWS, COLUMNS>(to, square, some.first + o, left, finish);
    }
  };
  each_tile(plan, all, each);
}

}  // namespace LEVEL
