#!/usr/bin/env python3
"""Writes golden files: what transformers computes, for qvlm's own code to be compared with.

  make_goldens.py [--out tests/data/llava] [--case NAME ...]    tiny random LLaVA checkpoints
  make_goldens.py --bundled [--model DIR] [--out FOLDER]        the bundled reference model

A case is a folder that a user could have: config.json, weights, processor config. Beside them lie
golden.safetensors (tensors "promptN.<what>") and golden.json (ids, image names, noise). Goldens
come from the folder as it was written, loaded again in float32 with eager attention, so that
the file layout and the spelling of config.json are part of what is tested. Needs transformers and
Pillow.
"""

import argparse
import hashlib
import itertools
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import PIL
import safetensors.torch
import torch
import transformers
from PIL import Image
from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from goldens.llava_cases import CASES, EOS, IMAGE_TOKEN, prompt_texts

ROOT = Path(__file__).resolve().parent.parent
NEW_TOKENS = 12
QUESTIONS = ("what color is the shape?", "how many shapes are there?", "is there a circle?")


def write_images(folder):
    """Two images with smooth and sharp parts, none of them square."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(7)
    for name, (width, height) in {"a": (61, 44), "b": (37, 53)}.items():
        rows, columns = np.mgrid[0:height, 0:width]
        pixels = np.stack(
            [128 + 120 * np.sin(columns / random.uniform(3, 9) + rows / random.uniform(4, 12))
             for _ in range(3)], axis=-1)
        for _ in range(4):
            top, left = random.integers(0, height - 8), random.integers(0, width - 8)
            pixels[top:top + random.integers(4, 16), left:left + random.integers(4, 16)] = (
                random.integers(0, 256, 3))
        pixels = pixels.clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png", optimize=True)


def randomize(model, seed):
    """Weights under which every part of the model matters: attention that is neither uniform nor
    one-hot, norm gains that differ by channel, biases that are not zero."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor, std, mean=0.0):
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * std + mean)

    with torch.no_grad():
        for name, tensor in sorted(model.named_parameters()):
            if name.endswith("bias"):
                normal(tensor, 0.1)
            elif tensor.dim() == 1 and "class_embedding" not in name:
                normal(tensor, 0.15, mean=1.0)
            elif "patch_embedding" in name:
                normal(tensor, 1.2 / tensor[0].numel() ** 0.5)
            elif "embed" in name:
                normal(tensor, 0.4)
            elif "q_proj" in name or "k_proj" in name:
                normal(tensor, 0.25)
            else:
                normal(tensor, 0.15)


def rename_weights(folder, rename):
    for file in folder.glob("*.safetensors"):
        loaded = safetensors.torch.load_file(file)
        tensors = {rename(name): tensor for name, tensor in loaded.items()}
        safetensors.torch.save_file(tensors, file, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    if index.exists():
        content = json.loads(index.read_text())
        shards = content["weight_map"].items()
        content["weight_map"] = {rename(name): shard for name, shard in shards}
        index.write_text(json.dumps(content, indent=1) + "\n")


def save_checkpoint(case, folder):
    config = LlavaConfig(
        text_config=case.text, vision_config=case.vision, image_token_index=IMAGE_TOKEN, **case.top)
    config.image_seq_length = image_tokens(config)
    model = LlavaForConditionalGeneration(config).float()
    randomize(model, case.seed)
    if case.bf16:
        model = model.to(torch.bfloat16)
    model.save_pretrained(
        folder, save_original_format=case.layout in ("hub", "saved5", "short"),
        max_shard_size="90KB" if case.sharded else "1GB")
    if case.rename:
        rename_weights(folder, case.rename)
    file = folder / "config.json"
    written = case.rewrite(json.loads(file.read_text()))
    file.write_text(json.dumps(written, indent=1) + "\n")
    for name, content in case.processor_files().items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n")


def image_features(model, pixels):
    """The tower's selected hidden state before and after feature selection, and the projector's
    output, computed by the steps of LlavaModel.get_image_features."""
    config = model.config
    states = model.model.vision_tower(pixels, output_hidden_states=True).hidden_states
    layers = config.vision_feature_layer
    chosen = [states[layer] for layer in ([layers] if isinstance(layers, int) else layers)]
    hidden = torch.cat(chosen, dim=-1)
    selected = hidden[:, 1:] if config.vision_feature_select_strategy == "default" else hidden
    projected = model.model.multi_modal_projector(selected)
    official = torch.cat(list(model.get_image_features(pixels).pooler_output))
    assert torch.equal(official, projected[0])
    return hidden[0], selected[0], projected[0]


def greedy_margin(model, inputs, generated):
    """The smallest gap between best and second-best logit over the generated tokens."""
    ids = torch.cat([inputs["input_ids"], generated[None]], dim=1)
    logits = model(**{**inputs, "input_ids": ids}).logits[0, inputs["input_ids"].shape[1] - 1:-1]
    best = logits.topk(2, dim=-1).values
    return float((best[:, 0] - best[:, 1]).min())


def golden_of(model, pixels, ids):
    inputs = {"pixel_values": pixels, "input_ids": torch.tensor([ids])}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    hidden, selected, projected = image_features(model, pixels)
    logits = model(**inputs).logits[0]
    generated = model.generate(
        **inputs, max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0)[0, len(ids):]
    strange = {EOS, model.config.image_token_id} & set(generated.tolist())
    assert not strange, f"the random model generates {strange}: change the seed"
    exact = model.double()(**{**inputs, "pixel_values": pixels.double()}).logits[0]
    model.float()
    facts = {
        "input_ids": ids,
        "generated": generated.tolist(),
        "greedy_margin": greedy_margin(model, inputs, generated),
        "logit_range": float(logits.max() - logits.min()),
        "float32_noise": float((exact - logits).abs().max()),
    }
    tensors = {
        "pixel_values": pixels[0], "tower_hidden": hidden, "tower_selected": selected,
        "projector": projected, "input_ids": inputs["input_ids"][0], "logits": logits,
        "generated": generated,
    }
    return tensors, facts


def versions():
    return {"transformers": transformers.__version__, "torch": torch.__version__,
            "pillow": PIL.__version__, "safetensors": safetensors.__version__}


def load_model(folder):
    model, report = LlavaForConditionalGeneration.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not report[problem], f"{folder}: {problem}: {report[problem]}"
    return model.eval()


def image_tokens(config):
    vision, full = config.vision_config, config.vision_feature_select_strategy == "full"
    return (vision.image_size // vision.patch_size) ** 2 + full


def make_case(case, out):
    folder = out / case.name
    shutil.rmtree(folder, ignore_errors=True)
    save_checkpoint(case, folder)
    model = load_model(folder)
    processor = CLIPImageProcessorPil(**case.image_processor())
    tensors, prompts = {}, []
    for number, (image, before, after) in enumerate(prompt_texts(case.seed)):
        pixels = processor(Image.open(out / "images" / image).convert("RGB"), return_tensors="pt")
        ids = before + [IMAGE_TOKEN] * image_tokens(model.config) + after
        parts, facts = golden_of(model, pixels["pixel_values"], ids)
        assert facts["greedy_margin"] > 100 * facts["float32_noise"], f"{case.name}: a near tie"
        tensors |= {f"prompt{number}.{key}": value.contiguous() for key, value in parts.items()}
        prompts.append({"image": f"../images/{image}"} | facts)
    facts = {"covers": case.covers, "versions": versions(), "prompts": prompts}
    write_golden(folder, tensors, facts)
    shown = ", ".join(f"{p['logit_range']:.1f}/{p['float32_noise']:.0e}/{p['greedy_margin']:.3f}"
                      for p in prompts)
    print(f"{case.name:20} logit range/noise/margin: {shown}")


def write_golden(folder, tensors, facts):
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.torch.save_file(
        {name: tensor.detach().clone() for name, tensor in tensors.items()},
        folder / "golden.safetensors")
    (folder / "golden.json").write_text(json.dumps(facts, indent=1) + "\n")


def bundled_prompt(model, processor, image, question):
    """Tensors and facts of one question: of the logits only the last position."""
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True)
    with Image.open(image) as opened:
        inputs = processor(images=opened.convert("RGB"), text=text, return_tensors="pt")
    ids = inputs["input_ids"][0]
    parts = dict(zip(("tower_hidden", "tower_selected", "projector"),
                     image_features(model, inputs["pixel_values"])))
    parts.pop("tower_hidden")
    generated = model.generate(**inputs, max_new_tokens=NEW_TOKENS, do_sample=False)[0, len(ids):]
    tensors = parts | {"pixel_values": inputs["pixel_values"][0], "input_ids": ids,
                       "generated": generated, "last_logits": model(**inputs).logits[0, -1]}
    answer = processor.decode(generated, skip_special_tokens=True).strip()
    return tensors, {"question": question, "prompt": text, "answer": answer}


def make_bundled(folder, out):
    images = sorted((folder / "samples").glob("*.png"))
    if not images:
        sys.exit(f"{folder / 'samples'}: expected PNG images, found none")
    model, processor = load_model(folder), LlavaProcessor.from_pretrained(folder)
    tensors, prompts = {}, []
    for number, (image, question) in enumerate(zip(itertools.cycle(images), QUESTIONS)):
        parts, facts = bundled_prompt(model, processor, image, question)
        tensors |= {f"prompt{number}.{key}": value.contiguous() for key, value in parts.items()}
        prompts.append({"image": f"samples/{image.name}"} | facts)
        print(f"{image.name:24} {question:32} {facts['answer']}")
    sums = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()
            for file in sorted(folder.glob("model*.safetensors"))}
    facts = {"model": folder.name, "sha256": sums, "versions": versions(), "prompts": prompts}
    write_golden(out, tensors, facts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--case", action="append", help="only these cases")
    parser.add_argument("--bundled", action="store_true")
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "reference-llava")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if arguments.bundled:
        with torch.inference_mode():
            make_bundled(arguments.model, arguments.out or ROOT / "tests" / "data" / "bundled")
        return 0
    out = arguments.out or ROOT / "tests" / "data" / "llava"
    write_images(out / "images")
    with torch.inference_mode():
        for case in CASES:
            if not arguments.case or case.name in arguments.case:
                make_case(case, out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
