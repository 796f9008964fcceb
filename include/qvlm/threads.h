// How many threads qvlm computes on. They are OpenMP's, one pool for the whole process that
// LibTorch uses too; at first as many as OMP_NUM_THREADS says, or all cores.
#pragma once

namespace qvlm {

// Sets how many threads the calls that follow on the calling thread compute on; 0: all cores. Other
// threads keep theirs: a server whose workers each answer requests lets each set 1.
void set_thread_count(int threads);
// The same as a question. At least 1.
int thread_count();

}  // namespace qvlm
