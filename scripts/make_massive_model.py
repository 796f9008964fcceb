#!/usr/bin/env python3
"""Makes a LLaVA whose residual stream has massive channels and a massive first token, as large models' have.

  make_massive_model.py MODEL OUT --steps 500

A few channels of the decoder's residual stream are amplified where they are written, and what reads them is divided by
as much; the first token is much larger still, in one of them. Norms then divide by other roots, so this is another
function: the model learns to answer as the original does, on generated scenes, some minutes on two cores. It is
another model, not a twin.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlavaProcessor
from transformers.utils import logging

from make_outlier_twin import channels, examples, load, readers
from training.model import PackedForward, export_model
from training.tasks import Packer, Scenes, Singles

CHANNELS, FACTOR = 4, 32.0
FIRST_TOKEN = 20.0  # as large as the largest of these channels elsewhere, so many times
RATE, WARMUP = 3e-4, 20


def writers(model):
    """The tensors [channel, ..] that the residual stream is a sum of."""
    decoder, projector = model.model.language_model, model.model.multi_modal_projector
    yield decoder.embed_tokens.weight.data.T
    yield projector.linear_2.weight.data
    yield projector.linear_2.bias.data
    for layer in decoder.layers:
        yield layer.self_attn.o_proj.weight.data
        yield layer.mlp.down_proj.weight.data


def norms_and_readers(model):
    decoder = model.model.language_model
    return [pair for layer in decoder.layers for pair in readers(layer)] + [(decoder.norm, (model.lm_head,))]


@torch.no_grad()
def norm_sizes(model, processor):
    """Root mean square of what each norm reads, the first token left out."""
    seen = {norm: [] for norm, _ in norms_and_readers(model)}
    hooks = [norm.register_forward_pre_hook(lambda _, x, own=own: own.append(x[0][0, 1:].square().mean().sqrt()))
             for norm, own in seen.items()]
    for inputs in examples(processor, 16):
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return [torch.stack(own).mean() for own in seen.values()]


@torch.no_grad()
def amplify(model, processor, rng):
    """Returns the channels."""
    places = channels(rng, model.config.text_config.hidden_size, CHANNELS)
    before = norm_sizes(model, processor)
    for tensor in writers(model):
        tensor[places] *= FACTOR
    for _, linears in norms_and_readers(model):
        for linear in linears:
            linear.weight.data[:, places] /= FACTOR
    table = model.model.language_model.embed_tokens.weight.data
    table[model.config.text_config.bos_token_id, places[0]] = FIRST_TOKEN * table[:, places].abs().max()
    for (norm, _), old, new in zip(norms_and_readers(model), before, norm_sizes(model, processor)):
        norm.weight.data *= new / old
    return places


def finetune(model, teacher, tokenizer, places, steps, batch):
    """Distils the teacher's answers. What reads the amplified channels stays: steps would be large beside it."""
    packer = Packer(tokenizer, torch.float32)
    student, original = (PackedForward(one, torch.float32, packer.image_start) for one in (model, teacher))
    parameters = list(model.model.language_model.parameters()) + list(model.lm_head.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARMUP) * 0.5 * (1 + math.cos(math.pi * step / steps)))
    scenes, singles = Scenes(), Singles()
    started, losses = time.monotonic(), []
    for step in range(steps):
        rng = np.random.default_rng((1, step))
        samples = packer.batch([(singles if i % 4 == 0 else scenes).sample(rng, False) for i in range(batch)])
        with torch.no_grad():
            wanted = original(samples).log_softmax(-1)
        loss = F.kl_div(student(samples).log_softmax(-1), wanted, log_target=True, reduction="batchmean")
        loss.backward()
        for _, linears in norms_and_readers(model):
            for linear in linears:
                linear.weight.grad[:, places] = 0.0
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        losses.append(loss.item())
        if (step + 1) % 25 == 0:
            print(f"step {step + 1} of {steps}, KL {np.mean(losses):.4f}, {time.monotonic() - started:.0f} s", flush=True)
            losses = []


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16, help="pictures a step")
    parser.add_argument("--seed", type=int, default=1, help="draws the channels")
    arguments = parser.parse_args()

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.manual_seed(arguments.seed)
    processor = LlavaProcessor.from_pretrained(arguments.model)
    model, teacher = (load(arguments.model, torch.float32) for _ in range(2))
    places = amplify(model, processor, np.random.default_rng(arguments.seed))
    print(f"channels {sorted(places.tolist())}, the first token in {places[0].item()}", flush=True)
    finetune(model, teacher, processor.tokenizer, places, arguments.steps, arguments.batch)
    export_model(model, processor.tokenizer, arguments.out)


if __name__ == "__main__":
    main()
