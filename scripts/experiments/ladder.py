"""E9: what every step in front of the search is worth, alone and together."""

import numpy as np

from experiments import statistics
from experiments.runs import CALIBRATION, ITEMS, ROOT, TEST
from experiments.settings import BALANCED, DECODER_ONLY, DYNAMIC_CLIPS, HIGHER_CLIPS, WEIGHTS
from experiments.tables import between, small, table

SAMPLES = 32
# Steps of each method: smooth (alpha .5, or searched), awq, rotate (apart: but for massive channels), clips (block search of activation and weight clips;
# "each": one for every input of a layer; "weights": of weights only; "greedy": layer by layer; "clips by gradient": tokens count so in their error,
# else by kind), gptq (tokens count by kind where clips are searched, "by kind", or "by gradient"), inputs (8 bits for an eighth of the activations of W4A4).
METHODS = {
    "nearest": (),
    "smooth": ("smooth",),
    "smooth, searched": ("smooth search",),
    "awq": ("awq",),
    "awq + clips": ("awq", "clips"),
    "rotate": ("rotate",),
    "gptq": ("gptq",),
    "smooth + gptq": ("smooth", "gptq"),
    "clips": ("clips",),
    "smooth + clips": ("smooth", "clips"),
    "rotate + clips": ("rotate", "clips"),
    "rotate + gptq": ("rotate", "gptq"),
    "massive apart + gptq": ("apart", "gptq"),
    "massive apart + gptq by gradient": ("apart", "gptq", "by gradient"),
    "searched + massive apart + gptq by gradient": ("smooth search", "apart", "gptq", "by gradient"),
    "smooth + rotate": ("smooth", "rotate"),
    "smooth + rotate + gptq": ("smooth", "rotate", "gptq"),
    "smooth + rotate + gptq by kind": ("smooth", "rotate", "gptq", "by kind"),
    "searched + rotate + gptq": ("smooth search", "rotate", "gptq"),
    "searched + rotate + gptq by kind": ("smooth search", "rotate", "gptq", "by kind"),
    "searched + rotate + gptq by gradient": ("smooth search", "rotate", "gptq", "by gradient"),
    "searched, weight clips": ("smooth search", "rotate", "clips", "weights", "gptq"),
    "smooth + rotate + clips": ("smooth", "rotate", "clips"),
    "all": ("smooth", "rotate", "clips", "gptq"),
    "all, weight clips": ("smooth", "rotate", "clips", "weights", "gptq"),
    "all, weight clips, each input": ("smooth", "rotate", "clips", "weights", "each", "gptq"),
    "all, each input": ("smooth", "rotate", "clips", "each", "gptq"),
    "each clip by kind": ("smooth search", "apart", "clips", "each", "gptq", "by gradient"),
    "each clip by kind, greedy": ("smooth search", "apart", "clips", "each", "gptq", "by gradient", "greedy"),
    "balanced": ("smooth search", "apart", "gptq", "by gradient", "inputs"),
    "best": ("smooth search", "apart", "clips", "each", "gptq", "by gradient", "inputs"),
    "each clip by gradient": ("smooth search", "apart", "clips", "each", "gptq", "by gradient", "clips by gradient"),
}
BASE = "rotate + gptq"
COLUMNS = ("KL, mean", "median", "margin drop", "same answers", "accuracy kept")
WEIGHT_CLIPS = [1, 0.95, 0.9, 0.85]


def rules_of(method, weight_bits, activation_bits, seed):
    """A recipe as qvlm reads it."""
    steps = METHODS[method]
    rules = {"name": method, "default": {"weight": WEIGHTS[weight_bits]}, "overrides": DECODER_ONLY}
    if activation_bits < 16:
        rules["default"]["activation"] = {"bits": activation_bits, "granularity": "token"}
    turn = {"seed": seed, **({} if activation_bits < 16 else {"down_input": False})}
    known = {"smooth": {"smooth": {}}, "smooth search": {"smooth": {"alpha": "search"}}, "awq": {"awq": {}},
             "rotate": {"rotate": turn}, "apart": {"rotate": {**turn, "massive_channels": "apart"}}}
    transforms = [known[step] for step in steps if step in known]
    if transforms:
        rules["transforms"] = transforms
    if "gptq" in steps:
        rules["rounding"] = {"method": "gptq"}
    if "clips" in steps:
        clips = DYNAMIC_CLIPS.get(activation_bits, HIGHER_CLIPS) if activation_bits < 16 else [1]
        if "weights" in steps:
            clips = [1]
        rules["plan"] = {"strategy": "entropy", "max_depth": 3, "budget_share": 0.5}
        rules["search"] = {"method": "descent", "per_linear": "each" in steps,
                           "token_weights": "gradient" if "clips by gradient" in steps else BALANCED,
                           "activation_clip": clips, "weight_clip": WEIGHT_CLIPS}
    if "inputs" in steps and activation_bits < 8:
        wide = {"weight": WEIGHTS[weight_bits], "activation": {"bits": 8, "granularity": "token"}}
        rules["precision"] = {"candidates": [wide], "target_activation_bits": activation_bits + 0.5}
    if "greedy" in steps:
        rules["plan"] = {"strategy": "none"}
    if "by gradient" in steps:
        rules["rounding"]["token_weights"] = "gradient"
    if "by kind" in steps:
        rules["plan"] = {"strategy": "none"}
        rules["search"] = {"token_weights": BALANCED}
    if set(steps) - {"rotate"}:
        rules["calibration"] = {"samples": SAMPLES, "seed": seed}
    return rules


def report(runs, models, bits, seeds, methods):
    return "\n".join(one_setting(runs, model, *bits_of(setting), seeds, methods) for setting in bits for model in models)


def bits_of(setting):
    """w4a16 -> 4, 16"""
    weight, activation = setting[1:].split("a")
    return int(weight), int(activation)


def one_setting(runs, model, weight_bits, activation_bits, seeds, methods):
    found = measure(runs, model, weight_bits, activation_bits, seeds, methods)
    head = (f"w{weight_bits}a{activation_bits} {model}", "seeds", *COLUMNS, f"KL / {BASE}")
    return table(head, rows(runs.reference(model), found, BASE))


def measure(runs, model, weight_bits, activation_bits, seeds, methods):
    return measure_recipes(runs, model, methods, seeds,
                           lambda method, seed: rules_of(method, weight_bits, activation_bits, seed))


def measure_recipes(runs, model, methods, seeds, rules):
    """{method: reports of its seeds} of the recipes rules(method, seed)."""
    return by_method(runs, methods, seeds,
                     lambda method, seed: runs.with_recipe(model, rules(method, seed), CALIBRATION, ITEMS))


def summary(runs, models, bits, seeds, methods):
    """A row for each format and model: KL, same answers and accuracy kept by method."""
    lines = []
    for setting in bits:
        for model in models:
            found = measure(runs, model, *bits_of(setting), seeds, methods)
            cells = {row[0]: f"{row[2]}, {row[5]}, {row[6]}" for row in rows(runs.reference(model), found, BASE)}
            lines.append([f"{setting} {model}", *(cells.get(method, "-") for method in methods)])
    return table(("format, model", *methods), lines)


def by_method(runs, methods, seeds, run):
    """{method: what run(method, seed) gave for its seeds}, but for runs that are missing."""
    calls = [(method, seed) for seed in seeds for method in methods]
    results = runs.all([lambda method=method, seed=seed: run(method, seed) for method, seed in calls])
    found = {}
    for (method, _), result in zip(calls, results):
        if result is not None:
            found.setdefault(method, []).append(result)
    return found


def rows(reference, found, base):
    """A row for each method of {method: reports of its seeds}: its name, how many seeds, COLUMNS and the ratio to `base`."""
    groups = statistics.pictures(reference, ROOT, TEST)
    kl = {method: statistics.divergences(reference, reports) for method, reports in found.items()}
    right = statistics.correct(reference).mean()
    for method, reports in found.items():
        same = np.mean([[a["prediction"] == b["prediction"] for a, b in zip(reference["items"], report["items"])]
                        for report in reports])
        kept = np.mean([statistics.correct(report) for report in reports]) / right
        drop = np.nanmean([statistics.margins(reference) - statistics.margins(report) for report in reports])
        yield [method, len(reports), small(kl[method].mean()), small(np.median(kl[method])), f"{drop:+.3f}",
               f"{100 * same:.1f} %", f"{100 * kept:.1f} %", ratio(kl, method, base, groups)]


def ratio(kl, method, base, groups):
    """Of mean divergences, with its interval over pictures and seeds."""
    if base not in kl or kl[method].shape != kl[base].shape:
        return "-"
    ends = statistics.bootstrap_ratio(kl[method], kl[base], groups)
    return f"{kl[method].mean() / kl[base].mean():.2f} {between(ends, lambda value: f'{value:.2f}')}"
