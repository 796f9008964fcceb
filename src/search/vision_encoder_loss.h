// What the vision encoder is optimized for (docs/method.md): the loss of a batch of samples, and
// its gradient with respect to the parameters of a LearnedTower. The decoder stays float; it is
// loaded one layer at a time (search/float_decoder.h).
#pragma once

#include <qvlm/quantize.h>

#include <vector>

#include "search/float_decoder.h"
#include "search/learned_tower.h"
#include "search/vision_reference.h"

namespace qvlm {

using Batch = std::vector<std::size_t>;  // places of samples
// In this order, `size` a batch; the last may be smaller.
std::vector<Batch> cut_batches(const Batch& order, std::size_t size);

class VisionEncoderLoss {
 public:
  // The tower is not owned. Runs the samples in float; where the loss has entropies, measures
  // their weights with the tower as it is: w_k is the norm of the gradient of the decoder's output
  // error over all samples with respect to the output of layer k, divided by the mean of these
  // norms. (At the float model, where the error is 0, the gradient is 0 too.)
  VisionEncoderLoss(const VisionEncoderStudy& study, LearnedTower& tower);

  std::size_t samples() const { return reference_.samples.size(); }  // those with an image
  const std::vector<double>& weights() const { return weights_; }    // w_k; layers - 1 or none

  // Returns the terms on a batch and adds the gradient of `total` to those of the tower's
  // parameters. Errors are means over all tokens of the batch, entropies those of all its values.
  VisionLoss evaluate(const Batch& batch);

 private:
  std::vector<double> measure_weights();
  // The decoder's inputs with these image tokens.
  States place_images(const Batch& batch, const States& images) const;
  // Adds the gradient of the loss at the outputs of the decoder; returns the term.
  double add_answer_loss(const Batch& batch, const States& outputs, States& gradients) const;
  // Fills in what depends on the decoder and adds its gradient at the image tokens.
  void add_decoder_terms(const Batch& batch,
                         const States& images,
                         VisionLoss& terms,
                         States& gradients) const;

  VisionEncoderStudy study_;
  LearnedTower& tower_;
  FloatDecoder decoder_;
  VisionReference reference_;
  std::vector<double> weights_;
};

}  // namespace qvlm
