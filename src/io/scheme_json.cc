#include "io/scheme_json.h"

#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "io/scheme.h"

namespace qvlm {
namespace {

Granularity parse_granularity(const std::string& name, const std::string& where) {
  const std::optional<Granularity> granularity = find_granularity(name);
  require(granularity.has_value(), ErrorKind::kUnsupported, where, ": '", name,
          "' is not supported; supported: ", kGranularityNames);
  return *granularity;
}

// A number of bits or the size of a group. What does not fit an int must not wrap to a legal one.
int as_small_int(const Json& node) {
  const std::int64_t value = node.as_int();
  require(std::in_range<int>(value), ErrorKind::kCorrupt, node.where(), ": ", value,
          " is out of range");
  return static_cast<int>(value);
}

// The strategy that compressed-tensors infers when none is written.
std::string infer_strategy(const Json& node) {
  const std::int64_t size = node.get_int("group_size", 0);
  if (node.find("group_size").is_null()) return "tensor";
  return size > 0 ? "group" : "channel";
}

Scheme parse_arguments(const Json& node) {
  const std::string type = node.get_string("type", "int");
  require(type == "int", ErrorKind::kUnsupported, node.where(), ".type: '", type,
          "' is not supported; supported: int");
  Scheme scheme;
  if (const Json bits = node.find("num_bits"); !bits.is_null()) scheme.bits = as_small_int(bits);
  scheme.symmetric = node.get_bool("symmetric", true);
  scheme.granularity = parse_granularity(node.get_string("strategy", infer_strategy(node)),
                                         node.where() + ".strategy");
  if (scheme.granularity == Granularity::kGroup) {
    scheme.group_size = as_small_int(node.get("group_size"));
  }
  const Json dynamic = node.find("dynamic");
  require(dynamic.is_null() || dynamic.is_bool(), ErrorKind::kUnsupported, dynamic.where(),
          ": only true and false are supported");
  scheme.dynamic = node.get_bool("dynamic", false);
  return scheme;
}

Scheme parse_scheme(const Json& node) {
  Scheme scheme;
  scheme.bits = as_small_int(node.get("bits"));
  scheme.symmetric = node.get_bool("symmetric", true);
  scheme.granularity =
      parse_granularity(node.get_string("granularity"), node.where() + ".granularity");
  if (const Json size = node.find("group_size"); !size.is_null())
    scheme.group_size = as_small_int(size);
  scheme.dynamic = node.get_bool("dynamic", false);
  scheme.clip_ratio = node.get_double("clip_ratio", 1.0);
  return scheme;
}

Json hadamard_to_json(const HadamardInput& hadamard) {
  Json node = Json::object();
  node.set("width", hadamard.width);
  node.set("order", hadamard.order);
  return node;
}

HadamardInput hadamard_from_json(const Json& node) {
  return {node.get_int("width"), node.get_int("order")};
}

}  // namespace

Json scheme_to_json(const Scheme& scheme) {
  Json node = Json::object();
  node.set("bits", scheme.bits);
  node.set("symmetric", scheme.symmetric);
  node.set("granularity", granularity_name(scheme.granularity));
  node.set("group_size", scheme.group_size);
  node.set("dynamic", scheme.dynamic);
  node.set("clip_ratio", scheme.clip_ratio);
  return node;
}

Json linear_scheme_to_json(const LinearScheme& scheme) {
  Json node = Json::object();
  node.set("weight", scheme_to_json(scheme.weight));
  node.set("activation", scheme.activation ? scheme_to_json(*scheme.activation) : Json());
  if (scheme.hadamard_input) node.set("hadamard_input", hadamard_to_json(*scheme.hadamard_input));
  if (scheme.input_scale.empty()) return node;
  Json scales = Json::array();
  for (const float scale : scheme.input_scale)
    scales.append(static_cast<double>(scale));
  node.set("input_scale", scales);
  return node;
}

LinearScheme linear_scheme_from_json(const Json& node) {
  LinearScheme scheme{weight_from_json(node.get("weight")), {}, {}};
  const Json activation = node.find("activation");
  if (!activation.is_null()) scheme.activation = activation_from_json(activation);
  const Json hadamard = node.find("hadamard_input");
  if (!hadamard.is_null()) scheme.hadamard_input = hadamard_from_json(hadamard);
  const Json scales = node.find("input_scale");
  require(has_static_input(scheme) == (scales.size() > 0), ErrorKind::kCorrupt, node.where(),
          ": input_scale goes with static activations, and they need it");
  for (std::size_t i = 0; i < scales.size(); ++i) {
    scheme.input_scale.push_back(static_cast<float>(scales.at(i).as_double()));
    require(scheme.input_scale.back() > 0.0f, ErrorKind::kCorrupt, scales.where(),
            ": scales must be positive");
  }
  const bool one =
      has_static_input(scheme) && scheme.activation->granularity == Granularity::kTensor;
  require(!one || scales.size() == 1, ErrorKind::kCorrupt, scales.where(),
          ": expected one scale, got ", scales.size());
  return scheme;
}

Scheme weight_from_json(const Json& node) {
  const Scheme scheme = parse_scheme(node);
  check_weight_scheme(scheme, node.where(), ErrorKind::kUnsupported);
  return scheme;
}

Scheme activation_from_json(const Json& node) {
  const Scheme scheme = parse_scheme(node);
  check_activation_scheme(scheme, node.where(), ErrorKind::kUnsupported);
  return scheme;
}

Json arguments_to_json(const Scheme& scheme) {
  Json node = Json::object();
  node.set("num_bits", scheme.bits);
  node.set("type", "int");
  node.set("symmetric", scheme.symmetric);
  node.set("strategy", granularity_name(scheme.granularity));
  node.set("group_size",
           scheme.granularity == Granularity::kGroup ? Json(scheme.group_size) : Json());
  node.set("dynamic", scheme.dynamic);
  return node;
}

Scheme weight_from_arguments(const Json& node) {
  // "weight" (or "static") only says how the codes were found; "group" would permute the columns.
  const Json order = node.find("actorder");
  const bool plain =
      order.is_null() || (order.is_bool() && !order.as_bool()) ||
      (order.is_string() && (order.as_string() == "weight" || order.as_string() == "static"));
  require(plain, ErrorKind::kUnsupported, order.where(), ": ", order.dump(),
          " is not supported; supported: null and \"weight\"");
  const Scheme scheme = parse_arguments(node);
  check_weight_scheme(scheme, node.where(), ErrorKind::kUnsupported);
  return scheme;
}

Scheme activation_from_arguments(const Json& node) {
  const Scheme scheme = parse_arguments(node);
  check_activation_scheme(scheme, node.where(), ErrorKind::kUnsupported);
  require(scheme.dynamic, ErrorKind::kUnsupported, node.where(),
          ": stored scales of activations are read from qvlm.json only; supported: dynamic, token");
  return scheme;
}

}  // namespace qvlm
