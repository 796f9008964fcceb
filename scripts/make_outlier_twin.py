#!/usr/bin/env python3
"""Writes an outlier twin of a LLaVA checkpoint: the same function, harder to quantize.

  make_outlier_twin.py MODEL OUT --kind diagonal|turned --seed 1 [--check]

The twins are stress tests. They show whether a quantizer copes with channels of very
unequal size; they are no evidence about the outliers of large models.

diagonal  multiplies a few norm gains, up_proj rows and v_proj rows of the decoder by
          powers of two from 16 to 128 and divides the weights that read them. Powers of
          two are exact, so the checkpoint keeps its own number type.
turned    folds the norm gains into the weights that follow, turns the residual stream
          onto its principal axes, so that few channels carry most of it, and scales
          up_proj and down_proj as above. It is saved in float32.

--check asserts that the logits moved by at most 1e-5 of their range in float32.
"""

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.utils import logging

from training.scenes import scene, scene_questions

NORM_CHANNELS, UP_CHANNELS, VALUE_CHANNELS = 4, 8, 2
TOLERANCE = 1e-5


def powers_of_two(rng, count):
    return torch.tensor(2.0 ** rng.integers(4, 8, count))


def channels(rng, size, count):
    return torch.from_numpy(rng.permutation(size)[: min(count, size)].copy())


def scale_rows(linear, rows, factors):
    linear.weight.data[rows] *= factors.to(linear.weight.dtype).unsqueeze(1)
    if linear.bias is not None:
        linear.bias.data[rows] *= factors.to(linear.weight.dtype)


def divide_columns(linear, columns, factors):
    linear.weight.data[:, columns] /= factors.to(linear.weight.dtype)


def readers(layer):
    """(norm, linears that read its output) of a decoder layer."""
    attention, mlp = layer.self_attn, layer.mlp
    return (
        (layer.input_layernorm, (attention.q_proj, attention.k_proj, attention.v_proj)),
        (layer.post_attention_layernorm, (mlp.gate_proj, mlp.up_proj)),
    )


def scale_up_down(layer, rng):
    rows = channels(rng, layer.mlp.up_proj.out_features, UP_CHANNELS)
    factors = powers_of_two(rng, len(rows))
    scale_rows(layer.mlp.up_proj, rows, factors)
    divide_columns(layer.mlp.down_proj, rows, factors)


def scale_value_output(layer, rng, width):
    """Several query heads read one value head, so its channel has a column in each."""
    value, output = layer.self_attn.v_proj, layer.self_attn.o_proj
    shared = output.in_features // value.out_features
    rows = channels(rng, value.out_features, VALUE_CHANNELS)
    factors = powers_of_two(rng, len(rows))
    scale_rows(value, rows, factors)
    for copy in range(shared):
        divide_columns(output, (rows // width * shared + copy) * width + rows % width, factors)


def make_diagonal(model, rng):
    decoder = model.model.language_model
    # Outlier channels of trained models keep their place from layer to layer.
    places = channels(rng, model.config.text_config.hidden_size, NORM_CHANNELS)
    for layer in decoder.layers:
        for norm, linears in readers(layer):
            factors = powers_of_two(rng, len(places))
            norm.weight.data[places] *= factors.to(norm.weight.dtype)
            for linear in linears:
                divide_columns(linear, places, factors)
        scale_up_down(layer, rng)
        scale_value_output(layer, rng, layer.self_attn.head_dim)


def fold_gain(norm, linears):
    for linear in linears:
        linear.weight.data *= norm.weight.data
    norm.weight.data.fill_(1.0)


def examples(processor, count):
    """Inputs of `count` generated scenes, one question each."""
    for index in range(count):
        rng = np.random.default_rng((7, index))
        image, shapes = scene(rng)
        content = [
            {"type": "image"},
            {"type": "text", "text": scene_questions(rng, shapes, 1)[0].text},
        ]
        text = processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )
        yield processor(images=image, text=text, return_tensors="pt")


@torch.no_grad()
def principal_axes(model, processor):
    """Orthogonal matrix whose columns are the residual stream's axes, largest first."""
    size = model.config.text_config.hidden_size
    moments = torch.zeros(size, size, dtype=torch.float64)
    for inputs in examples(processor, 16):
        for hidden in model(**inputs, output_hidden_states=True).hidden_states[:-1]:
            rows = hidden[0].double()
            moments += rows.T @ rows
    return torch.linalg.eigh(moments).eigenvectors.flip(1)


def turn_writer(linear, axes):
    linear.weight.data = axes.T @ linear.weight.data
    if linear.bias is not None:
        linear.bias.data = linear.bias.data @ axes


def make_turned(model, processor, rng):
    if model.config.tie_word_embeddings or model.config.text_config.tie_word_embeddings:
        sys.exit("turned needs an lm_head of its own: the final norm's gain is folded into it")
    axes = principal_axes(model, processor)
    # In double, so that one rounding to float32 at the end is the only error.
    model.double()
    decoder = model.model.language_model
    decoder.embed_tokens.weight.data = decoder.embed_tokens.weight.data @ axes
    turn_writer(model.model.multi_modal_projector.linear_2, axes)
    for layer in decoder.layers:
        for norm, linears in readers(layer):
            fold_gain(norm, linears)
            for linear in linears:
                linear.weight.data = linear.weight.data @ axes
        turn_writer(layer.self_attn.o_proj, axes)
        turn_writer(layer.mlp.down_proj, axes)
        scale_up_down(layer, rng)
    fold_gain(decoder.norm, (model.lm_head,))
    model.lm_head.weight.data = model.lm_head.weight.data @ axes
    model.float()


def load(folder, dtype):
    return LlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype).eval()


def copy_companions(source, target):
    """Tokenizer, processor and template files, as they are."""
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja", ".model") and not (target / file.name).exists():
            shutil.copyfile(file, target / file.name)


@torch.no_grad()
def check(source, twin, processor):
    models = load(source, torch.float32), load(twin, torch.float32)
    worst = 0.0
    for inputs in examples(processor, 8):
        first, second = (model(**inputs).logits for model in models)
        worst = max(worst, ((first - second).abs().max() / (first.max() - first.min())).item())
    print(f"largest logit difference: {worst:.2e} of the range")
    assert worst <= TOLERANCE, f"the twin computes something else (more than {TOLERANCE})"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kind", choices=("diagonal", "turned"), required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rng = np.random.default_rng(arguments.seed)
    processor = LlavaProcessor.from_pretrained(arguments.model)
    if arguments.kind == "diagonal":
        model = load(arguments.model, "auto")
        make_diagonal(model, rng)
    else:
        model = load(arguments.model, torch.float32)
        make_turned(model, processor, rng)
    model.save_pretrained(arguments.out)
    copy_companions(arguments.model, arguments.out)
    if arguments.check:
        check(arguments.model, arguments.out, processor)


if __name__ == "__main__":
    main()
