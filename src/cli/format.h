// Numbers as people read them. 1 MB is 1 000 000 bytes everywhere.
#pragma once

#include <qvlm/evaluate.h>

#include <cstdint>
#include <optional>
#include <string>

namespace qvlm::cli {

std::string format_fixed(double value, int decimals);  // "3.14"
std::string format_bytes(std::int64_t bytes);          // "812 B", "4.1 kB", "19.8 MB", "13.5 GB"
std::string format_count(std::int64_t count);          // "9 612 800"
std::string format_seconds(double seconds);       // "0.42 s", "12.3 s", "3 min 05 s", "2 h 07 min"
std::string format_percent(double share);         // "98.4 %"
std::string format_accuracy(const Share& share);  // "98.4 % [97.9, 98.8]"
// Small numbers of any size, three digits: "0.0123", "4.56e-07"; "-" for nothing.
std::string format_small(std::optional<double> value);
std::string format_signed(std::optional<double> value);  // "+0.12", "-1.30", "-" for nothing
std::string format_p(double p);                          // "0.034", "< 0.001"

}  // namespace qvlm::cli
