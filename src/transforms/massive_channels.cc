#include "transforms/massive_channels.h"

namespace qvlm {

void MassiveChannels::add(const at::Tensor& states) {
  const at::Tensor rows = states.slice(0, states.size(0) > 1 ? 1 : 0).to(at::kDouble).square();
  const at::Tensor sums = rows.sum(1, /*keepdim=*/true);
  const at::Tensor shares = at::where(sums > 0, rows / sums, at::zeros_like(rows)).sum(0);
  shares_ = shares_.defined() ? shares_ + shares : shares;
  tokens_ += rows.size(0);
}

std::vector<std::int64_t> MassiveChannels::find() const {
  std::vector<std::int64_t> channels;
  for (std::int64_t i = 0; i < (shares_.defined() ? shares_.size(0) : 0); ++i) {
    if (shares_.const_data_ptr<double>()[i] >= kShare * static_cast<double>(tokens_))
      channels.push_back(i);
  }
  return channels;
}

}  // namespace qvlm
