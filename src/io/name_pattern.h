// One entry of `targets` or `ignore` in a quantization_config: a module's name, or "re:" and a
// regular expression that must match from the name's first character on (Python's re.match).
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace qvlm {

class NamePattern {
 public:
  // Throws kCorrupt for an invalid expression; `where` appears in the message.
  NamePattern(std::string_view target, std::string_view where);

  bool is_expression() const { return expression_ != nullptr; }
  bool matches(std::string_view name) const;

 private:
  std::string text_;
  std::shared_ptr<void> expression_;  // pcre2_code
};

// The text of an expression that matches `literal` and nothing else.
std::string escape_expression(std::string_view literal);

}  // namespace qvlm
