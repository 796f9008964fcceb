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

// The quantized linears of the layer that is rounded.
struct Places {
  std::vector<std::string> names;    // whole
  std::vector<std::size_t> indices;  // among the linears of the layer
  std::vector<LinearToRound> linears;
};

class EncoderRounder {
 public:
  explicit EncoderRounder(const EncoderStudy& study) : study_(study) {
    result_.replaced = study.replaced;
  }

  // Rounds the unit and moves the samples behind it.
  void run(const Unit& unit, std::vector<StreamedSample>& samples) {
    const Weights layer_weights = Weights(rounded({}, {}), Execution::kFloat).scope(unit.name);
    RoundedLinears codes;
    if (unit.kind == UnitKind::kVisionLayer) {
      const VisionLayer layer(layer_weights, study_.config.vision);
      codes = round(unit, layer, samples, [](const StreamedSample& one) { return one.hidden; });
    } else if (unit.kind == UnitKind::kProjector) {
      const Projector projector(layer_weights, study_.config);
      codes = round(unit, projector, samples, [&](const StreamedSample& one) {
        return select_features(one.vision_states, study_.config);
      });
    }
    run_unit(unit, Weights(rounded(study_.schemes, codes), Execution::kPacked), study_.config,
             samples);
    result_.codes.merge(codes);
  }

  EncoderRounding take_result() { return std::move(result_); }

 private:
  std::shared_ptr<const WeightSource> rounded(const LinearSchemes& schemes,
                                              RoundedLinears codes) const {
    return std::make_shared<RoundedWeights>(study_.floats, schemes, result_.replaced,
                                            std::move(codes));
  }

  template <typename Layer, typename InputOf>
  RoundedLinears round(const Unit& unit,
                       const Layer& layer,
                       const std::vector<StreamedSample>& samples,
                       const InputOf& input_of);
  Places list_places(const Unit& unit, const std::vector<NamedLinear>& linears) const;

  const EncoderStudy& study_;
  EncoderRounding result_;
};

Places EncoderRounder::list_places(const Unit& unit,
                                   const std::vector<NamedLinear>& linears) const {
  Places places;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const std::string name = unit.name + "." + linears[i].name;
    const auto scheme = study_.schemes.find(name);
    if (scheme == study_.schemes.end()) continue;
    const at::Tensor& stored = linears[i].linear->dense_weight();
    places.names.push_back(name);
    places.indices.push_back(i);
    places.linears.push_back({weight_to_round(stored.to(at::kFloat), scheme->second),
                              linears[i].linear->bias(), stored.scalar_type(), scheme->second,
                              static_cast<std::size_t>(linears[i].input)});
  }
  return places;
}

template <typename Layer, typename InputOf>
RoundedLinears EncoderRounder::round(const Unit& unit,
                                     const Layer& layer,
                                     const std::vector<StreamedSample>& samples,
                                     const InputOf& input_of) {
  Layer named = layer;
  const Places places = list_places(unit, named.linears());
  const RunWith run = [&](std::size_t sample, const std::vector<Linear>& replaced) {
    Layer watched = layer;
    const std::vector<NamedLinear> own = watched.linears();
    for (std::size_t i = 0; i < replaced.size(); ++i)
      *own[places.indices[i]].linear = replaced[i];
    watched.forward(input_of(samples[sample]));
  };
  const RoundingOptions& options = study_.options;
  const std::vector<QuantizedTensor> found =
      round_linears(places.linears, samples.size(), run, {}, options);
  RoundedLinears codes;
  for (std::size_t i = 0; i < found.size(); ++i)
    codes[places.names[i]] = to_quantized_weight(found[i]);
  if (!options.bias_correction) return codes;
  const std::vector<at::Tensor> biases = correct_biases(places.linears, found, samples.size(), run);
  for (std::size_t i = 0; i < biases.size(); ++i) {
    if (biases[i].defined()) result_.replaced[places.names[i] + ".bias"] = biases[i];
  }
  return codes;
}

}  // namespace

bool rounds_encoder(const LinearSchemes& schemes, const RoundingOptions& options) {
  if (options.method == RoundingMethod::kNearest && !options.bias_correction) return false;
  return std::ranges::any_of(schemes, [](const auto& entry) { return is_in_encoder(entry.first); });
}

void check_images(const std::vector<StreamedSample>& samples) {
  const bool some = std::ranges::any_of(
      samples, [](const StreamedSample& sample) { return sample.pixels.defined(); });
  require(some, ErrorKind::kInvalidArgument,
          "rounding of vision tower and projector: no calibration sample has an image; give data "
          "with images, or keep both in float by an override");
}

EncoderRounding round_encoder(const EncoderStudy& study,
                              std::vector<StreamedSample> samples,
                              const std::function<void()>& on_layer,
                              const std::function<bool()>& stop_requested) {
  check_images(samples);
  std::erase_if(samples, [](const StreamedSample& sample) { return !sample.pixels.defined(); });
  const c10::InferenceMode no_gradients;
  EncoderRounder rounder(study);
  for (const Unit& unit : list_units(study.config)) {
    if (unit.kind == UnitKind::kTokenEmbedding) break;
    if (stop_requested && stop_requested()) return {.stopped = true};
    rounder.run(unit, samples);
    if (on_layer) on_layer();
  }
  return rounder.take_result();
}

}  // namespace qvlm
