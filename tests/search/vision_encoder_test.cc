// What the optimization of the vision encoder does to a tiny model.
#include "search/vision_encoder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <memory>

#include "base/error.h"
#include "base/parallel.h"
#include "model/projector.h"
#include "model/rounded_weights.h"
#include "search/adam.h"
#include "search/tiny_study.h"

namespace qvlm {
namespace {

using ::testing::HasSubstr;

VisionEncoderOptions entropy_only(double weight) {
  VisionEncoderOptions options = no_terms();
  options.entropy_weight = weight;
  options.epochs = 8;
  options.batch = 4;
  options.rate = 0.05;
  return options;
}

class VisionEncoderTest : public testing::Test {
 protected:
  VisionEncoderOutcome optimize(const VisionEncoderOptions& options) const {
    return optimize_vision_encoder(tiny_.with(options));
  }

  TinyStudy tiny_{"hub_default"};
};

TEST_F(VisionEncoderTest, Print) {
  for (const char* name : {"hub_default", "partial_tied", "full_two_layers"}) {
    const TinyStudy tiny(name);
    for (const double weight : {1.0, -1.0, 0.0}) {
      VisionEncoderOptions options = entropy_only(weight);
      if (weight == 0.0) options.error_weight = 1.0;
      const VisionEncoderOutcome outcome = optimize_vision_encoder(tiny.with(options));
      std::printf("%s %g:", name, weight);
      for (const LossTerms& epoch : outcome.epochs)
        std::printf(" %.5f", epoch.total);
      std::printf("\n");
      for (const auto& [linear, scheme] : outcome.schemes)
        std::printf("%.2f/%.2f ", scheme.weight.clip_ratio, scheme.activation->clip_ratio);
      std::printf("\n");
    }
  }
}

}  // namespace
}  // namespace qvlm
