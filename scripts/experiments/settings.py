"""The models, number formats, candidates and search strategies that the experiments compare."""

import copy

MODELS = {
    "reference": "models/reference-llava",
    "diagonal": "build/models/diagonal",
    "turned": "build/models/turned",
    "eight layers": "models/reference-llava-8",
    "massive": "build/models/massive",
}
FOUR_MODELS = ["reference", "diagonal", "turned", "eight layers"]  # what most experiments were run on
DECODER_ONLY = [{"match": r"vision_tower\..*|projector\..*|lm_head", "keep": "float"}]
WEIGHTS = {
    3: {"bits": 3, "granularity": "group", "group_size": 64},
    4: {"bits": 4, "granularity": "group", "group_size": 128},
    6: {"bits": 6, "granularity": "channel"},
    8: {"bits": 8, "granularity": "channel"},
}
DYNAMIC_CLIPS = {3: [1, 0.9, 0.8, 0.7, 0.6]}
HIGHER_CLIPS = [1, 0.95, 0.9, 0.85, 0.8]  # from 4 bits on
WIDE_CLIPS = [1, 0.5, 0.25, 0.12, 0.06]  # for tokens with outliers
STATIC_CLIPS = [1, 0.995, 0.99, 0.985, 0.98]

# Name of a setting: bits of weights and activations, granularity of the activations.
SETTINGS = {f"w{bits}a{bits}-{kind}": (bits, kind) for bits in (3, 4) for kind in ("token", "tensor", "channel")}
SETTINGS |= {"w3a3-wide": (3, "token"), "w6a6-token": (6, "token"), "w8a8-token": (8, "token")}

# Tokens count by kind: each kind as a whole about as much as the others, as there are 64 of an image to some 12 of text
# and 2 of the answer.
SETTINGS["w3a3-answers"] = (3, "token")
BALANCED = {"image": 1, "text": 5, "answer": 30}
# Each input of linears has a clip of its own.
SETTINGS |= {f"w{bits}a{bits}-inputs{weights}": (bits, "token") for bits in (3, 4) for weights in ("", "-answers", "-gradient")}
SETTINGS |= {"w3a3-channel-answers": (3, "channel")}

# Strategy: (plan, share of budget), the plan as in a recipe.
STRATEGIES = {
    "greedy": {"strategy": "none"},
    "fixed 2": {"strategy": "fixed", "max_depth": 2, "budget_share": 1.0},
    "random": {"strategy": "random", "max_depth": 3, "budget_share": 0.5},
    "error": {"strategy": "error", "max_depth": 3, "budget_share": 0.5},
    "entropy": {"strategy": "entropy", "max_depth": 3, "budget_share": 0.5},
    "oracle": {"strategy": "oracle", "max_depth": 3, "budget_share": 0.5},
    "fixed 3": {"strategy": "fixed", "max_depth": 3, "budget_share": 1.0},
}


def with_tower(bits):
    """The tower's activations are quantized per token whatever the decoder's are."""
    tower = {"weight": WEIGHTS[bits], "activation": {"bits": bits, "granularity": "token"}}
    return [{"match": r"vision_tower\..*", **tower}, {"match": r"projector\..*|lm_head", "keep": "float"}]


def candidates(setting):
    bits, kind = SETTINGS[setting]
    if setting == "w3a3-wide":
        return WIDE_CLIPS
    return DYNAMIC_CLIPS.get(bits, HIGHER_CLIPS) if kind == "token" else STATIC_CLIPS


def is_static(setting):
    return SETTINGS[setting][1] != "token"


def recipe(setting, plan, samples=16, seed=0, tower=False, vision=None, **search):
    """A recipe as qvlm reads it; `search` replaces single keys of the search. Everything is searched: no half of the
    samples is set aside, so that strategies are compared on equal data. `tower`: the vision tower is quantized too;
    `vision`: and its clips are moved, with these options."""
    bits, kind = SETTINGS[setting]
    plan = copy.deepcopy(plan)
    if plan["strategy"] == "random":
        plan["seed"] = seed
    rules = {
        "name": setting,
        "default": {"weight": WEIGHTS[bits], "activation": {"bits": bits, "granularity": kind}},
        "overrides": with_tower(bits) if tower else DECODER_ONLY,
        "calibration": {"samples": samples, "seed": seed},
        "plan": plan,
        "search": {"activation_clip": candidates(setting), "held_out": False, **search},
    }
    if setting.endswith("answers"):
        rules["search"]["token_weights"] = BALANCED
    if setting.endswith("gradient"):
        rules["search"]["token_weights"] = "gradient"
    if "inputs" in setting:
        rules["search"] |= {"method": "descent", "per_linear": True}
    return rules if vision is None else {**rules, "vision_encoder": vision}
