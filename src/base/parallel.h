// Work split over the threads of qvlm/threads.h: one OpenMP pool for the whole process, the same
// one LibTorch uses, so that two pools never compete for the cores.
#pragma once

#include <qvlm/threads.h>

#include <cstdint>
#include <functional>

namespace qvlm {

// Calls fn(begin, end) for ranges that cover [0, n), each of at least `grain` elements but the
// last, on the pool; returns when all are done. Inside fn further calls (and LibTorch's own loops)
// run serially. The first exception thrown by fn is thrown again here; ranges not
// begun by then are left out.
void for_ranges(std::int64_t n,
                std::int64_t grain,
                const std::function<void(std::int64_t, std::int64_t)>& fn);

// Calls fn(i) for every i in [0, n), each on one thread, even when n is 1: what LibTorch computes
// inside is not split by the number of threads, so it does not depend on it.
void for_each_apart(std::int64_t n, const std::function<void(std::int64_t)>& fn);

}  // namespace qvlm
