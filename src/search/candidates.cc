#include "search/candidates.h"

#include <algorithm>
#include <functional>
#include <string_view>

#include "base/error.h"

namespace qvlm {
namespace {

std::vector<double> in_order(std::vector<double> values, std::string_view name) {
  require(!values.empty(), ErrorKind::kInvalidArgument, "search: ", name, " is empty");
  for (const double value : values) {
    require(value > 0.0 && value <= 1.0, ErrorKind::kInvalidArgument, "search: ", name,
            ": expected values above 0 and at most 1, got ", value);
  }
  std::sort(values.begin(), values.end(), std::greater<>());
  const auto twice = std::adjacent_find(values.begin(), values.end());
  require(twice == values.end(), ErrorKind::kInvalidArgument, "search: ", name,
          ": a value is given twice");
  return values;
}

}  // namespace

Candidates::Candidates(const SearchOptions& options, int inputs)
    : activation_(in_order(options.activation_clip, "activation_clip")),
      weight_(in_order(options.weight_clip, "weight_clip")),
      inputs_(inputs),
      per_linear_(options.per_linear) {
  require(!per_linear_ || options.method == SearchMethod::kDescent, ErrorKind::kInvalidArgument,
          "search: per_linear has too many combinations for this method; use method: descent");
  const std::size_t repeats = per_linear_ ? static_cast<std::size_t>(inputs_) : 1;
  for (std::size_t weight = 0; weight < weight_.size(); ++weight) {
    for (std::size_t activation = 0; activation < activation_.size(); ++activation) {
      Setting setting(repeats, static_cast<int>(activation));
      setting.insert(setting.end(), repeats, static_cast<int>(weight));
      shared_.push_back(std::move(setting));
    }
  }
}

std::vector<int> Candidates::axes() const {
  const std::size_t repeats = per_linear_ ? static_cast<std::size_t>(inputs_) : 1;
  std::vector<int> sizes(repeats, static_cast<int>(activation_.size()));
  sizes.insert(sizes.end(), repeats, static_cast<int>(weight_.size()));
  return sizes;
}

LayerClips Candidates::clips(const Setting& setting) const {
  const std::size_t axes = setting.size() / 2;
  LayerClips clips;
  for (std::size_t input = 0; input < static_cast<std::size_t>(inputs_); ++input) {
    const std::size_t place = per_linear_ ? input : 0;
    clips.push_back({activation_[static_cast<std::size_t>(setting[place])],
                     weight_[static_cast<std::size_t>(setting[axes + place])]});
  }
  return clips;
}

}  // namespace qvlm
