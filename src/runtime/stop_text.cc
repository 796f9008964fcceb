#include "runtime/stop_text.h"

#include <algorithm>
#include <utility>

namespace qvlm {

StopText::StopText(std::vector<std::string> stops) : stops_(std::move(stops)) {
  std::erase(stops_, std::string());
}

std::string StopText::push(std::string_view piece) {
  if (found_) return {};
  pending_ += piece;
  std::size_t first = std::string::npos;
  for (const std::string& stop : stops_)
    first = std::min(first, pending_.find(stop));
  found_ = first != std::string::npos;
  const std::size_t shown = found_ ? first : pending_.size() - held_back();
  std::string text = pending_.substr(0, shown);
  pending_.erase(0, found_ ? pending_.size() : shown);
  return text;
}

std::string StopText::finish() {
  return std::exchange(pending_, {});
}

// Length of the longest end of the pending text that begins a stop text.
std::size_t StopText::held_back() const {
  std::size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (std::size_t length = std::min(stop.size() - 1, pending_.size()); length > longest;
         --length) {
      if (pending_.ends_with(std::string_view(stop).substr(0, length))) longest = length;
    }
  }
  return longest;
}

}  // namespace qvlm
