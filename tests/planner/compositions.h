// Every way to cut a few units into blocks: what the planner's tests compare its choices with.
#pragma once

#include <vector>

namespace qvlm {

// All sequences of depths 1 .. max_depth that add up to `units`.
inline std::vector<std::vector<int>> all_compositions(int units, int max_depth) {
  if (units == 0) return {{}};
  std::vector<std::vector<int>> all;
  for (int depth = 1; depth <= max_depth && depth <= units; ++depth) {
    for (std::vector<int> rest : all_compositions(units - depth, max_depth)) {
      rest.insert(rest.begin(), depth);
      all.push_back(std::move(rest));
    }
  }
  return all;
}

}  // namespace qvlm
