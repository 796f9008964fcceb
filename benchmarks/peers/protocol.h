// What a worker process says and understands; compare.py is the other side.
//
// A worker prints one line of JSON when it is ready, and one per request line on stdin:
//   measure KERNEL M K N SECONDS ROTATED_BYTES   {"seconds": [per product, ...], "copies": ..,
//   "bytes": ..}
//                                                or {"absent": "reason"}
//   forget                                       {}; drops the weights kept from earlier requests
// KERNEL's weights are made at its first request. They are copied until ROTATED_BYTES are full, and
// each timed pass multiplies with every copy once; "bytes" is the size of one copy as the program
// stores it.
#pragma once

#include <chrono>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace qvlm::bench {

struct Request {
  std::string verb, kernel;
  long rows = 0, in = 0, out = 0;
  double seconds = 0;
  std::size_t rotated = 0;
};

inline bool read_request(Request& request) {
  std::string line;
  if (!std::getline(std::cin, line)) return false;
  request = {};
  std::istringstream(line) >> request.verb >> request.kernel >> request.rows >> request.in >>
      request.out >> request.seconds >> request.rotated;
  return true;
}

inline void answer_absent(const std::string& reason) {
  std::cout << R"({"absent": ")" << reason << "\"}" << std::endl;
}

// Calls run() `copies` times a pass, one pass untimed, then until the time is spent.
template <typename Run>
void answer_times(const Request& request, std::size_t copies, std::size_t bytes, Run&& run) {
  const auto pass = [&] {
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t i = 0; i < copies; ++i)
      run();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  pass();
  std::cout << R"({"copies": )" << copies << R"(, "bytes": )" << bytes << R"(, "seconds": [)";
  double spent = 0;
  for (int passes = 0; passes < 2 || (spent < request.seconds && passes < 1000); ++passes) {
    const double seconds = pass();
    spent += seconds;
    std::cout << (passes == 0 ? "" : ", ") << seconds / static_cast<double>(copies);
  }
  std::cout << "]}" << std::endl;
}

}  // namespace qvlm::bench
