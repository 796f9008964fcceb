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
    for (const int bits : {3, 4})
    for (const double rate : {0.02, 0.05}) {
    TinyStudy tiny(name);
    for (auto& [linear, scheme] : tiny.schemes) scheme.weight.bits = scheme.activation->bits = bits;
    for (const double weight : {1.0, -1.0, 0.0}) {
      VisionEncoderOptions options = entropy_only(weight);
      options.epochs = 16;
      options.rate = rate;
      if (weight == 0.0) options.error_weight = 1.0;
      const VisionEncoderOutcome outcome = optimize_vision_encoder(tiny.with(options));
      double last = 0;
      for (int i = 12; i < 16; ++i) last += outcome.epochs[i].total / 4;
      std::printf("%s bits %d rate %g w %g: first %.5f last quarter %.5f\n", name, bits, rate, weight, outcome.epochs[0].total, last);
    }
    }
  }
}

}  // namespace
}  // namespace qvlm
