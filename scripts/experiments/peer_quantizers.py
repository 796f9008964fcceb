"""Quantizers of others, applied to a LLaVA's decoder: what peers.py runs in the environments that have them.

  python -m experiments.peer_quantizers METHOD SCHEME MODEL DATA OUT

Quantizers of text models get to see images this way: the decoder becomes a Llama of its own, whose embedding table holds,
behind the vocabulary, the projector's output for every image position of the calibration samples. A sample is then plain
ids, and layer 0 reads what it reads in the LLaVA: the whole conversation with answer and end token, as qvlm's does. Models
are float32. OUT becomes MODEL with the quantized layers in place of its own; the last line printed is the CPU seconds of
the quantizing, without imports, the tower, and compilers that torch starts.
"""

import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, LlamaForCausalLM, LlavaForConditionalGeneration, LlavaProcessor

GROUP = 128
ITERATIONS = 200  # of auto-round, its default
SMOOTHING = 0.8  # what is customary with llm-compressor at W8A8
LAYERS = "language_model.model.layers."  # in MODEL's files; "model.layers." in a Llama's
KEPT = ["re:.*vision_tower.*", "re:.*multi_modal_projector.*", "re:.*lm_head"]


def main():
    name, scheme, model, data, out = sys.argv[1:]
    method, *libraries = METHODS[name]
    for library in libraries:
        importlib.import_module(library)
    with tempfile.TemporaryDirectory() as scratch:
        source, result = Path(scratch) / "decoder", Path(scratch) / "quantized"
        prompts = make_decoder(model, Path(data), source)
        start = time.process_time()
        method(source, prompts, scheme, result)
        seconds = time.process_time() - start
        write(Path(model), Path(out), result)
    print(seconds)


@torch.no_grad()
def make_decoder(folder, data, out):
    """Writes the decoder as a Llama, with its tokenizer; returns the samples as its ids [1, tokens]."""
    processor = LlavaProcessor.from_pretrained(folder)
    llava = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    table, prompts = [llava.get_input_embeddings().weight], []
    for line in (data / "data.jsonl").read_text().splitlines():
        item = json.loads(line)
        content = [{"type": "image"}, {"type": "text", "text": item["question"]}]
        prompt = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        with Image.open(data / item["image"]) as image:
            inputs = processor(images=image.convert("RGB"), text=f"{prompt} {item['answer']}", return_tensors="pt")
        ids = torch.cat([inputs["input_ids"], torch.tensor([[processor.tokenizer.eos_token_id]])], dim=1)
        features = llava.get_image_features(inputs["pixel_values"]).pooler_output[0]
        first = sum(len(rows) for rows in table)
        ids[ids == llava.config.image_token_id] = torch.arange(first, first + len(features))
        prompts.append(ids)
        table.append(features)
    decoder = LlamaForCausalLM(llava.config.text_config)
    decoder.model.load_state_dict(llava.model.language_model.state_dict())
    decoder.lm_head.load_state_dict(llava.lm_head.state_dict())
    decoder.resize_token_embeddings(sum(len(rows) for rows in table), mean_resizing=False)
    decoder.get_input_embeddings().weight.copy_(torch.cat(table))
    decoder.save_pretrained(out)
    processor.tokenizer.save_pretrained(out)
    return prompts


# --- methods: each leaves a checkpoint of the Llama in `out` ------------------------------------------------------------


def nearest(source, prompts, scheme, out):
    from llmcompressor.modifiers.quantization import QuantizationModifier

    llm_compressor(source, prompts, out, QuantizationModifier(targets="Linear", scheme=scheme, ignore=["lm_head"]))


def gptq(source, prompts, scheme, out):
    from llmcompressor.modifiers.gptq import GPTQModifier

    llm_compressor(source, prompts, out, GPTQModifier(targets="Linear", scheme=scheme, ignore=["lm_head"]))


def awq(source, prompts, scheme, out):
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache

    IntermediatesCache.pin_memory = lambda *_: None  # it would pin memory for an accelerator, and fail without one
    llm_compressor(source, prompts, out, AWQModifier(),
                   QuantizationModifier(targets="Linear", scheme=scheme, ignore=["lm_head"]))


def smooth_gptq(source, prompts, scheme, out):
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    llm_compressor(source, prompts, out, SmoothQuantModifier(smoothing_strength=SMOOTHING),
                   GPTQModifier(targets="Linear", scheme=scheme, ignore=["lm_head"]))


def llm_compressor(source, prompts, out, *modifiers):
    from llmcompressor import oneshot

    decoder, tokenizer = load(source)
    loader = torch.utils.data.DataLoader([{"input_ids": ids[0]} for ids in prompts], batch_size=1)
    oneshot(model=decoder, processor=tokenizer, dataset=loader, recipe=list(modifiers),
            num_calibration_samples=len(prompts))
    decoder.save_pretrained(out, save_compressed=True)


def auto_round(source, prompts, scheme, out):
    from auto_round import AutoRound

    # Samples differ in length, so they go one by one; a step takes eight, as by default. None is shorter than seqlen.
    samples = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in prompts]
    rounder = AutoRound(*load(source), scheme=scheme, dataset=samples,
                        nsamples=len(samples), iters=ITERATIONS, seqlen=min(ids.shape[1] for ids in prompts),
                        batch_size=1, gradient_accumulate_steps=8, device_map="cpu")
    rounder.quantize_and_save(out, format="auto_gptq")


def gptqmodel(source, prompts, scheme, out):
    from gptqmodel import GPTQModel, QuantizeConfig

    config = QuantizeConfig(bits=int(scheme[1]), group_size=GROUP, format="gptq_v2", offload_to_disk=False)
    model = GPTQModel.load(str(source), config, dtype=torch.float32, device="cpu")
    model.quantize([{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in prompts], batch_size=1)
    model.save(out)


def load(source):
    model = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(source)


# By name: the function and what it is imported from, so that the clock does not count that.
METHODS = {
    "nearest": (nearest, "llmcompressor", "llmcompressor.modifiers.quantization"),
    "gptq": (gptq, "llmcompressor", "llmcompressor.modifiers.gptq"),
    "awq": (awq, "llmcompressor", "llmcompressor.modifiers.quantization", "llmcompressor.modifiers.transform.awq"),
    "smooth + gptq": (smooth_gptq, "llmcompressor", "llmcompressor.modifiers.gptq",
                      "llmcompressor.modifiers.transform.smoothquant"),
    "auto-round": (auto_round, "auto_round"),
    "gptqmodel": (gptqmodel, "gptqmodel"),
}


# --- the result as a LLaVA ----------------------------------------------------------------------------------------------


def write(source, out, quantized):
    """MODEL with the layers of a quantized Llama: codes and scales where they are compressed-tensors, else the float
    weights that they stand for."""
    layers = {name: tensor for file in sorted(quantized.rglob("model*.safetensors"))
              for name, tensor in load_file(file).items() if name.startswith("model.layers.")}
    (declared,) = [json.loads(file.read_text())["quantization_config"] for file in quantized.rglob("config.json")]
    out.mkdir()
    for file in [*source.glob("*.json"), *source.glob("*.jinja")]:
        shutil.copy(file, out)
    if declared["quant_method"] == "compressed-tensors":
        config = json.loads((out / "config.json").read_text())
        config["quantization_config"] = {**declared, "ignore": KEPT}
        (out / "config.json").write_text(json.dumps(config, indent=1))
    else:
        layers = dequantize(layers)
    tensors = {name: tensor for name, tensor in load_file(source / "model.safetensors").items() if not name.startswith(LAYERS)}
    tensors |= {name.replace("model.layers.", LAYERS): tensor for name, tensor in layers.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})


def dequantize(tensors):
    """Symmetric 4-bit weights in GPTQ's layout, eight codes a word, become float."""
    result = {name: tensor for name, tensor in tensors.items() if name.endswith("norm.weight")}
    shifts = torch.arange(0, 32, 4).view(1, 8, 1)
    for name in [name for name in tensors if name.endswith(".qweight")]:
        module = name.removesuffix(".qweight")
        codes = ((tensors[name].unsqueeze(1) >> shifts) & 15).flatten(0, 1) - 8  # [in, out]
        groups = tensors[module + ".g_idx"].long()
        result[module + ".weight"] = (codes * tensors[module + ".scales"].float()[groups]).T.contiguous()
    return result


if __name__ == "__main__":
    main()
