#include "eval/tensor_check.h"

#include <algorithm>
#include <set>

#include "base/error.h"
#include "base/mapped_file.h"
#include "eval/product_check.h"
#include "io/finite.h"
#include "io/quantized_checkpoint.h"
#include "model/tensor_list.h"
#include "quant/quantized_tensor.h"
#include "tensor/file_tensor.h"
#include "tensor/finite.h"

namespace qvlm {
namespace {

constexpr std::string_view kWeight = ".weight";

// "decoder.layers.0.mlp.up_proj" for the name of its weight; empty for anything else.
std::string linear_of(const std::string& name) {
  return name.ends_with(kWeight) ? name.substr(0, name.size() - kWeight.size()) : "";
}

// The endings of the tensors that a quantized linear has, its bias not among them.
std::vector<std::string> stored_endings(const Checkpoint& checkpoint,
                                        const std::string& linear,
                                        const LinearScheme& scheme) {
  std::vector<std::string> endings = {".weight_scale"};
  if (checkpoint.find_tensor(linear + ".weight_packed")) {
    endings.insert(endings.end(), {".weight_packed", ".weight_shape"});
  } else {
    endings.emplace_back(".weight");
  }
  if (!scheme.weight.symmetric) endings.emplace_back(".weight_zero_point");
  return endings;
}

std::vector<TensorView> stored_tensors(const Checkpoint& checkpoint,
                                       const std::string& linear,
                                       const LinearScheme& scheme) {
  std::vector<TensorView> tensors;
  for (const std::string& ending : stored_endings(checkpoint, linear, scheme)) {
    const std::optional<TensorView> tensor = checkpoint.find_tensor(linear + ending);
    if (tensor) tensors.push_back(*tensor);
  }
  return tensors;
}

// Adds problems of tensors by the names in the files. One that has a problem already, a wrong
// checksum mostly, gets no second one.
class TensorProblems {
 public:
  TensorProblems(const Checkpoint& checkpoint, ProblemList& problems)
      : checkpoint_(checkpoint), problems_(problems) {}

  template <typename... Parts>
  void add(const std::string& file_name, const Parts&... parts) {
    if (problems_.names_tensor(file_name)) return;
    problems_.add(weight_file_of(checkpoint_, file_name), file_name, join(parts...));
  }
  bool has_any(const std::vector<TensorView>& tensors) const {
    return std::ranges::any_of(
        tensors, [&](const TensorView& tensor) { return problems_.names_tensor(tensor.name); });
  }

 private:
  const Checkpoint& checkpoint_;
  ProblemList& problems_;
};

void check_float(const Checkpoint& checkpoint,
                 const std::string& ours,
                 const std::vector<std::int64_t>& shape,
                 TensorProblems& problems) {
  const std::optional<TensorView> view = checkpoint.find_tensor(ours);
  if (!view) {
    problems.add(checkpoint.names().to_file(ours), "is missing; config.json asks for one of shape ",
                 shape_text(shape));
  } else if (view->shape != shape) {
    problems.add(view->name, "has shape ", shape_text(view->shape), ", config.json asks for ",
                 shape_text(shape));
  } else if (!at::isFloatingType(scalar_type(view->dtype))) {
    problems.add(view->name, "is ", dtype_name(view->dtype), ", expected floating point");
  }
}

// Gives whether the reals of a linear are numbers; `scale` is its tensor of scales.
bool check_reals(const QuantizedWeight& weight,
                 const std::string& scale,
                 TensorProblems& problems) {
  const auto zeros = std::ranges::count(weight.scales, 0.0f);
  if (zeros > 0) {
    problems.add(scale, zeros, " of ", weight.scales.size(),
                 " scales are 0: those weights are lost");
  }
  const bool finite = is_finite(to_quantized_tensor(weight).dequantize());
  if (!finite) problems.add(scale, "is too large: dequantized weights are not finite");
  return finite;
}

// The tensor of a linear that a sentence is about: the longest name in it.
std::string tensor_in(const std::vector<TensorView>& tensors, const std::string& text) {
  std::string found;
  for (const TensorView& tensor : tensors) {
    if (text.find(tensor.name) != std::string::npos && tensor.name.size() > found.size())
      found = tensor.name;
  }
  return found.empty() && !tensors.empty() ? tensors.front().name : found;
}

// A linear that is quantized, and the shape that its weight has to have.
struct ExpectedLinear {
  std::string name;  // ours
  LinearScheme scheme;
  std::vector<std::int64_t> shape;
  std::vector<TensorView> tensors;
};

void check_linear(const Checkpoint& checkpoint,
                  const ExpectedLinear& linear,
                  ProblemList& problems) {
  TensorProblems found(checkpoint, problems);
  try {
    const QuantizedWeight weight =
        load_quantized_weight(checkpoint, linear.name, linear.scheme.weight);
    if (linear.shape != std::vector{weight.out, weight.in}) {
      found.add(linear.tensors.back().name, "holds a weight of shape ",
                shape_text({weight.out, weight.in}), ", config.json asks for ",
                shape_text(linear.shape));
    }
    const std::string scale = checkpoint.names().to_file(linear.name + ".weight_scale");
    if (!check_reals(weight, scale, found)) return;
    const std::string wrong = check_packed_product(weight, linear.scheme);
    if (!wrong.empty()) found.add(linear.tensors.back().name, wrong);
  } catch (const Error& error) {
    const std::string tensor = tensor_in(linear.tensors, error.what());
    problems.accept(error, weight_file_of(checkpoint, tensor), tensor);
  }
}

}  // namespace

std::string weight_file_of(const Checkpoint& checkpoint, const std::string& file_name) {
  const std::filesystem::path file = checkpoint.file_of(file_name);
  if (!file.empty()) return file.filename().string();
  std::set<std::string> files;
  for (const TensorView& tensor : checkpoint.tensors())
    files.insert(checkpoint.file_of(tensor.name).filename().string());
  return files.size() == 1 ? *files.begin() : "";
}

std::int64_t check_tensor_list(const OpenedModel& model, ProblemList& problems) {
  const Checkpoint& checkpoint = model.checkpoint;
  TensorProblems found(checkpoint, problems);
  std::set<std::string> known;
  for (const auto& [ours, shape] : list_tensors(model.config)) {
    const std::string linear = linear_of(ours);
    const std::optional<LinearScheme> scheme = model.find_scheme(linear);
    if (!scheme) {
      known.insert(ours);
      check_float(checkpoint, ours, shape, found);
      continue;
    }
    for (const std::string& ending : stored_endings(checkpoint, linear, *scheme)) {
      known.insert(linear + ending);
      if (!checkpoint.find_tensor(linear + ending))
        found.add(checkpoint.names().to_file(linear + ending), "is missing");
    }
  }
  for (const TensorView& tensor : checkpoint.tensors()) {
    const std::string ours = checkpoint.names().to_ours(tensor.name);
    if (!known.contains(ours) && !is_unread_tensor(ours, model.config))
      found.add(tensor.name, "is left over: config.json asks for no such tensor");
  }
  return static_cast<std::int64_t>(checkpoint.tensors().size());
}

std::int64_t check_quantized_linears(const OpenedModel& model,
                                     ProblemList& problems,
                                     const BytesRead& on_bytes) {
  std::int64_t count = 0;
  if (!model.quantization) return count;
  const TensorProblems found(model.checkpoint, problems);
  const auto shapes = list_tensors(model.config);
  for (const auto& [linear, scheme] : model.quantization->linears()) {
    const std::vector<TensorView> tensors = stored_tensors(model.checkpoint, linear, scheme);
    const auto shape = shapes.find(linear + std::string(kWeight));
    // A linear that the model does not have is left over and reported as such.
    if (shape != shapes.end() && !found.has_any(tensors)) {
      check_linear(model.checkpoint, {linear, scheme, shape->second, tensors}, problems);
      ++count;
    }
    for (const TensorView& tensor : tensors) {
      drop_pages(tensor.bytes);
      on_bytes(static_cast<std::int64_t>(tensor.bytes.size()));
    }
  }
  return count;
}

std::int64_t check_float_tensors(const OpenedModel& model,
                                 ProblemList& problems,
                                 const BytesRead& on_bytes) {
  TensorProblems found(model.checkpoint, problems);
  std::set<std::string> stored;
  if (model.quantization) {
    for (const auto& [linear, scheme] : model.quantization->linears()) {
      for (const TensorView& tensor : stored_tensors(model.checkpoint, linear, scheme))
        stored.insert(tensor.name);
    }
  }
  std::int64_t count = 0;
  for (const TensorView& tensor : model.checkpoint.tensors()) {
    if (stored.contains(tensor.name)) continue;
    ++count;
    if (!is_finite(tensor.dtype, tensor.bytes)) found.add(tensor.name, "holds NaN or infinity");
    drop_pages(tensor.bytes);
    on_bytes(static_cast<std::int64_t>(tensor.bytes.size()));
  }
  return count;
}

}  // namespace qvlm
