"""E9 for vision tower and projector: rounded to nearest or by data, while the decoder stays float."""

from experiments import ladder
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
    found = ladder.measure_recipes(runs, model, ROUNDINGS, seeds, lambda name, seed: rules_of(ROUNDINGS[name], bits, seed))
    head = (f"tower w{bits}a8, {model}", "seeds", *ladder.COLUMNS, f"KL / {BASE}")
    return table(head, ladder.rows(runs.reference(model), found, BASE))
