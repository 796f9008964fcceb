#include "calib/statistics.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "io/safetensors.h"
#include "quant/grid.h"
#include "tensor/file_tensor.h"
#include "tensor/shape.h"

namespace qvlm {
namespace {

namespace fs = std::filesystem;

// Bins are what the exponent and the first 5 bits of the mantissa of a float tell apart: an octave
// has 32 of equal width. The first one takes zero and what is below 2^-30, the last one 2^18 and
// up.
constexpr int kLowestOctave = -30, kOctaves = 48, kBinsPerOctave = 32;
constexpr std::int64_t kBins = kOctaves * kBinsPerOctave + 2;

constexpr std::int64_t kBlockTokens = 128;  // collected by one thread, merged in order

std::int64_t bin_of(float value) {
  constexpr int kDroppedBits = 23 - std::bit_width(unsigned{kBinsPerOctave - 1});
  constexpr std::int64_t kBefore = (127 + kLowestOctave) * kBinsPerOctave - 1;
  const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(value) & 0x7fffffffU;
  return std::clamp<std::int64_t>(std::int64_t{magnitude >> kDroppedBits} - kBefore, 0, kBins - 1);
}

// The lowest magnitude of a bin.
double edge(std::int64_t bin) {
  if (bin == 0) return 0.0;
  const auto octave = static_cast<int>((bin - 1) / kBinsPerOctave);
  const auto part = static_cast<double>((bin - 1) % kBinsPerOctave);
  return std::ldexp(1.0 + part / kBinsPerOctave, kLowestOctave + octave);
}

// Where the values of a bin end.
double upper_edge(std::int64_t bin, double largest) {
  return bin == kBins - 1 ? largest : std::min(edge(bin + 1), largest);
}

std::span<const std::int64_t> counts_of(const at::Tensor& histogram) {
  return {histogram.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(kBins)};
}

double largest_magnitude(const InputStatistics& statistics) {
  return at::maximum(statistics.low().abs(), statistics.high().abs()).max().item<double>();
}

// Values of both signs that stand for a histogram, [points], and how many each stands for.
struct WeightedPoints {
  at::Tensor values;   // float32
  at::Tensor weights;  // float64
};

// Bins are up to 4 steps wide for an 8-bit grid, so each is spread over 16 points: its centre alone
// would fall in step with the grid. The first bin is left out: its errors are the same for all
// grids.
WeightedPoints spread(std::span<const std::int64_t> counts, double largest) {
  constexpr int kPoints = 16;
  std::vector<float> values;
  std::vector<double> weights;
  for (std::int64_t bin = 1; bin < kBins; ++bin) {
    const std::int64_t count = counts[static_cast<std::size_t>(bin)];
    if (count == 0) continue;
    const double width = upper_edge(bin, largest) - edge(bin);
    for (int i = 0; i < kPoints; ++i) {
      values.push_back(static_cast<float>(edge(bin) + (i + 0.5) / kPoints * width));
      weights.push_back(static_cast<double>(count));
    }
  }
  const at::Tensor positive = at::tensor(values), weight = at::tensor(weights);
  return {at::cat({positive, -positive}), at::cat({weight, weight})};
}

double lp_error(const WeightedPoints& points, double range, const Scheme& scheme, double p) {
  const at::Tensor bound = at::full({1}, range, at::kFloat);
  const Grid grid = make_grid({-bound, bound}, scheme);
  const at::Tensor rounded = dequantize(quantize(points.values, grid, scheme), grid);
  const at::Tensor errors = (rounded - points.values).abs().pow(p);
  return errors.to(at::kDouble).dot(points.weights).item<double>();
}

// The parts of one linear in a file. In this order each begins at a multiple of its element size.
constexpr std::array<std::string_view, 5> kParts = {"tokens", "histogram", "squares", "low",
                                                    "high"};

// The linears that a file has parts of.
std::set<std::string> linears_in(const SafetensorsFile& file) {
  std::set<std::string> linears;
  for (const auto& [name, view] : file.tensors()) {
    const std::size_t dot = name.rfind('.');
    const bool known =
        dot != std::string::npos &&
        std::ranges::find(kParts, std::string_view(name).substr(dot + 1)) != kParts.end();
    require(known, ErrorKind::kCorrupt, file.path().string(), ": tensor '", name,
            "' is no part of input statistics");
    linears.insert(name.substr(0, dot));
  }
  return linears;
}

// A copy of a tensor [size]; kAnySize fits all but 0.
at::Tensor read_part(const SafetensorsFile& file,
                     const std::string& name,
                     DType dtype,
                     std::int64_t size = kAnySize) {
  const std::string where = file.path().string() + ": tensor '" + name + "'";
  const auto found = file.tensors().find(name);
  require(found != file.tensors().end(), ErrorKind::kCorrupt, where, " is missing");
  const TensorView& view = found->second;
  const bool fits = view.dtype == dtype && view.shape.size() == 1 &&
                    (size == kAnySize ? view.shape[0] > 0 : view.shape[0] == size);
  require(fits, ErrorKind::kCorrupt, where, ": expected ", dtype_name(dtype), " [",
          size == kAnySize ? "in" : std::to_string(size), "], got ", view.describe());
  return wrap(view).clone();
}

}  // namespace

void InputStatistics::add(const at::Tensor& activations) {
  require_shape(activations, "InputStatistics::add: activations",
                {kAnySize, tokens_ == 0 ? kAnySize : channels()});
  if (activations.numel() == 0) return;
  const at::Tensor values = activations.detach().to(at::kFloat).contiguous();
  const std::vector<at::Tensor> blocks = values.split(kBlockTokens);
  std::vector<InputStatistics> parts(blocks.size());
  for_each_apart(static_cast<std::int64_t>(blocks.size()), [&](std::int64_t i) {
    parts[static_cast<std::size_t>(i)] = of_block(blocks[static_cast<std::size_t>(i)]);
  });
  for (const InputStatistics& part : parts) {
    // Squares of finite floats do not overflow a double.
    const at::Tensor finite = part.squares_.isfinite();
    require(finite.all().item<bool>(), ErrorKind::kCorrupt,
            "InputStatistics::add: expected finite activations, channel ",
            finite.to(at::kByte).argmin().item<std::int64_t>(), " holds NaN or infinity");
  }
  for (const InputStatistics& part : parts)
    merge(part);
}

InputStatistics InputStatistics::of_block(const at::Tensor& values) {
  const std::int64_t tokens = values.size(0), in = values.size(1);
  InputStatistics block;
  block.tokens_ = tokens;
  block.low_ = values[0].clone();
  block.high_ = values[0].clone();
  block.squares_ = at::zeros({in}, at::kDouble);
  block.histogram_ = at::zeros({kBins}, at::kLong);
  float* const low = block.low_.data_ptr<float>();
  float* const high = block.high_.data_ptr<float>();
  double* const squares = block.squares_.data_ptr<double>();
  std::int64_t* const counts = block.histogram_.data_ptr<std::int64_t>();
  const float* row = values.const_data_ptr<float>();
  for (std::int64_t token = 0; token < tokens; ++token, row += in) {
    // Two loops: compilers vectorize the first one.
    for (std::int64_t c = 0; c < in; ++c) {
      low[c] = std::min(low[c], row[c]);
      high[c] = std::max(high[c], row[c]);
      squares[c] += static_cast<double>(row[c]) * row[c];
    }
    for (std::int64_t c = 0; c < in; ++c)
      ++counts[bin_of(row[c])];
  }
  return block;
}

void InputStatistics::merge(const InputStatistics& other) {
  if (other.tokens_ == 0) return;
  if (tokens_ == 0) {
    *this = other;
    return;
  }
  require(other.channels() == channels(), ErrorKind::kInvalidArgument,
          "InputStatistics::merge: expected ", channels(), " channels, got ", other.channels());
  tokens_ += other.tokens_;
  low_ = at::minimum(low_, other.low_);
  high_ = at::maximum(high_, other.high_);
  squares_ = squares_ + other.squares_;
  histogram_ = histogram_ + other.histogram_;
}

std::int64_t InputStatistics::channels() const {
  return tokens_ == 0 ? 0 : low_.size(0);
}

at::Tensor InputStatistics::second_moment() const {
  require(tokens_ > 0, ErrorKind::kInvalidArgument, "second_moment: nothing was added");
  return squares_ / tokens_;
}

double InputStatistics::magnitude_quantile(double share) const {
  require(tokens_ > 0, ErrorKind::kInvalidArgument, "magnitude_quantile: nothing was added");
  require(share > 0 && share <= 1, ErrorKind::kInvalidArgument,
          "magnitude_quantile: expected a share in (0, 1], got ", share);
  const double wanted = share * static_cast<double>(tokens_ * channels());
  const double largest = largest_magnitude(*this);
  std::int64_t within = 0, bin = 0;
  for (const std::int64_t count : counts_of(histogram_)) {
    within += count;
    if (static_cast<double>(within) >= wanted) return upper_edge(bin, largest);
    ++bin;
  }
  return largest;
}

double InputStatistics::lp_range(int bits, double p) const {
  require(tokens_ > 0, ErrorKind::kInvalidArgument, "lp_range: nothing was added");
  require(bits >= 2 && bits <= 8 && std::isfinite(p) && p > 0, ErrorKind::kInvalidArgument,
          "lp_range: expected 2..8 bits and a positive p, got ", bits, " and ", p);
  const double largest = largest_magnitude(*this);
  const std::int64_t top = bin_of(static_cast<float>(largest));
  if (top == 0) return largest;  // below the histogram
  std::vector<double> ranges = {largest};
  for (std::int64_t bin = top; bin > 0 && edge(bin) >= largest / 8; --bin)
    ranges.push_back(edge(bin));
  const WeightedPoints points = spread(counts_of(histogram_), largest);
  const Scheme scheme{.bits = bits, .symmetric = true};
  std::vector<double> errors(ranges.size());
  for_each_apart(static_cast<std::int64_t>(ranges.size()), [&](std::int64_t i) {
    const auto place = static_cast<std::size_t>(i);
    errors[place] = lp_error(points, ranges[place], scheme, p);
  });
  return ranges[static_cast<std::size_t>(std::ranges::min_element(errors) - errors.begin())];
}

void InputStatistics::save(const fs::path& file,
                           const std::map<std::string, InputStatistics>& all) {
  std::vector<TensorInfo> infos;
  std::vector<at::Tensor> tensors;
  for (const auto& [linear, statistics] : all) {
    require(statistics.tokens_ > 0, ErrorKind::kInvalidArgument, file.string(),
            ": nothing was added to the statistics of '", linear, "'");
    const std::array<at::Tensor, kParts.size()> parts = {
        at::full({1}, statistics.tokens_, at::kLong), statistics.histogram_, statistics.squares_,
        statistics.low_, statistics.high_};
    for (std::size_t i = 0; i < parts.size(); ++i) {
      infos.push_back({join(linear, ".", kParts[i]), dtype_of(parts[i]), parts[i].sizes().vec()});
      tensors.push_back(parts[i]);
    }
  }
  SafetensorsWriter writer(file, infos, {{"format", "pt"}});
  for (std::size_t i = 0; i < infos.size(); ++i)
    writer.write(infos[i].name, bytes_of(tensors[i]));
  writer.commit();
}

std::map<std::string, InputStatistics> InputStatistics::load(const fs::path& path) {
  const SafetensorsFile file(path);
  std::map<std::string, InputStatistics> all;
  for (const std::string& linear : linears_in(file)) {
    InputStatistics statistics;
    const at::Tensor tokens = read_part(file, linear + ".tokens", DType::kI64, 1);
    statistics.tokens_ = tokens.item<std::int64_t>();
    statistics.histogram_ = read_part(file, linear + ".histogram", DType::kI64, kBins);
    statistics.squares_ = read_part(file, linear + ".squares", DType::kF64);
    const std::int64_t in = statistics.squares_.size(0);
    statistics.low_ = read_part(file, linear + ".low", DType::kF32, in);
    statistics.high_ = read_part(file, linear + ".high", DType::kF32, in);
    const auto check = [&](const at::Tensor& holds, const char* part, const char* rule) {
      require(holds.all().item<bool>(), ErrorKind::kCorrupt, path.string(), ": tensor '", linear,
              ".", part, "': ", rule);
    };
    check(statistics.low_.isfinite() & (statistics.low_ <= statistics.high_), "low",
          "expected finite numbers, none above the highest");
    check(statistics.high_.isfinite(), "high", "expected finite numbers");
    check(statistics.squares_.isfinite() & (statistics.squares_ >= 0), "squares",
          "expected finite numbers, none below zero");
    check(statistics.histogram_ >= 0, "histogram", "expected counts");
    check((tokens > 0) & (statistics.histogram_.sum() == tokens * in), "tokens",
          "expected as many tokens as the histogram has values, divided by the channels");
    all.emplace(linear, std::move(statistics));
  }
  return all;
}

}  // namespace qvlm
