#include "cli/components.h"

#include <algorithm>
#include <array>

namespace qvlm::cli {
namespace {

constexpr std::array<std::string_view, 5> kComponents = {"vision_tower", "projector", "decoder",
                                                         "lm_head", "other"};

// The linear that a tensor is part of: "decoder.layers.0.mlp.up_proj" for its weight,
// weight_packed, scales, ...
std::string owner_of(std::string_view tensor) {
  return std::string(tensor.substr(0, tensor.rfind('.')));
}

bool is_weight(std::string_view tensor) {
  return tensor.ends_with(".weight") || tensor.ends_with(".weight_packed");
}

bool is_auxiliary(std::string_view tensor) {
  return !tensor.ends_with(".weight") && !tensor.ends_with(".bias");
}

}  // namespace

std::string component_of(std::string_view name) {
  const std::string_view first = name.substr(0, name.find('.'));
  const bool known = std::find(kComponents.begin(), kComponents.end(), first) != kComponents.end();
  return std::string(known ? first : kComponents.back());
}

std::vector<ComponentSize> measure_components(const Checkpoint& checkpoint,
                                              const std::vector<LinearShape>& linears) {
  std::map<std::string, std::int64_t> linear_sizes;
  for (const LinearShape& linear : linears)
    linear_sizes[linear.name] = linear.out * linear.in;
  std::map<std::string, ComponentSize> sizes;
  for (const TensorView& tensor : checkpoint.tensors()) {
    const std::string name = checkpoint.names().to_ours(tensor.name);
    ComponentSize& size = sizes[component_of(name)];
    size.bytes += static_cast<std::int64_t>(tensor.bytes.size());
    const auto linear = linear_sizes.find(owner_of(name));
    if (linear == linear_sizes.end()) {
      const bool counted =
          tensor.dtype != DType::kI64;  // position ids and the like are not parameters
      size.parameters += counted ? tensor.elements() : 0;
    } else if (is_weight(name)) {
      size.parameters += linear->second;
    } else if (!is_auxiliary(name)) {
      size.parameters += tensor.elements();  // its bias
    }
  }
  std::vector<ComponentSize> result;
  for (const std::string_view name : kComponents) {
    const auto found = sizes.find(std::string(name));
    if (found == sizes.end()) continue;
    found->second.name = name;
    result.push_back(found->second);
  }
  return result;
}

std::string describe_dtypes(const Checkpoint& checkpoint) {
  std::map<std::string, std::int64_t> bytes;
  for (const TensorView& tensor : checkpoint.tensors()) {
    bytes[std::string(dtype_name(tensor.dtype))] += static_cast<std::int64_t>(tensor.bytes.size());
  }
  std::vector<std::pair<std::int64_t, std::string>> order;
  for (const auto& [name, count] : bytes)
    order.emplace_back(-count, name);
  std::sort(order.begin(), order.end());
  std::string text;
  for (const auto& [count, name] : order)
    text += (text.empty() ? "" : " + ") + name;
  return text;
}

void LinearGroups::add(std::size_t place, std::string_view linear, const std::string& scheme) {
  const std::string component = component_of(linear);
  auto group = std::find_if(groups_.begin(), groups_.end(), [&](const LinearGroup& candidate) {
    return candidate.component == component && candidate.scheme == scheme;
  });
  if (group == groups_.end()) group = groups_.insert(group, {component, scheme, {}});
  group->members.push_back(place);
}

}  // namespace qvlm::cli
