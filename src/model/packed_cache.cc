#include "model/packed_cache.h"

#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "io/sha256.h"

namespace qvlm {
namespace {

// Of the packed layout (docs/formats.md): another one makes every cache stale.
constexpr const char* kFormat = "qvlm-packed-1";

std::string shape_text(const kernels::PackedWeights& weights) {
  return join(weights.bits, " ", weights.out, " ", weights.in, " ", weights.group_size);
}

template <class T>
std::span<const std::byte> bytes_of_span(std::span<const T> values) {
  return std::as_bytes(values);
}

std::string checksum(const kernels::PackedWeights& weights) {
  return sha256(bytes_of_span(weights.codes)) + sha256(bytes_of_span(weights.scales)) +
         sha256(bytes_of_span(weights.zero_points));
}

std::vector<TensorInfo> tensors_of(const std::string& name, const kernels::PackedWeights& weights) {
  const auto size = [](std::size_t count) {
    return std::vector<std::int64_t>{static_cast<std::int64_t>(count)};
  };
  std::vector<TensorInfo> tensors = {{name + ".codes", DType::kU8, size(weights.codes.size())},
                                     {name + ".scales", DType::kF32, size(weights.scales.size())}};
  if (!weights.zero_points.empty()) {
    tensors.push_back({name + ".zero_points", DType::kI8, size(weights.zero_points.size())});
  }
  return tensors;
}

template <class T>
std::span<const T> values_of(const SafetensorsFile& file, const std::string& name) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) return {};
  const std::span<const std::byte> bytes = found->second.bytes;
  return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
}

std::int64_t round_up(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}

// Whether the parts are as long as the layout makes them.
bool has_its_sizes(const kernels::PackedWeights& weights) {
  if ((weights.bits != 4 && weights.bits != 8) || weights.out <= 0 || weights.in <= 0 ||
      weights.group_size < 0) {
    return false;
  }
  const std::int64_t columns = round_up(weights.out, 64);
  const auto codes = static_cast<std::size_t>(columns * round_up(weights.in, 8) * weights.bits / 8);
  const auto scales = static_cast<std::size_t>(columns * weights.groups());
  return weights.codes.size() == codes && weights.scales.size() == scales &&
         (weights.zero_points.empty() || weights.zero_points.size() == scales);
}

}  // namespace

PackedCache::PackedCache(std::filesystem::path file, const Checkpoint& checkpoint)
    : file_(std::move(file)), source_(sha256(join(kFormat, "\n", checkpoint.describe_files()))) {
  std::error_code code;
  const bool found = std::filesystem::exists(file_, code);
  require(!code, ErrorKind::kIo, "cannot read ", file_.string(), ": ", code.message());
  if (!found) return;
  try {
    auto mapped = std::make_shared<const SafetensorsFile>(file_);
    const auto source = mapped->metadata().find("source");
    if (source != mapped->metadata().end() && source->second == source_)
      mapped_ = std::move(mapped);
  } catch (const Error& error) {
    log_warning(join("the packed-layout cache is made anew: ", error.what()));
  }
}

std::optional<kernels::PackedWeights> PackedCache::find(std::string_view linear) const {
  if (!mapped_) return std::nullopt;
  const std::string name(linear);
  const auto shape = mapped_->metadata().find(name + ".shape");
  const auto sum = mapped_->metadata().find(name + ".sha256");
  if (shape == mapped_->metadata().end() || sum == mapped_->metadata().end()) return std::nullopt;
  kernels::PackedWeights weights;
  std::istringstream(shape->second) >> weights.bits >> weights.out >> weights.in >>
      weights.group_size;
  weights.codes = values_of<std::uint8_t>(*mapped_, name + ".codes");
  weights.scales = values_of<float>(*mapped_, name + ".scales");
  weights.zero_points = values_of<std::int8_t>(*mapped_, name + ".zero_points");
  weights.memory = mapped_;
  if (has_its_sizes(weights) && checksum(weights) == sum->second) return weights;
  log_warning(join(file_.string(), ": ", name, " is damaged; the cache is made anew"));
  return std::nullopt;
}

void PackedCache::add(std::string_view linear, const kernels::PackedWeights& weights) {
  added_.emplace(linear, weights);
}

void PackedCache::save() const {
  if (added_.empty()) return;
  std::map<std::string, kernels::PackedWeights, std::less<>> all = added_;
  std::map<std::string, std::string> metadata = {{"format", kFormat}, {"source", source_}};
  if (mapped_) {  // what was found stays
    for (const auto& [key, value] : mapped_->metadata()) {
      if (!key.ends_with(".shape")) continue;
      const std::string name = key.substr(0, key.size() - 6);
      if (all.contains(name)) continue;
      if (const auto weights = find(name)) all.emplace(name, *weights);
    }
  }
  std::vector<TensorInfo> tensors;
  for (const auto& [name, weights] : all) {
    metadata[name + ".shape"] = shape_text(weights);
    metadata[name + ".sha256"] = checksum(weights);
    const std::vector<TensorInfo> own = tensors_of(name, weights);
    tensors.insert(tensors.end(), own.begin(), own.end());
  }
  try {
    SafetensorsWriter writer(file_, tensors, metadata);
    for (const auto& [name, weights] : all) {
      writer.write(name + ".codes", bytes_of_span(weights.codes));
      writer.write(name + ".scales", bytes_of_span(weights.scales));
      if (!weights.zero_points.empty()) {
        writer.write(name + ".zero_points", bytes_of_span(weights.zero_points));
      }
    }
    writer.commit();
  } catch (const Error& error) {
    log_warning(join("the packed-layout cache was not written: ", error.what()));
  }
}

}  // namespace qvlm
