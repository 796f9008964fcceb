#!/usr/bin/env python3
"""Proves that what qvlm writes is what the compressed-tensors package means, and runs the same.

  check_interop.py QVLM MODEL WORKDIR [--image FILE --prompt TEXT]

Quantizes MODEL with the w4a16 and w8a8 recipes into WORKDIR, and for each folder checks that
  - every quantized linear is, byte for byte, what the package itself makes of the source weight;
  - transformers loads it without a missing or an unexpected tensor, every quantized linear with its
    scheme, and its decompressed weights are our codes times our scales;
  - transformers' logits and `qvlm generate --save-logits` agree.
W8A8 is checked once more on a copy of MODEL with one decoder layer, where logits can be compared
closely. Of a rotated model, whose down projections transform their inputs while it runs, logits are
compared with transformers' after the package has applied the transform_config that qvlm declares. A
folder with weights of 4 and 8 bits is loaded and its logits are compared.
Prints a table, limits in brackets; exits 1 if anything disagrees.
"""

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import transformers
import yaml
from compressed_tensors.transform import TransformConfig, apply_transform_config
from PIL import Image
from safetensors.torch import load_file
from transformers import LlavaForConditionalGeneration, LlavaProcessor

from interop.cut_model import cut_model
from interop.files import check_files, load_folder, real_weights

ROOT = Path(__file__).resolve().parent.parent
RECIPES = ROOT / "configs" / "recipes"
ROTATED = "rotated-w4a4"
MIXED = "mixed-w4a16"
IMAGES = ROOT / "tests" / "data" / "llava" / "images"
QUESTIONS = (
    (IMAGES / "a.png", "what colour is the circle?"),
    (IMAGES / "b.png", "is there a red square?"),
)


@dataclass
class Limits:
    """How far apart logits may be, as shares of the range of all logits."""
    worst: float  # over all positions
    mean: float
    median: float  # over positions, of the worst at each


# w4a16: both multiply the same float32 weights with the same float32 inputs and differ in the order
# of additions only. Measured: worst 2.4e-07.
#
# w8a8: inputs are rounded to 255 levels. Two right implementations differ in the last bit before
# rounding, so now and then an input that lies at a tie takes the other code, and every later layer
# passes that step on. Measured through all 12 layers of two exports of the reference model: worst
# 2.0e-03 to 1.0e-02, mean 1.2e-04 to 2.8e-04; transformers against itself with noise in the last
# bit of each linear's input: 2.7e-03 and 1.4e-04. Dividing by 127 instead of 127.5 is no further
# off there (1.6e-04), so at full depth the limits only catch blunders. With one decoder layer most
# positions meet no tie at all, and the median tells: 1.7e-07 for qvlm, 3.5e-04 when scales are
# wrong by 0.1 %, 4.9e-04 when activations are not rounded.
LIMITS = {"w4a16": Limits(1e-4, 1e-5, 1e-5), "w8a8": Limits(1e-1, 2e-3, 2e-2)}
ONE_LAYER = Limits(2e-2, 1e-3, 1e-5)


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stderr}")


def quantize(arguments, model, recipe, out):
    shutil.rmtree(out, ignore_errors=True)
    run(arguments.qvlm, "quantize", model, out, "--recipe", RECIPES / f"{recipe}.yaml")


def load_model(folder):
    model, report = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    wrong = {key: sorted(report[key]) for key in ("missing_keys", "unexpected_keys",
                                                  "mismatched_keys") if report[key]}
    return model.eval(), wrong


def their_inputs(processor, image, prompt):
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True)
    with Image.open(image) as opened:
        return processor(images=opened.convert("RGB"), text=text, return_tensors="pt")


def our_logits(arguments, folder, image, prompt):
    # Packed W4A16 rounds its inputs to bfloat16; transformers multiplies in float32. Activations of the rotated model are
    # in no standard config, so transformers leaves them alone.
    in_float = "w4a16" in folder.name or folder.name == ROTATED
    file = folder.parent / f"{folder.name}.logits.safetensors"
    file.unlink(missing_ok=True)
    run(arguments.qvlm, "generate", folder, "--image", image, "--prompt", prompt,
        "--max-new-tokens", "1", "--save-logits", file,
        "--execution", "float" if in_float else "packed")
    return load_file(file)["logits"]


def compare_logits(arguments, folder, model, limits):
    """Checks of every question: (what, passed, figure)."""
    processor = LlavaProcessor.from_pretrained(folder)
    for image, prompt in arguments.questions:
        inputs = their_inputs(processor, image, prompt)
        theirs = model(**inputs).logits[0]
        ours = our_logits(arguments, folder, image, prompt)
        what = f"logits of {image.name}"
        if ours.shape != theirs.shape:
            yield what, False, f"shape {tuple(ours.shape)}, theirs {tuple(theirs.shape)}"
            continue
        gap = (ours - theirs).abs() / (theirs.max() - theirs.min())
        measured = Limits(float(gap.max()), float(gap.mean()), float(gap.amax(-1).median()))
        same = float((ours.argmax(-1) == theirs.argmax(-1)).float().mean())
        passed = all(getattr(measured, field.name) <= getattr(limits, field.name)
                     for field in fields(Limits))
        yield what, passed, (f"worst {measured.worst:.1e} ({limits.worst:.0e}), "
                             f"mean {measured.mean:.1e} ({limits.mean:.0e}), "
                             f"median {measured.median:.1e} ({limits.median:.0e}), "
                             f"best token equal at {same:.1%}")


def runtime_name(name):
    """File layout of a module's name -> transformers' own in memory."""
    for old, new in (("language_model.lm_head", "lm_head"),
                     ("language_model.model.", "model.language_model."),
                     ("vision_tower.vision_model.", "model.vision_tower."),
                     ("vision_tower.", "model.vision_tower."),
                     ("multi_modal_projector.", "model.multi_modal_projector.")):
        if name.startswith(old):
            return new + name[len(old):]
    return name.replace("vision_tower.vision_model.", "vision_tower.")


def check_loaded(model, folder, wrong):
    """Run after the first forward pass, which decompresses the weights."""
    yield "every tensor of the folder has its place", not wrong, str(wrong or "")
    modules = {name: module for name, module in model.named_modules()
               if getattr(module, "quantization_scheme", None) is not None}
    expected = {runtime_name(name): weight for name, weight in real_weights(folder).items()}
    yield ("transformers quantizes the same linears", modules.keys() == expected.keys(),
           f"{len(modules)}, ours {len(expected)}")
    differing = [name for name, weight in expected.items()
                 if name in modules and not torch.equal(modules[name].weight.float(), weight)]
    yield ("decompressed weights = codes * scales", not differing,
           ", ".join(differing[:3]) or f"{len(expected)} linears")


def check_recipe(arguments, source, recipe, folder, limits):
    quantize(arguments, source, recipe, folder)
    yield from check_files(load_folder(source), folder)
    model, wrong = load_model(folder)
    logits = list(compare_logits(arguments, folder, model, limits))
    yield from check_loaded(model, folder, wrong)
    yield from logits


def check_rotated(arguments, folder):
    """Without the transform of the inputs, answers are nonsense: the second figure shows that it is needed."""
    shutil.rmtree(folder, ignore_errors=True)
    recipe = yaml.safe_load((RECIPES / f"{ROTATED}.yaml").read_text())
    recipe.pop("rounding"), recipe.pop("calibration")  # no data here
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    run(arguments.qvlm, "quantize", arguments.model, folder, "--recipe", file)
    model, wrong = load_model(folder)
    yield "every tensor of the folder has its place", not wrong, str(wrong or "")
    config = json.loads((folder / "config.json").read_text())["quantization_config"]["transform_config"]
    before = list(compare_logits(arguments, folder, model, LIMITS["w4a16"]))
    yield "transformers alone answers otherwise", not any(passed for _, passed, _ in before), before[0][2]
    apply_transform_config(model, TransformConfig(**config))
    yield from compare_logits(arguments, folder, model, LIMITS["w4a16"])


def check_mixed(arguments, folder):
    """Weights of 4 and 8 bits in one folder, as mixed precision writes them."""
    shutil.rmtree(folder, ignore_errors=True)
    recipe = yaml.safe_load((RECIPES / "w4a16.yaml").read_text())
    recipe["overrides"].append({"match": r"decoder\.layers\.(0\.self_attn|1\.mlp)\..*", "weight": {"bits": 8}})
    file = folder.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe))
    run(arguments.qvlm, "quantize", arguments.model, folder, "--recipe", file)
    model, wrong = load_model(folder)
    yield "every tensor of the folder has its place", not wrong, str(wrong or "")
    schemes = [module.quantization_scheme for module in model.modules() if getattr(module, "quantization_scheme", None)]
    bits = [scheme.weights.num_bits for scheme in schemes]
    yield "transformers sees both schemes", (bits.count(4), bits.count(8)) == (77, 7), f"{bits.count(4)}, {bits.count(8)}"
    yield from compare_logits(arguments, folder, model, LIMITS["w4a16"])


def runs(arguments):
    """(name, source, recipe, limits) of every folder to check."""
    for recipe, limits in LIMITS.items():
        yield recipe, arguments.model, recipe, limits
    short = arguments.workdir / "one-layer"
    cut_model(arguments.model, short, layers=1)
    yield "w8a8-one-layer", short, "w8a8", ONE_LAYER


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("qvlm", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("workdir", type=Path)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--prompt", default="what is shown?")
    arguments = parser.parse_args()
    arguments.questions = ([(arguments.image, arguments.prompt)] if arguments.image else QUESTIONS)
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    failures = 0
    with torch.inference_mode():
        for name, source, recipe, limits in runs(arguments):
            folder = arguments.workdir / name
            for what, passed, figure in check_recipe(arguments, source, recipe, folder, limits):
                print(f"{name:14} {'ok  ' if passed else 'FAIL'} {what:42} {figure}", flush=True)
                failures += not passed
        for name, check in ((ROTATED, check_rotated), (MIXED, check_mixed)):
            for what, passed, figure in check(arguments, arguments.workdir / name):
                print(f"{name:14} {'ok  ' if passed else 'FAIL'} {what:42} {figure}", flush=True)
                failures += not passed
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
