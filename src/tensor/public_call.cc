#include "tensor/public_call.h"

#include <string>

#include "base/parallel.h"

namespace qvlm {
namespace {

// MKL's vector functions look for the processor when one of them is called first. Two threads that
// do so at once can get values of another precision: one run in fifty was not the bytes of the
// others. So the first call is made alone.
bool start_vector_functions() {
  return at::exp(at::zeros({64})).defined();
}

}  // namespace

void start_libtorch() {
  // The first parallel loop of a thread would set its number of threads to what MKL thinks right.
  const int threads = thread_count();
  at::get_num_threads();
  if (thread_count() != threads) set_thread_count(threads);
  [[maybe_unused]] static const bool started = start_vector_functions();
}

void fail_for(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  // "DefaultCPUAllocator: can't allocate memory: you tried to allocate ... bytes."
  const bool memory = text.find("allocate memory") != std::string::npos ||
                      text.find("not enough memory") != std::string::npos;
  if (memory) fail(ErrorKind::kResource, "out of memory: ", text);
  fail(ErrorKind::kInternal, text);
}

}  // namespace qvlm
