"""E14: what mixed precision is worth by size, beside layers that are raised by their place."""

from experiments import ladder
from experiments.settings import WEIGHTS
from experiments.tables import table

BITS = (4.25, 4.5, 5.0)  # of a weight, or of an activation
SAMPLES = 64
BASE = "w4a4"
LAYERS = {"reference": 12, "diagonal": 12, "turned": 12, "eight layers": 8, "massive": 12}
EIGHT = {"bits": 8, "granularity": "token"}
WIDE = {"weight": WEIGHTS[8], "activation": EIGHT}
INPUTS = {"weight": WEIGHTS[4], "activation": EIGHT}


def methods(model):
    """By name: what is changed in the recipe of the preset `balanced` at W4A4."""
    found = {BASE: {}}
    for bits in BITS:
        found[f"measured, {bits}"] = {"precision": {"candidates": [WIDE], "target_bpw": bits}}
        found[f"activations, {bits}"] = {"precision": {"candidates": [INPUTS], "target_activation_bits": bits}}
    for count in (1, 2):
        names = {"first": range(count), "first and last": [*range(count), *range(LAYERS[model] - count, LAYERS[model])]}
        for place, layers in names.items():
            pattern = r"decoder\.layers\.(" + "|".join(map(str, layers)) + r")\..*"
            found[f"{place} {count} layers"] = {"overrides": [{"match": pattern, **WIDE}]}
            found[f"{place} {count} layers, activations"] = {"overrides": [{"match": pattern, **INPUTS}]}
    found["w4a8"] = {"default": INPUTS}
    found["w8a8"] = {"default": WIDE}
    return found


def rules_of(change, seed):
    rules = ladder.rules_of("searched + massive apart + gptq by gradient", 4, 4, seed)
    rules["calibration"]["samples"] = SAMPLES
    for key, value in change.items():
        rules[key] = rules[key] + value if key == "overrides" else value
    return rules


def report(runs, models, seeds):
    return "\n".join(one_model(runs, model, seeds) for model in models)


def one_model(runs, model, seeds):
    changes = methods(model)
    found = ladder.measure_recipes(runs, model, changes, seeds, lambda name, seed: rules_of(changes[name], seed))
    rows = [[name, seeds_of, f"{found[name][0]['checkpoint_bytes'] / 1e6:.2f}", kl, median, same, ratio]
            for name, seeds_of, kl, median, _, same, _, ratio in ladder.rows(runs.reference(model), found, BASE)]
    return table((f"w4a4 {model}", "seeds", "MB", "KL, mean", "median", "same answers", f"KL / {BASE}"), rows)
