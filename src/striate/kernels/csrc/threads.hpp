// A few large parallel regions: one an operator; and what a core has of its own to work in.
#pragma once

#include <cstdint>

namespace striate {

using Work = void (*)(void* context, int64_t part, int thread);

// Call work(context, part, thread) for every part in 0 .. parts - 1, on up to `threads` threads.
//
// Threads take the next part when they are free, so that one which another process keeps from its
// core holds up no more than the part in its hands. `thread` is below `threads`; the caller is 0.
// A region inside a region runs on its own thread alone.
void parallel(int64_t parts, int threads, Work work, void* context);

// Memory of the calling thread that lasts until it asks for more: at least `floats` floats,
// 64-byte aligned, with no promise on what they hold. `slot` tells several such apart. Null where
// there is no memory.
float* scratch(int slot, int64_t floats);

constexpr int SLOTS = 4;

// Floats in a core's second-level cache; as in 512 KiB where the system does not say.
int64_t cached_floats();

}  // namespace striate
