#include "model/products.h"

#include <optional>

#include "io/quantization_config.h"
#include "model/linear.h"
#include "model/linear_list.h"

namespace qvlm {

std::map<std::string, std::int64_t> count_products(const Checkpoint& checkpoint,
                                                   const ModelConfig& config,
                                                   Execution execution) {
  const std::optional<QuantizationConfig> quantization = QuantizationConfig::load(checkpoint);
  std::map<std::string, std::int64_t> counts;
  for (const LinearShape& linear : list_linears(config)) {
    std::optional<LinearScheme> scheme;
    if (quantization) scheme = quantization->find(linear.name);
    ++counts[std::string(arithmetic_name(arithmetic_of(scheme, execution)))];
  }
  return counts;
}

}  // namespace qvlm
