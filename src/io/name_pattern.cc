#include "io/name_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>

#include "base/error.h"

namespace qvlm {
namespace {

constexpr std::string_view kExpressionMark = "re:";

PCRE2_SPTR as_units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

std::shared_ptr<void> compile(std::string_view text, std::string_view where) {
  int code = 0;
  PCRE2_SIZE position = 0;
  pcre2_code* expression =
      pcre2_compile(as_units(text), text.size(), PCRE2_ANCHORED, &code, &position, nullptr);
  if (expression == nullptr) {
    std::array<PCRE2_UCHAR, 256> message = {};
    pcre2_get_error_message(code, message.data(), message.size());
    fail(ErrorKind::kCorrupt, where, ": '", text,
         "' is not a regular expression: ", reinterpret_cast<const char*>(message.data()),
         " at character ", position);
  }
  return std::shared_ptr<void>(
      expression, [](void* owned) { pcre2_code_free(static_cast<pcre2_code*>(owned)); });
}

}  // namespace

NamePattern::NamePattern(std::string_view target, std::string_view where) : text_(target) {
  if (!target.starts_with(kExpressionMark)) return;
  text_ = target.substr(kExpressionMark.size());
  expression_ = compile(text_, where);
}

bool NamePattern::matches(std::string_view name) const {
  if (!is_expression()) return name == text_;
  const auto* code = static_cast<const pcre2_code*>(expression_.get());
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  const int result = pcre2_match(code, as_units(name), name.size(), 0, 0, data.get(), nullptr);
  require(result >= 0 || result == PCRE2_ERROR_NOMATCH, ErrorKind::kCorrupt, "the expression '",
          text_, "' of quantization_config cannot be matched (error ", result, ")");
  return result >= 0;
}

std::string escape_expression(std::string_view literal) {
  std::string text;
  for (const char c : literal) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) text += '\\';
    text += c;
  }
  return text;
}

}  // namespace qvlm
