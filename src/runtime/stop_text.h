// Stop texts in a stream: text is passed on only once it cannot become part of a stop text any
// more.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace qvlm {

class StopText {
 public:
  explicit StopText(std::vector<std::string> stops);

  // Adds a piece; returns what may be shown now. After a stop text was found nothing more is shown.
  std::string push(std::string_view piece);
  // What was held back when the stream ended without a stop text.
  std::string finish();
  bool found() const { return found_; }

 private:
  std::size_t held_back() const;

  std::vector<std::string> stops_;
  std::string pending_;
  bool found_ = false;
};

}  // namespace qvlm
