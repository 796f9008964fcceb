"""E9 for vision tower and projector: rounded to nearest or by data, while the decoder stays float."""

from experiments import ladder
from experiments.runs import CALIBRATION, ITEMS
from experiments.settings import WEIGHTS
from experiments.tables import table

BITS = (4, 3)
ROUNDINGS = {
    "nearest": None,
    "nearest + biases": {"method": "nearest", "bias_correction": True},
    "gptq": {"method": "gptq"},
    "gptq + biases": {"method": "gptq", "bias_correction": True},
}
BASE = "nearest"


def rules_of(rounding, bits, seed):
    rules = {"name": "tower", "default": {"weight": WEIGHTS[bits], "activation": {"bits": 8, "granularity": "token"}},
             "overrides": [{"match": r"decoder\..*|lm_head", "keep": "float"}]}
    if rounding is not None:
        rules |= {"rounding": rounding, "calibration": {"samples": ladder.SAMPLES, "seed": seed}}
    return rules


def report(runs, models, seeds):
    return "\n".join(one_setting(runs, model, bits, seeds) for bits in BITS for model in models)


def one_setting(runs, model, bits, seeds):
    calls = [(name, seed) for seed in seeds for name in ROUNDINGS]
    results = runs.all([lambda name=name, seed=seed: runs.with_recipe(
        model, rules_of(ROUNDINGS[name], bits, seed), CALIBRATION, ITEMS) for name, seed in calls])
    found = ladder.by_method(calls, results)
    head = (f"tower w{bits}a8, {model}", "seeds", *ladder.COLUMNS, f"KL / {BASE}")
    return table(head, ladder.rows(runs.reference(model), found, BASE))
