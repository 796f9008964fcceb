#include "base/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <exception>

namespace qvlm {

void set_thread_count(int threads) {
  omp_set_num_threads(threads > 0 ? threads : omp_get_num_procs());
}

int thread_count() {
  return omp_get_max_threads();
}

void for_ranges(std::int64_t n,
                std::int64_t grain,
                const std::function<void(std::int64_t, std::int64_t)>& fn) {
  const std::int64_t step = std::max<std::int64_t>(grain, 1);
  const std::int64_t ranges = (n + step - 1) / step;
  if (ranges <= 1 || thread_count() == 1 || omp_in_parallel()) {
    if (n > 0) fn(0, n);
    return;
  }
  std::exception_ptr first;
  std::atomic<bool> failed = false;
#pragma omp parallel for schedule(dynamic, 1)
  for (std::int64_t range = 0; range < ranges; ++range) {
    if (failed) continue;  // OpenMP loops cannot be left early
    try {
      fn(range * step, std::min(n, (range + 1) * step));
    } catch (...) {
      failed = true;
#pragma omp critical(qvlm_for_ranges)
      if (!first) first = std::current_exception();
    }
  }
  if (first) std::rethrow_exception(first);
}

void for_each_apart(std::int64_t n, const std::function<void(std::int64_t)>& fn) {
  // At least two ranges: a single one would run outside the pool.
  for_ranges(std::max<std::int64_t>(n, 2), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < std::min(end, n); ++i)
      fn(i);
  });
}

}  // namespace qvlm
