#include "io/scheme_json.h"

#include <array>
#include <string>
#include <utility>

#include "base/error.h"

namespace qvlm {
namespace {

constexpr std::array kGranularities = {
    std::pair{std::string_view("tensor"), Granularity::kTensor},
    std::pair{std::string_view("channel"), Granularity::kChannel},
    std::pair{std::string_view("group"), Granularity::kGroup},
    std::pair{std::string_view("token"), Granularity::kToken},
};

std::string_view granularity_name(Granularity granularity) {
  for (const auto& [name, value] : kGranularities) {
    if (value == granularity) return name;
  }
  fail(ErrorKind::kInternal, "unknown Granularity value");
}

Granularity parse_granularity(const std::string& name, const std::string& where) {
  for (const auto& [known, value] : kGranularities) {
    if (known == name) return value;
  }
  fail(ErrorKind::kUnsupported, where, ": '", name,
       "' is not supported; supported: tensor, channel, group, token");
}

// The limits that qvlm/scheme.h states.
void check_legal(const Scheme& scheme, const std::string& where) {
  require(scheme.bits >= 2 && scheme.bits <= 8, ErrorKind::kUnsupported, where, ": ", scheme.bits,
          " bits are not supported; supported: 2 to 8");
  const int size = scheme.group_size;
  const bool grouped = scheme.granularity == Granularity::kGroup;
  require(grouped ? size == 32 || size == 64 || size == 128 : size == 0, ErrorKind::kUnsupported,
          where, ": group size ", size, " with '", granularity_name(scheme.granularity),
          "' is not supported; supported: 32, 64 and 128 with 'group'");
  require(scheme.clip_ratio > 0 && scheme.clip_ratio <= 1, ErrorKind::kCorrupt, where,
          ": clip_ratio: expected a number in (0, 1], got ", scheme.clip_ratio);
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
  scheme.bits = static_cast<int>(node.get_int("num_bits", 8));
  scheme.symmetric = node.get_bool("symmetric", true);
  scheme.granularity = parse_granularity(node.get_string("strategy", infer_strategy(node)),
                                         node.where() + ".strategy");
  if (scheme.granularity == Granularity::kGroup) {
    scheme.group_size = static_cast<int>(node.get_int("group_size"));
  }
  const Json dynamic = node.find("dynamic");
  require(dynamic.is_null() || dynamic.is_bool(), ErrorKind::kUnsupported, dynamic.where(),
          ": only true and false are supported");
  scheme.dynamic = node.get_bool("dynamic", false);
  check_legal(scheme, node.where());
  return scheme;
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

Scheme scheme_from_json(const Json& node) {
  Scheme scheme;
  scheme.bits = static_cast<int>(node.get_int("bits"));
  scheme.symmetric = node.get_bool("symmetric", true);
  scheme.granularity =
      parse_granularity(node.get_string("granularity"), node.where() + ".granularity");
  scheme.group_size = static_cast<int>(node.get_int("group_size", 0));
  scheme.dynamic = node.get_bool("dynamic", false);
  scheme.clip_ratio = node.get_double("clip_ratio", 1.0);
  check_legal(scheme, node.where());
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
  require(!scheme.dynamic && scheme.granularity != Granularity::kToken, ErrorKind::kUnsupported,
          node.where(), ": dynamic weights are not supported");
  return scheme;
}

Scheme activation_from_arguments(const Json& node) {
  const Scheme scheme = parse_arguments(node);
  require(scheme.dynamic && scheme.granularity == Granularity::kToken, ErrorKind::kUnsupported,
          node.where(), ": supported are dynamic activations with strategy 'token' only");
  return scheme;
}

}  // namespace qvlm
