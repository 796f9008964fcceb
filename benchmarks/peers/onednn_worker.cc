// oneDNN's matmul as one of the programs that compare.py runs. Weights are reordered once to the
// layout that the primitive asks for; quantizing the activations is not included.
#include <oneapi/dnnl/dnnl.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "protocol.h"

namespace {

using namespace qvlm::bench;
using Type = dnnl::memory::data_type;
using Tag = dnnl::memory::format_tag;

struct Kernel {
  const char* name;
  Type input, weights, output;
};
constexpr Kernel kKernels[] = {{"u8s8", Type::u8, Type::s8, Type::f32},
                               {"bf16", Type::bf16, Type::bf16, Type::bf16}};

class Product {
 public:
  Product(const dnnl::engine& engine, const Kernel& kernel, const Request& request)
      : stream_(engine),
        input_({{request.rows, request.in}, kernel.input, Tag::ab}, engine),
        output_({{request.rows, request.out}, kernel.output, Tag::ab}, engine) {
    const dnnl::memory::desc any({request.in, request.out}, kernel.weights, Tag::any);
    dnnl::primitive_attr attributes;
    if (kernel.weights == Type::s8) {  // activation scale x weight scale, per output channel
      attributes.set_output_scales(2, std::vector<float>(request.out, 0.01f));
    }
    const dnnl::matmul::primitive_desc description({input_.get_desc(), any, output_.get_desc()},
                                                   attributes, engine);
    matmul_ = dnnl::matmul(description);
    const dnnl::memory::desc packed = description.weights_desc();
    copies_.push_back(pack(engine, kernel, request, packed));
    while (copies_.size() * packed.get_size() < request.rotated) {
      copies_.emplace_back(packed, engine);
      std::copy_n(static_cast<const char*>(copies_.front().get_data_handle()), packed.get_size(),
                  static_cast<char*>(copies_.back().get_data_handle()));
    }
  }

  std::size_t copies() const { return copies_.size(); }
  std::size_t bytes() const { return copies_.front().get_desc().get_size(); }

  void run() {
    dnnl::memory& weights = copies_[next_++ % copies_.size()];
    matmul_.execute(stream_,
                    {{DNNL_ARG_SRC, input_}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, output_}});
    stream_.wait();
  }

 private:
  dnnl::memory pack(const dnnl::engine& engine,
                    const Kernel& kernel,
                    const Request& request,
                    const dnnl::memory::desc& packed) {
    dnnl::memory plain({{request.in, request.out}, kernel.weights, Tag::ab}, engine);
    auto* bytes = static_cast<unsigned char*>(plain.get_data_handle());
    for (std::size_t i = 0; i < plain.get_desc().get_size(); ++i) {
      bytes[i] =
          static_cast<unsigned char>(i * 2654435761u >> 26);  // as bfloat16: small and normal
    }
    dnnl::memory result(packed, engine);
    dnnl::reorder(plain, result).execute(stream_, plain, result);
    stream_.wait();
    return result;
  }

  dnnl::stream stream_;
  dnnl::memory input_, output_;
  dnnl::matmul matmul_;
  std::vector<dnnl::memory> copies_;
  std::size_t next_ = 0;
};

}  // namespace

int main() {
  const dnnl::version_t* version = dnnl::version();
  std::cout << R"({"program": "oneDNN", "version": ")" << version->major << '.' << version->minor
            << '.' << version->patch << R"(", "kernels": ["u8s8", "bf16"]})" << std::endl;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  std::map<std::string, Product> kept;
  for (Request request; read_request(request);) {
    if (request.verb == "forget") {
      kept.clear();
      std::cout << "{}" << std::endl;
      continue;
    }
    const auto kernel = std::find_if(std::begin(kKernels), std::end(kKernels),
                                     [&](const Kernel& k) { return k.name == request.kernel; });
    if (kernel == std::end(kKernels)) {
      answer_absent("no such kernel");
      continue;
    }
    const std::string key = request.kernel + " " + std::to_string(request.rows) + " " +
                            std::to_string(request.in) + " " + std::to_string(request.out) + " " +
                            std::to_string(request.rotated);
    try {
      Product& product = kept.try_emplace(key, engine, *kernel, request).first->second;
      answer_times(request, product.copies(), product.bytes(), [&] { product.run(); });
    } catch (const dnnl::error& error) {
      answer_absent(error.what());
    }
  }
}
