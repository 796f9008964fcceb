// qvlm::kernels as one of the programs that compare.py runs; it also measures the peaks:
//   peaks 0 0 0 0 0 BYTES   {"int8": .., "bf16": .., "read": ..}, each per second
#include <map>
#include <memory>

#include "../peaks.h"
#include "../product.h"
#include "protocol.h"

namespace {

using namespace qvlm::bench;

void say_hello(int threads) {
  std::cout << R"({"program": "qvlm::kernels", "version": ")"
            << qvlm::kernels::cpu_level_name(qvlm::kernels::cpu_level())
            << R"(", "streaming_size": )" << streaming_size() << R"(, "threads": )" << threads
            << R"(, "kernels": [)";
  const char* comma = "";
  for (const Format& format : formats()) {
    std::cout << comma << '"' << format.name << '"';
    comma = ", ";
  }
  std::cout << "]}" << std::endl;
}

void answer_peaks(const Request& request, int threads) {
  const Peaks peaks = measure_peaks(threads, request.rotated);
  std::cout << R"({"int8": )" << peaks.int8_ops << R"(, "int8_name": ")" << peaks.int8_name
            << R"(", "bf16": )" << peaks.bf16_ops << R"(, "bf16_name": ")" << peaks.bf16_name
            << R"(", "read": )" << peaks.read_bytes << "}" << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::stoi(argv[1]) : 1;
  say_hello(threads);
  std::map<std::string, RotatedWeights> kept;  // by kernel, shape and rotation
  for (Request request; read_request(request);) {
    if (request.verb == "forget") {
      kept.clear();
      std::cout << "{}" << std::endl;
      continue;
    }
    if (request.verb == "peaks") {
      answer_peaks(request, threads);
      continue;
    }
    const Format* format = find_format(request.kernel);
    if (format == nullptr) {
      answer_absent("no such kernel");
      continue;
    }
    const std::string key = request.kernel + " " + std::to_string(request.in) + " " +
                            std::to_string(request.out) + " " + std::to_string(request.rotated);
    const RotatedWeights& weights =
        kept.try_emplace(key, *format, request.in, request.out, request.rotated).first->second;
    Product product(weights, request.rows, threads, weights.copies.size());
    answer_times(request, weights.copies.size(), weights.bytes(), [&] { product.run(); });
  }
}
