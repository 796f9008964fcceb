// The four parts of a model and what each takes: parameters, bytes in the files, bytes of the
// linears.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "io/checkpoint.h"
#include "model/linear_list.h"

namespace qvlm::cli {

struct ComponentSize {
  std::string name;             // "vision_tower", "projector", "decoder", "lm_head", "other"
  std::int64_t parameters = 0;  // numbers the model computes with, however they are stored
  std::int64_t bytes = 0;       // of its tensors
};

// The part that a tensor or linear of this name (ours) belongs to.
std::string component_of(std::string_view name);

// In data order; parts without tensors are left out.
std::vector<ComponentSize> measure_components(const Checkpoint& checkpoint,
                                              const std::vector<LinearShape>& linears);

// dtype names of the tensors, the one with most bytes first: "I32 + BF16".
std::string describe_dtypes(const Checkpoint& checkpoint);

// Linears of one component that share a scheme.
struct LinearGroup {
  std::string component, scheme;
  std::vector<std::size_t> members;  // places in the list that was grouped
};

// Groups in the order in which their first members were added.
class LinearGroups {
 public:
  void add(std::size_t place, std::string_view linear, const std::string& scheme);
  const std::vector<LinearGroup>& list() const { return groups_; }

 private:
  std::vector<LinearGroup> groups_;
};

}  // namespace qvlm::cli
