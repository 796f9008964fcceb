// Limits: their YAML form.
#include <qvlm/gate.h>

#include "base/yaml_reader.h"

namespace qvlm {
namespace {

std::optional<double> read(
    const YamlReader& reader, const YAML::Node& root, const char* key, double low, double high) {
  if (!root[key].IsDefined()) return std::nullopt;
  return reader.number<double>(root, key, low, low, high);
}

bool has_any(const Limits& limits) {
  return limits.exact_bytes || limits.max_accuracy_loss || limits.max_category_loss ||
         limits.max_changed_answers || limits.max_option_kl || limits.max_logit_kl ||
         limits.max_margin_drop || limits.max_length_change || limits.max_bytes_ratio ||
         limits.max_memory_ratio || limits.min_speed_ratio;
}

}  // namespace

Limits Limits::load(const std::filesystem::path& file) {
  const YamlReader reader(file);
  const YAML::Node root = reader.parse();
  reader.check_keys(
      root, "the limits",
      {"max_accuracy_loss", "max_category_loss", "max_changed_answers", "max_option_kl",
       "max_logit_kl", "max_margin_drop", "max_length_change", "exact_bytes", "max_bytes_ratio",
       "max_memory_ratio", "min_speed_ratio", "other_cpu"});
  constexpr double kMost = 1e6;
  Limits limits;
  limits.max_accuracy_loss = read(reader, root, "max_accuracy_loss", 0.0, 1.0);
  limits.max_category_loss = read(reader, root, "max_category_loss", 0.0, 1.0);
  limits.max_changed_answers = read(reader, root, "max_changed_answers", 0.0, 1.0);
  limits.max_option_kl = read(reader, root, "max_option_kl", 0.0, kMost);
  limits.max_logit_kl = read(reader, root, "max_logit_kl", 0.0, kMost);
  limits.max_margin_drop = read(reader, root, "max_margin_drop", 0.0, kMost);
  limits.max_length_change = read(reader, root, "max_length_change", 0.0, kMost);
  limits.exact_bytes = reader.optional<bool>(root, "exact_bytes", false);
  limits.max_bytes_ratio = read(reader, root, "max_bytes_ratio", 0.0, kMost);
  limits.max_memory_ratio = read(reader, root, "max_memory_ratio", 0.0, kMost);
  limits.min_speed_ratio = read(reader, root, "min_speed_ratio", 0.0, kMost);
  limits.other_cpu = reader.choice<OtherCpu>(
      root, "other_cpu",
      {{"refuse", OtherCpu::kRefuse}, {"skip", OtherCpu::kSkip}, {"judge", OtherCpu::kJudge}},
      OtherCpu::kRefuse);
  require(has_any(limits), ErrorKind::kInvalidArgument, reader.file(),
          ": has no limit, so nothing could fail");
  return limits;
}

}  // namespace qvlm
