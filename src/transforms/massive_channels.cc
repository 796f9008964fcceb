#include "transforms/massive_channels.h"

#include "base/parallel.h"

namespace qvlm {
namespace {

at::Tensor sum_of(const at::Tensor& sum, const at::Tensor& more) {
  return sum.defined() ? sum + more : more;
}

}  // namespace

// Sums are those of one thread.
void MassiveChannels::add(const at::Tensor& states) {
  for_each_apart(1, [&](std::int64_t) {
    const at::Tensor rows = states.slice(0, states.size(0) > 1 ? 1 : 0).to(at::kDouble).square();
    const at::Tensor sums = rows.sum(1, /*keepdim=*/true);
    shares_ = sum_of(shares_, at::where(sums > 0, rows / sums, at::zeros_like(rows)).sum(0));
    tokens_ += rows.size(0);
  });
}

void MassiveChannels::add_reader(const at::Tensor& weight) {
  for_each_apart(1, [&](std::int64_t) {
    const at::Tensor columns = weight.square().sum(0, /*keepdim=*/false, at::kDouble);
    const at::Tensor mean = columns.mean();
    read_ = sum_of(read_, at::where(mean > 0, columns / mean, at::ones_like(columns)));
    ++readers_;
  });
}

std::vector<std::int64_t> MassiveChannels::find() const {
  std::vector<std::int64_t> channels;
  if (tokens_ == 0 || readers_ == 0) return channels;
  for (std::int64_t i = 0; i < shares_.size(0); ++i) {
    const double share = shares_.const_data_ptr<double>()[i] / static_cast<double>(tokens_);
    const double read = read_.const_data_ptr<double>()[i] / static_cast<double>(readers_);
    if (share >= kShare && read <= kRead) channels.push_back(i);
  }
  return channels;
}

}  // namespace qvlm
