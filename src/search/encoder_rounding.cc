#include "search/encoder_rounding.h"

#include <algorithm>

#include "base/error.h"
#include "model/linear_list.h"
#include "model/projector.h"
#include "model/vit.h"
#include "quant/hadamard_rows.h"
#include "search/linear_rounding.h"

namespace qvlm {
namespace {

bool in_encoder(std::string_view linear) {
  return linear.starts_with("vision_tower.") || linear.starts_with("projector.");
}

// A quantized linear of the layer that is rounded.
struct Place {
  std::string name;       // whole
  std::size_t index = 0;  // among the linears of the layer
  LinearToRound linear;
};

class EncoderRounder {
 public:
  EncoderRounder(const std::shared_ptr<const WeightSource>& floats,
                 const ModelConfig& config,
                 const LinearSchemes& schemes,
                 const ReplacedTensors& replaced,
                 const RoundingOptions& options)
      : floats_(floats), config_(config), schemes_(schemes), options_(options) {
    result_.replaced = replaced;
    for (const LinearShape& linear : list_linears(config))
      shapes_[linear.name] = linear;
  }

  // Rounds the unit and moves the samples behind it.
  void run(const Unit& unit, std::vector<StreamedSample>& samples) {
    RoundedLinears codes;
    const Weights nearest(rounded({}), Execution::kPacked);
    if (unit.kind == UnitKind::kVisionLayer) {
      const VisionLayer layer(nearest.scope(unit.name), config_.vision);
      codes = round(unit, layer, samples, [](const StreamedSample& one) { return one.hidden; });
    } else if (unit.kind == UnitKind::kProjector) {
      const Projector projector(nearest.scope(unit.name), config_);
      codes = round(unit, projector, samples, [&](const StreamedSample& one) {
        return select_features(one.vision_states, config_);
      });
    }
    run_unit(unit, Weights(rounded(codes), Execution::kPacked), config_, samples);
    result_.codes.merge(codes);
  }

  EncoderRounding take_result() { return std::move(result_); }

 private:
  std::shared_ptr<const WeightSource> rounded(RoundedLinears codes) const {
    return std::make_shared<RoundedWeights>(floats_, schemes_, result_.replaced, std::move(codes));
  }

  template <typename Layer, typename InputOf>
  RoundedLinears round(const Unit& unit,
                       const Layer& layer,
                       const std::vector<StreamedSample>& samples,
                       const InputOf& input_of);
  std::vector<Place> list_places(const Unit& unit, const std::vector<NamedLinear>& linears) const;
  void correct_bias(const Place& place, const RoundedLinear& rounded);

  std::shared_ptr<const WeightSource> floats_;
  const ModelConfig& config_;
  const LinearSchemes& schemes_;
  const RoundingOptions& options_;
  std::map<std::string, LinearShape, std::less<>> shapes_;
  EncoderRounding result_;
};

std::vector<Place> EncoderRounder::list_places(const Unit& unit,
                                               const std::vector<NamedLinear>& linears) const {
  std::vector<Place> places;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const std::string name = unit.name + "." + linears[i].name;
    const auto scheme = schemes_.find(name);
    if (scheme == schemes_.end()) continue;
    const LinearShape& shape = shapes_.at(name);
    const at::Tensor stored = floats_->load(name + ".weight", {shape.out, shape.in});
    places.push_back(
        {name,
         i,
         {weight_to_round(stored.to(at::kFloat), scheme->second), linears[i].linear->bias(),
          stored.scalar_type(), scheme->second, static_cast<std::size_t>(linears[i].input)}});
  }
  return places;
}

template <typename Layer, typename InputOf>
RoundedLinears EncoderRounder::round(const Unit& unit,
                                     const Layer& layer,
                                     const std::vector<StreamedSample>& samples,
                                     const InputOf& input_of) {
  Layer named = layer;
  const std::vector<Place> places = list_places(unit, named.linears());
  std::vector<LinearToRound> linears;
  for (const Place& place : places)
    linears.push_back(place.linear);
  const RunWith run = [&](std::size_t sample, const std::vector<Linear>& replaced) {
    Layer watched = layer;
    const std::vector<NamedLinear> own = watched.linears();
    for (std::size_t i = 0; i < places.size(); ++i)
      *own[places[i].index].linear = replaced[i];
    watched.forward(input_of(samples[sample]));
  };
  const std::vector<RoundedLinear> found =
      round_linears(linears, samples.size(), run, {}, options_);
  RoundedLinears codes;
  for (std::size_t i = 0; i < places.size(); ++i) {
    codes[places[i].name] = to_quantized_weight(found[i].weight);
    if (options_.bias_correction) correct_bias(places[i], found[i]);
  }
  return codes;
}

// The mean of the output stays that of the unrounded weight on the same inputs.
void EncoderRounder::correct_bias(const Place& place, const RoundedLinear& rounded) {
  if (!place.linear.bias.defined()) return;
  const at::Tensor error = place.linear.weight - rounded.weight.dequantize();
  const at::Tensor shift = at::mv(error.to(at::kDouble), rounded.mean_input);
  result_.replaced[place.name + ".bias"] =
      (place.linear.bias.to(at::kDouble) + shift).to(at::kFloat);
}

}  // namespace

bool rounds_encoder(const LinearSchemes& schemes, const RoundingOptions& options) {
  if (options.method == RoundingMethod::kNearest && !options.bias_correction) return false;
  return std::ranges::any_of(schemes, [](const auto& entry) { return in_encoder(entry.first); });
}

EncoderRounding round_encoder(const std::shared_ptr<const WeightSource>& floats,
                              const ModelConfig& config,
                              const LinearSchemes& schemes,
                              const ReplacedTensors& replaced,
                              std::vector<StreamedSample> samples,
                              const RoundingOptions& options,
                              const std::function<void()>& on_layer,
                              const std::function<bool()>& stop_requested) {
  std::erase_if(samples, [](const StreamedSample& sample) { return !sample.pixels.defined(); });
  require(!samples.empty(), ErrorKind::kInvalidArgument,
          "rounding of vision tower and projector: no calibration sample has an image; give data "
          "with images, or keep both in float by an override");
  const c10::InferenceMode no_gradients;
  EncoderRounder rounder(floats, config, schemes, replaced, options);
  for (const Unit& unit : list_units(config)) {
    if (unit.kind == UnitKind::kTokenEmbedding) break;
    if (stop_requested && stop_requested()) return {.stopped = true};
    rounder.run(unit, samples);
    if (on_layer) on_layer();
  }
  return rounder.take_result();
}

}  // namespace qvlm
