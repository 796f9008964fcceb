"""E9: what the code that was released with Q-VLM does, written anew from reading it, as a baseline beside our own rows.

Read: github.com/ChangyuanWang17/QVLM at 6ceab64, llava/eval/model_vqa_science.py, llava/model/ and, in
custom_bitsandbytes/bitsandbytes, nn/modules.py and quantization_utils/. What of it is here:

- Weights: NF4 in blocks of 64, linears of the decoder only. Tower, projector and head are float there as here: the tower
  is loaded in 16 bits, so what there is for its ranges (with an entropy that is the same for all candidates) is not reached.
- Activations: rounded to 4 bits with a zero point, a range for each input channel of each linear, and multiplied in float;
  with such ranges there is no integer product to be had.
- Ranges are static for q, k, v, gate and up. For the inputs of o and down they are the least and the largest value over
  the tokens of the very prompt that is answered, later tokens included.
- Calibration: prompts without answers, one at a time, through layers that are quantized already. 8 prompts widen the
  ranges, which begin at 0, behind a gate; a ninth does too, and counts twice in the scores; a tenth shrinks the range of
  each linear by the ratio of 1.0, .9 ... .4 that has the least mean |error|^.5 on that prompt's own input.
- The gate is open on the first prompt, in layers 0, 3, 6 ..., and where the score of the linear before is at least the mean
  of this prompt's so far. A score is, at q and down, the entropy of the sizes of rounded inputs over tokens, normalized
  by L2; at the others a "conditional entropy" with the input of the linear before, normalized by L1. Both have levels of
  their own. A channel where nothing is left but zeros makes the latter no number, and that closes the gate.

Left out: double quantization of NF4's scales, float16, and tokens behind the first of the answer, which widen the prompt's
ranges by themselves. Choices that had to be made: "hidden size" where the code says 4096, so our models are as its 7B
is (one with another hidden size, as the 13B, has the prompt's own ranges everywhere, the row "own ranges", and none of
calibration); an empty range gives 0 instead of no number; seeds draw the prompts. "No search": what the code does for
benchmarks other than ScienceQA, with 8 prompts (llava/eval/model_vqa_loader.py). "Open gate": without any entropy.

Everything is simulated in float32 by transformers. qvlm makes only the float model's answers, if they are not in the store;
nearest rounding is here to be compared with what qvlm makes of it by `--execution simulated`.

Run with: .venv/bin/python scripts/experiments.py qvlm-code --model reference --seeds 0 1 2
"""

import copy
import functools
import random

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file
from transformers import AutoConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.utils import logging

from evaluate_transformers import groups_of, prompt_of, read_items
from experiments import ladder
from experiments.runs import CALIBRATION, ITEMS, ROOT, TEST, Missing, read, write
from experiments.settings import MODELS
from experiments.tables import table

LINEARS = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
           "mlp.down_proj")
Q, O, DOWN = 0, 3, 6
RATIOS = [1 - step / 10 for step in range(7)]
PROMPTS = {"widen": 8, "widen, entropies": 1, "shrink": 1}
BATCH = 32
BASE = "nearest, simulated"
# By row: what is changed in the code's behaviour, or None without its activations.
METHODS = {
    BASE: None,
    "nf4, float activations": None,
    "qvlm-code": {},
    "qvlm-code, no search": {"prompts": {"widen": 8}},
    "qvlm-code, open gate": {"gate": False},
    "qvlm-code, own ranges": {"own": range(len(LINEARS)), "prompts": {}},
}


def report(runs, models, seeds):
    return "\n".join(one_model(runs, model, seeds) for model in models)


def one_model(runs, model, seeds):
    reference = runs.reference(model)
    found = {}
    for method, change in METHODS.items():
        drawn = change is not None and change.get("prompts", PROMPTS)  # else all seeds are alike
        for seed in seeds:
            try:
                found.setdefault(method, []).append(result(runs, reference, model, method, seed if drawn else 0))
            except Missing:
                pass
    head = (f"w4a4 {model}", "seeds", *ladder.COLUMNS, f"KL / {BASE}")
    return table(head, ladder.rows(reference, {method: reports for method, reports in found.items() if reports}, BASE))


def result(runs, reference, model, method, seed):
    """A report as qvlm's evaluation writes it, as far as the table needs it."""
    def make(folder):
        subject = load(model)
        logits = subject.logits(quantized(subject, method, seed))
        save_file({"logits": logits}, folder / "logits.safetensors")
        write(folder / "r.json", {"logits_file": "logits.safetensors", "items": subject.judge(reference, logits)})

    key = {"model": model, "method": method, "seed": seed, "data": TEST, "items": ITEMS}
    folder = runs.kept("qvlm-code", key, "r.json", make)
    return {**read(folder / "r.json"), "folder": str(folder)}


# --- the model and its questions ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def load(model):
    return Subject(ROOT / MODELS[model])


class Subject:
    """A float model with the questions it is asked, prepared once."""

    def __init__(self, folder):
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        torch.set_num_threads(1)
        self.processor = LlavaProcessor.from_pretrained(folder)
        self.dtype = AutoConfig.from_pretrained(folder).dtype
        self.model = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        items = read_items(ROOT / TEST, ITEMS)
        self.batches = [(indices, self.inputs(ROOT / TEST, [items[index] for index in indices]))
                        for indices in groups_of(items, self.processor, BATCH)]

    def inputs(self, folder, items):
        """Of questions with equally long prompts."""
        images = [Image.open(folder / item["image"]).convert("RGB") for item in items]
        prompts = [prompt_of(self.processor, item["question"]) for item in items]
        return self.processor(images=images, text=prompts, return_tensors="pt")

    @torch.no_grad()
    def logits(self, model):
        """Of the first answer token [questions, vocabulary]."""
        found = np.zeros((ITEMS, model.config.text_config.vocab_size), np.float32)
        for indices, inputs in self.batches:
            found[indices] = model(**inputs, logits_to_keep=1, use_cache=False).logits[:, -1].numpy()
        return found

    def judge(self, reference, logits):
        """Items with the predictions and margins that these logits have."""
        encode, prompt = self.processor.tokenizer.encode, prompt_of(self.processor, "?")
        lists = [{option: encode(f"{prompt} {option}")[len(encode(prompt))] for option in options}
                 for options in reference["option_lists"]]
        items = []
        for item, row in zip(reference["items"], logits):
            options, answer = lists[item["options"]], item["answer"]
            others = max(row[token] for option, token in options.items() if option != answer)
            prediction = self.processor.tokenizer.decode([int(row.argmax())]).strip()
            items.append({"id": item["id"], "prediction": prediction, "correct": prediction == answer,
                          "margin": float(row[options[answer]] - others)})
        return items


# --- quantized ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def quantized(subject, method, seed):
    model = copy.deepcopy(subject.model)
    change = METHODS[method]
    calibration = None if change is None else Calibration(change.get("gate", True))
    for number, layer in enumerate(model.model.language_model.layers):
        for index, name in enumerate(LINEARS):
            linear = layer.get_submodule(name)
            if method == BASE:
                linear.weight.copy_(nearest_weight(linear.weight, subject.dtype))
                linear.register_forward_pre_hook(lambda _, inputs: nearest_tokens(inputs[0]))
                continue
            linear.weight.copy_(nf4(linear.weight))
            if calibration:
                own = index in change.get("own", (O, DOWN))
                linear.register_forward_pre_hook(Input(calibration, number, index, linear.in_features, own))
    if calibration:
        prompts = change.get("prompts", PROMPTS)
        folder = ROOT / CALIBRATION
        samples = iter(random.Random(seed).sample(read_items(folder, None), sum(PROMPTS.values())))
        for calibration.phase in (phase for phase, count in prompts.items() for _ in range(count)):
            model(**subject.inputs(folder, [next(samples)]), use_cache=False)
        calibration.phase = None
    return model


def nearest_weight(weight, dtype, group=128):
    """Symmetric, with scales of the checkpoint's type: qvlm's rounding to nearest."""
    rows = weight.reshape(-1, min(group, weight.shape[1]))
    scale = (rows.abs().amax(1, keepdim=True) / 7.5).to(dtype).float()
    return (rows / scale).round().clamp(-8, 7).mul(scale).reshape(weight.shape)


def nearest_tokens(x):
    scale = x.abs().amax(-1, keepdim=True).clamp_min(1e-12) / 7.5
    return (x / scale).round().clamp(-8, 7) * scale


def nf4(weight, block=64):
    """Levels at equal shares of a normal distribution, 7 below and 8 above 0, stretched to each block's largest value."""
    above, below = (torch.special.ndtri(torch.linspace(0.9677083, 0.5, count).double())[:-1] for count in (9, 8))
    levels = (torch.cat([-below, torch.zeros(1), above.flip(0)]) / above[0]).float()
    rows = weight.reshape(-1, block)
    largest = rows.abs().amax(1, keepdim=True)
    codes = torch.bucketize(rows / largest.clamp_min(1e-12), (levels[1:] + levels[:-1]) / 2)
    return (levels[codes] * largest).reshape(weight.shape)


def rounded(x, low, high):
    """4 bits between the ends of ranges, with zero points that are whole numbers."""
    scale = 15 / (high - low).clamp_min(1e-8)
    zero = (scale * low).round()
    return ((scale * x - zero).round().clamp(0, 15) + zero) / scale


class Calibration:
    """What linears know of each other: the phase, and the scores of the prompt."""

    def __init__(self, gate):
        self.gate, self.phase, self.scores, self.last, self.before = gate, None, [], 0.0, None

    def add(self, score):
        if score == score:
            self.scores.append(score)


class Input:
    """Quantizes the input [batch, tokens, channels] of one linear; `own`: with each prompt's own ranges once calibrated."""

    def __init__(self, calibration, layer, index, width, own):
        self.calibration, self.layer, self.index, self.own = calibration, layer, index, own
        self.low, self.high, self.prompts = torch.zeros(width), torch.zeros(width), 0

    def __call__(self, _, inputs):
        x, phase = inputs[0], self.calibration.phase
        if phase == "widen":
            return self.widen(x)
        if phase == "widen, entropies":
            self.calibration.add(entropy(self.widen(x).abs()))
        elif phase == "shrink":
            self.low, self.high = min(((self.low * ratio, self.high * ratio) for ratio in RATIOS),
                                      key=lambda ends: (rounded(x, *ends) - x).abs().sqrt().mean().item())
        return rounded(x, x.amin(1, keepdim=True), x.amax(1, keepdim=True)) if self.own else rounded(x, self.low, self.high)

    def widen(self, x):
        if self.is_open() or not self.calibration.gate:
            self.low = torch.minimum(self.low, x.amin((0, 1)))
            self.high = torch.maximum(self.high, x.amax((0, 1)))
        result = rounded(x, self.low, self.high)
        size, shared = result.abs(), self.calibration
        shared.last = entropy(size) if self.index in (Q, DOWN) else conditional_entropy(shared.before, size)
        shared.before = size
        shared.add(shared.last)
        return result

    def is_open(self):
        shared, self.prompts = self.calibration, self.prompts + 1
        if self.prompts == 1 or (self.layer, self.index) == (0, Q):
            shared.scores.clear()
            return True
        return self.layer % 3 == 0 or bool(shared.scores) and shared.last >= np.mean(shared.scores)


def entropy(size):
    share = torch.nn.functional.normalize(size, dim=1)
    return -(share * (share + 1e-7).log()).sum(1).mean().item()


def conditional_entropy(before, size):
    first, second = (torch.nn.functional.normalize(each, p=1, dim=1) for each in (before, size))
    joint, condition = first * second, second / (first + 1e-5)
    joint, condition = (each / each.sum(1, keepdim=True) for each in (joint, condition))
    return -(joint * (condition + 1e-5).log()).sum(1).mean().item()
