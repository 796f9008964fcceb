#include "cli/format.h"

#include <array>
#include <cmath>
#include <cstdio>

namespace qvlm::cli {
namespace {

template <typename... Values>
std::string print(const char* format, Values... values) {
  std::array<char, 64> text = {};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

}  // namespace

std::string format_fixed(double value, int decimals) {
  return print("%.*f", decimals, value);
}

std::string format_bytes(std::int64_t bytes) {
  const auto value = static_cast<double>(bytes);
  // A unit begins where the smaller one would round to 1000.0.
  if (value < 1e3) return print("%d B", static_cast<int>(bytes));
  if (value < 999.95e3) return print("%.1f kB", value / 1e3);
  if (value < 999.95e6) return print("%.1f MB", value / 1e6);
  return print("%.1f GB", value / 1e9);
}

std::string format_count(std::int64_t count) {
  std::string text = std::to_string(count);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > (count < 0 ? 1 : 0); at -= 3) {
    text.insert(static_cast<std::size_t>(at), " ");
  }
  return text;
}

std::string format_seconds(double seconds) {
  if (seconds < 9.995) return print("%.2f s", seconds);
  if (seconds < 59.95) return print("%.1f s", seconds);
  const auto whole = static_cast<long long>(std::llround(seconds));
  if (whole < 3600) return print("%lld min %02lld s", whole / 60, whole % 60);
  return print("%lld h %02lld min", whole / 3600, whole % 3600 / 60);
}

std::string format_percent(double share) {
  return print("%.1f %%", 100.0 * share);
}

std::string format_accuracy(const Share& share) {
  return print("%.1f %% [%.1f, %.1f]", 100.0 * share.value, 100.0 * share.low, 100.0 * share.high);
}

std::string format_small(std::optional<double> value) {
  return value ? print("%.3g", *value) : "-";
}

std::string format_signed(std::optional<double> value) {
  return value ? print("%+.3f", *value) : "-";
}

std::string format_p(double p) {
  return p < 0.001 ? "< 0.001" : print("%.3f", p);
}

}  // namespace qvlm::cli
