#include "io/quantized_checkpoint.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/packed_words.h"
#include "io/scale_values.h"

namespace qvlm {
namespace {

// Throws kCorrupt unless the tensor is what the scheme needs.
void check_tensor(const TensorView& tensor, DType dtype, const std::vector<std::int64_t>& shape) {
  TensorView expected{tensor.name, dtype, shape, {}};
  require(tensor.dtype == dtype && tensor.shape == shape, ErrorKind::kCorrupt, "tensor ",
          tensor.describe(), ": expected ", expected.describe());
}

// Views may lie at any address, so elements are copied out.
template <typename T>
std::vector<T> copy_elements(const TensorView& tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

template <typename T>
std::vector<std::byte> to_bytes(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

bool in_range(const std::vector<std::int8_t>& codes, int bits) {
  const int limit = 1 << (bits - 1);
  return std::ranges::all_of(codes, [&](int code) { return code >= -limit && code < limit; });
}

// Scales and zero points as the files hold them: one for a tensor, else [out, groups].
std::vector<std::int64_t> grid_shape(const Scheme& scheme, std::int64_t out, std::int64_t in) {
  if (scheme.granularity == Granularity::kTensor) return {1};
  return {out, group_count(scheme, in)};
}

template <typename T>
void repeat_for_rows(std::vector<T>& values, const Scheme& scheme, std::int64_t out) {
  if (scheme.granularity == Granularity::kTensor)
    values.assign(static_cast<std::size_t>(out), values.front());
}

void load_codes(const Checkpoint& checkpoint, const std::string& linear, QuantizedWeight& weight) {
  const std::optional<TensorView> packed = checkpoint.find_tensor(linear + ".weight_packed");
  if (packed) {
    const TensorView shape = checkpoint.get_tensor(linear + ".weight_shape");
    check_tensor(shape, DType::kI64, {2});
    const std::vector<std::int64_t> sizes = copy_elements<std::int64_t>(shape);
    constexpr std::int64_t kLimit = std::int64_t{1} << 31;
    require(sizes[0] > 0 && sizes[1] > 0 && sizes[0] < kLimit && sizes[1] < kLimit,
            ErrorKind::kCorrupt, "tensor ", shape.describe(), ": illegal sizes ", sizes[0], " x ",
            sizes[1]);
    weight.out = sizes[0];
    weight.in = sizes[1];
    check_tensor(*packed, DType::kI32,
                 {weight.out, packed_word_count(weight.in, weight.scheme.bits)});
    weight.codes = unpack_rows(copy_elements<std::int32_t>(*packed), weight.out, weight.in,
                               weight.scheme.bits);
    return;
  }
  const TensorView bytes = checkpoint.get_tensor(linear + ".weight");
  require(bytes.dtype == DType::kI8 && bytes.shape.size() == 2 && bytes.elements() > 0,
          ErrorKind::kCorrupt, "tensor ", bytes.describe(), ": expected a matrix of I8 codes");
  weight.out = bytes.shape[0];
  weight.in = bytes.shape[1];
  weight.codes = copy_elements<std::int8_t>(bytes);
  require(in_range(weight.codes, weight.scheme.bits), ErrorKind::kCorrupt, "tensor ",
          bytes.describe(), ": a code does not fit ", weight.scheme.bits, " bits");
}

void load_zero_points(const Checkpoint& checkpoint,
                      const std::string& linear,
                      QuantizedWeight& weight) {
  const TensorView tensor = checkpoint.get_tensor(linear + ".weight_zero_point");
  const Scheme& scheme = weight.scheme;
  if (tensor.dtype == DType::kI32 && scheme.granularity != Granularity::kTensor) {
    check_tensor(tensor, DType::kI32, {packed_word_count(weight.out, scheme.bits), weight.groups});
    weight.zero_points =
        unpack_columns(copy_elements<std::int32_t>(tensor), weight.out, weight.groups, scheme.bits);
    return;
  }
  check_tensor(tensor, DType::kI8, grid_shape(scheme, weight.out, weight.in));
  weight.zero_points = copy_elements<std::int8_t>(tensor);
  require(in_range(weight.zero_points, scheme.bits), ErrorKind::kCorrupt, "tensor ",
          tensor.describe(), ": a zero point does not fit ", scheme.bits, " bits");
  repeat_for_rows(weight.zero_points, scheme, weight.out);
}

// One scale or zero point per row of the files; kTensor stores a single one.
template <typename T>
std::vector<T> stored_grid(const std::vector<T>& values, const Scheme& scheme) {
  if (scheme.granularity != Granularity::kTensor) return values;
  require(std::ranges::all_of(values, [&](T value) { return value == values.front(); }),
          ErrorKind::kInternal, "a per-tensor grid differs between rows");
  return {values.front()};
}

void check_weight(std::string_view module, const Scheme& scheme, const QuantizedWeight& weight) {
  const auto codes = static_cast<std::size_t>(weight.out * weight.in);
  const auto grid = static_cast<std::size_t>(weight.out * weight.groups);
  const bool fits = weight.scheme == scheme && weight.out > 0 && weight.in > 0 &&
                    weight.groups == group_count(scheme, weight.in) &&
                    weight.codes.size() == codes && weight.scales.size() == grid &&
                    weight.zero_points.size() == (scheme.symmetric ? 0 : grid);
  require(fits, ErrorKind::kInternal, "linear '", module,
          "': sizes or scheme contradict the announcement");
  require(in_range(weight.codes, scheme.bits) && in_range(weight.zero_points, scheme.bits),
          ErrorKind::kInternal, "linear '", module, "': a code does not fit ", scheme.bits,
          " bits");
  const auto legal = [](float scale) { return std::isfinite(scale) && scale > 0; };
  require(std::ranges::all_of(weight.scales, legal), ErrorKind::kInternal, "linear '", module,
          "': a scale is not finite and positive");
}

}  // namespace

bool has_whole_groups(const Scheme& scheme, std::int64_t in) {
  return scheme.granularity != Granularity::kGroup || in % scheme.group_size == 0;
}

std::int64_t group_count(const Scheme& scheme, std::int64_t in) {
  if (scheme.granularity != Granularity::kGroup) return 1;
  return in / scheme.group_size;
}

QuantizedWeight load_quantized_weight(const Checkpoint& checkpoint,
                                      std::string_view linear,
                                      const Scheme& scheme) {
  const std::string name(linear);
  require(!checkpoint.find_tensor(name + ".weight_g_idx"), ErrorKind::kUnsupported, "linear '",
          checkpoint.names().module_to_file(name),
          "': reordered groups (weight_g_idx) are not supported");
  QuantizedWeight weight;
  weight.scheme = scheme;
  load_codes(checkpoint, name, weight);
  require(has_whole_groups(scheme, weight.in), ErrorKind::kUnsupported, "linear '",
          checkpoint.names().module_to_file(name), "': its ", weight.in,
          " inputs are no multiple of the group size ", scheme.group_size);
  weight.groups = group_count(scheme, weight.in);
  const TensorView scales = checkpoint.get_tensor(name + ".weight_scale");
  check_tensor(scales, scales.dtype, grid_shape(scheme, weight.out, weight.in));
  weight.scales = decode_scales(scales);
  const auto legal = [](float scale) { return std::isfinite(scale) && scale >= 0; };
  require(std::ranges::all_of(weight.scales, legal), ErrorKind::kCorrupt, "tensor ",
          scales.describe(), ": a scale is negative or not finite");
  repeat_for_rows(weight.scales, scheme, weight.out);
  if (!scheme.symmetric) load_zero_points(checkpoint, name, weight);
  return weight;
}

bool is_stored_packed(const LinearScheme& scheme) {
  const int bits = scheme.weight.bits;
  const std::optional<Scheme>& activation = scheme.activation;
  const bool w8a8 = bits == 8 && activation && activation->bits == 8 && activation->dynamic;
  return (bits == 2 || bits == 4 || bits == 8) && !w8a8;
}

StoredLinear describe_stored(std::string_view module,
                             const LinearScheme& scheme,
                             std::int64_t out,
                             std::int64_t in,
                             DType scale_dtype) {
  const std::string name(module);
  const Scheme& weight = scheme.weight;
  const std::vector<std::int64_t> grid = grid_shape(weight, out, in);
  StoredLinear stored;
  stored.packed = is_stored_packed(scheme);
  if (stored.packed) {
    stored.tensors.push_back(
        {name + ".weight_packed", DType::kI32, {out, packed_word_count(in, weight.bits)}});
  } else {
    stored.tensors.push_back({name + ".weight", DType::kI8, {out, in}});
  }
  stored.tensors.push_back({name + ".weight_scale", scale_dtype, grid});
  if (stored.packed) stored.tensors.push_back({name + ".weight_shape", DType::kI64, {2}});
  if (weight.symmetric) return stored;
  const bool words = stored.packed && weight.granularity != Granularity::kTensor;
  stored.tensors.push_back(words ? TensorInfo{name + ".weight_zero_point",
                                              DType::kI32,
                                              {packed_word_count(out, weight.bits), grid[1]}}
                                 : TensorInfo{name + ".weight_zero_point", DType::kI8, grid});
  return stored;
}

std::map<std::string, std::vector<std::byte>> encode_stored(std::string_view module,
                                                            const LinearScheme& scheme,
                                                            const QuantizedWeight& weight,
                                                            DType scale_dtype) {
  const std::string name(module);
  const Scheme& form = scheme.weight;
  check_weight(module, form, weight);
  const bool packed = is_stored_packed(scheme);
  std::map<std::string, std::vector<std::byte>> bytes;
  bytes[name + ".weight_scale"] = encode_scales(stored_grid(weight.scales, form), scale_dtype);
  if (packed) {
    bytes[name + ".weight_packed"] =
        to_bytes(pack_rows(weight.codes, weight.out, weight.in, form.bits));
    bytes[name + ".weight_shape"] = to_bytes(std::vector<std::int64_t>{weight.out, weight.in});
  } else {
    bytes[name + ".weight"] = to_bytes(weight.codes);
  }
  if (form.symmetric) return bytes;
  const bool words = packed && form.granularity != Granularity::kTensor;
  bytes[name + ".weight_zero_point"] =
      words ? to_bytes(pack_columns(weight.zero_points, weight.out, weight.groups, form.bits))
            : to_bytes(stored_grid(weight.zero_points, form));
  return bytes;
}

}  // namespace qvlm
