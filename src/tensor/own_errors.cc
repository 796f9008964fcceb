#include "tensor/own_errors.h"

#include <string>

namespace qvlm {

void fail_for(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  // "DefaultCPUAllocator: can't allocate memory: you tried to allocate ... bytes."
  const bool memory = text.find("allocate memory") != std::string::npos ||
                      text.find("not enough memory") != std::string::npos;
  if (memory) fail(ErrorKind::kResource, "out of memory: ", text);
  fail(ErrorKind::kInternal, text);
}

}  // namespace qvlm
