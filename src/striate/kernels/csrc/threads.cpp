#include "threads.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <vector>

namespace striate {
namespace {

struct Region {
  Work work = nullptr;
  void* context = nullptr;
  int64_t parts = 0;
  int helpers = 0;                // how many may join
  std::atomic<int64_t> next{0};   // the part to be taken next
};

thread_local bool inside = false;

void take(Region& region, int thread) {
  inside = true;
  for (;;) {
    const int64_t part = region.next.fetch_add(1, std::memory_order_relaxed);
    if (part >= region.parts) break;
    region.work(region.context, part, thread);
  }
  inside = false;
}

// The threads of OpenMP that PyTorch has, if they are the GNU library's or known by its names:
// every thread of a team is given the region. They wait awake for a while, and threads of ours
// beside them would wait for their cores.
using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);

Parallel openmp() {
  static const auto found = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return found;
}

struct Team {
  Region& region;
  std::atomic<int> joined{0};
};

void join(void* context) {
  Team& team = *static_cast<Team*>(context);
  take(team.region, team.joined.fetch_add(1, std::memory_order_relaxed));
}

// Where there is no OpenMP, threads of ours. They sleep between regions.
class Pool {
 public:
  void run(Region& region) {
    std::unique_lock<std::mutex> turn(turn_);  // one region at a time
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (static_cast<int>(helpers_) < region.helpers) start();
      region_ = &region;
      joined_ = busy_ = 0;
      ++number_;
    }
    wake_.notify_all();
    take(region, 0);
    std::unique_lock<std::mutex> lock(mutex_);
    region_ = nullptr;  // nobody joins any more
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void start() {
    ++helpers_;
    std::thread([this] { help(); }).detach();
  }

  void help() {
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return number_ != seen; });
      seen = number_;
      Region* region = region_;
      if (region == nullptr || joined_ >= region->helpers) continue;
      const int thread = ++joined_;
      ++busy_;
      lock.unlock();
      take(*region, thread);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex turn_, mutex_;
  std::condition_variable wake_, done_;
  Region* region_ = nullptr;
  uint64_t number_ = 0;
  int helpers_ = 0, joined_ = 0, busy_ = 0;
};

// Threads do not live on in a forked child, such as a worker of a data loader: it starts anew. The
// old pool is left as it lies, for its locks may be held by threads that are no more. OpenMP does
// not know that it lost its own ones, and would wait for them.
Pool* pool = nullptr;
bool forked = false;
std::once_flag once;

void renew() { pool = new Pool; }

[[maybe_unused]] const int watched = pthread_atfork(nullptr, nullptr, [] {
  forked = true;
  renew();
});

Pool& the_pool() {
  std::call_once(once, [] {
    if (!pool) renew();
  });
  return *pool;
}

struct Block {
  float* data = nullptr;
  int64_t floats = 0;
  ~Block() { std::free(data); }
};

}  // namespace

void parallel(int64_t parts, int threads, Work work, void* context) {
  if (parts < threads) threads = static_cast<int>(parts);
  if (threads <= 1 || inside) {
    const bool before = inside;
    inside = true;
    for (int64_t part = 0; part < parts; ++part) work(context, part, 0);
    inside = before;
    return;
  }
  Region region;
  region.work = work;
  region.context = context;
  region.parts = parts;
  region.helpers = threads - 1;
  if (const Parallel run = forked ? nullptr : openmp()) {
    Team team{region};
    run(join, &team, static_cast<unsigned>(threads), 0);
  } else {
    the_pool().run(region);
  }
}

float* scratch(int slot, int64_t floats) {
  thread_local Block blocks[SLOTS];
  Block& block = blocks[slot];
  if (floats < 1) floats = 1;  // nothing is not "no memory"
  if (block.floats < floats) {
    std::free(block.data);
    const size_t bytes = (static_cast<size_t>(floats) * 4 + 4095) / 4096 * 4096;
    block.data = static_cast<float*>(std::aligned_alloc(4096, bytes));
    block.floats = block.data ? floats : 0;
  }
  return block.data;
}

int64_t cached_floats() {
#ifdef _SC_LEVEL2_CACHE_SIZE
  static const int64_t bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#else
  static const int64_t bytes = 0;
#endif
  return (bytes > 0 ? bytes : 512 * 1024) / 4;
}

}  // namespace striate
