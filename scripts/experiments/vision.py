"""E6 and E7: moving the clips of the vision tower by gradient, alone and with the search of the decoder."""

import numpy as np

from experiments import statistics
from experiments.runs import ROOT, TEST
from experiments.settings import STRATEGIES
from experiments.strategies import last_error
from experiments.tables import between, small, table

SAMPLES = 32  # half of the paper's
VARIANTS = {
    "tower as it is": None,
    "right sign": {},
    "wrong sign": {"entropy_weight": -0.05},
    "entropy weighs as in the paper": {"entropy_weight": 1.0},
    "no entropy": {"entropy_weight": 0.0},
    "no errors": {"error_weight": 1e-9, "entropy_weight": 1.0},  # measured, but nothing beside the entropies
}
# Everything that is found is kept: what it is worth on other samples is what the table tells.
KEEP = {"epochs": 10, "batch": 8, "rate": 0.02, "entropy_weight": 0.05, "error_weight": 1.0, "tower_weight": 1.0,
        "output_weight": 1.0, "answer_weight": 0.0, "held_out": False}


def forced(options):
    return None if options is None else {**KEEP, **options}


def threshold(runs, model, setting, seed):
    """What half of the extra cost buys where the tower stays as it is; the threshold of all variants."""
    return runs.search(model, setting, STRATEGIES["entropy"], samples=SAMPLES, seed=seed, tower=True)["search"]["h0"]


def run_variant(runs, model, setting, variant, seed):
    plan = {"strategy": "entropy", "max_depth": 3, "h0": threshold(runs, model, setting, seed)}
    return runs.search(model, setting, plan, samples=SAMPLES, seed=seed, tower=True, vision=forced(VARIANTS[variant]))


def signs(runs, models, setting, seeds):
    """E6: what each term of the loss does to the decoder's entropies, to the cost that they plan, and to the answers."""
    rows = []
    for model in models:
        keys = [(variant, seed) for variant in VARIANTS for seed in seeds]
        runs.all([lambda seed=seed: threshold(runs, model, setting, seed) for seed in seeds])
        found = runs.all([lambda key=key: run_variant(runs, model, setting, *key) for key in keys])
        by_variant = {variant: [report for key, report in zip(keys, found) if key[0] == variant] for variant in VARIANTS}
        if None in found:
            rows.append([model, "missing: see build/experiments/failures.txt", *["-"] * 7])
            continue
        groups = statistics.pictures(runs.reference(model), ROOT, TEST)
        start = by_variant["tower as it is"]
        base = statistics.divergences(runs.reference(model), [report["evaluation"] for report in start])
        for variant, reports in by_variant.items():
            kl = statistics.divergences(runs.reference(model), [report["evaluation"] for report in reports])
            difference = kl - base
            entropy = [np.sum(report["search"]["entropy"]) - np.sum(other["search"]["entropy"])
                       for report, other in zip(reports, start)]
            moved = VARIANTS[variant] is not None
            losses = [report["search"]["vision"]["epochs"] for report in reports] if moved else []
            def change(term):
                return " -> ".join(small(np.mean([epochs[place][term] for epochs in losses])) for place in (0, -1)) if moved else "-"
            rows.append([model, variant, change("tower"), change("output"),
                         "-" if not moved else f"{np.mean(entropy):+.4f} ({min(entropy):+.4f} to {max(entropy):+.4f})",
                         small(np.mean([report["search"]["planned_forwards"] for report in reports])),
                         small(np.mean([last_error(report) for report in reports])), small(kl.mean()),
                         "-" if not moved else small(difference.mean()) + " " + between(statistics.bootstrap(difference, groups))])
    return table(("model", "loss", "error of image tokens", "error behind the decoder", "sum of D, change (least, most)",
                  "layer-forwards at one threshold", "last block's error", "KL mean", "KL - KL of the tower as it is [95 %]"), rows)


def arms(setting):
    """E7: (name, plan, options)"""
    nearest = {"activation_clip": [1]}
    return (("nearest", "greedy", nearest), ("search, layer by layer", "greedy", {}), ("search, entropy blocks", "entropy", {}),
            ("vision encoder", "greedy", {**nearest, "vision": forced({})}),
            ("entropy blocks and vision encoder", "entropy", {"vision": forced({})}))


def ablation(runs, models, settings, seeds):
    """E7: {search} x {vision encoder}, decoder and tower quantized, paired over pictures and seeds."""
    rows = []
    for setting in settings:
        for model in models:
            keys = [(name, plan, options, seed) for name, plan, options in arms(setting) for seed in seeds]
            found = runs.all([lambda key=key: runs.search(model, setting, STRATEGIES[key[1]], samples=SAMPLES, seed=key[3],
                                                          tower=True, **key[2]) for key in keys])
            if None in found:
                rows.append([setting, model, "missing: see build/experiments/failures.txt", *["-"] * 7])
                continue
            reference = runs.reference(model)
            groups = statistics.pictures(reference, ROOT, TEST)
            base = None
            for name, _, _ in arms(setting):
                reports = [report for key, report in zip(keys, found) if key[0] == name]
                kl = statistics.divergences(reference, [report["evaluation"] for report in reports])
                right = np.stack([statistics.correct(report["evaluation"]) for report in reports], axis=1)
                base = kl if base is None else base
                difference = kl - base
                over_seeds = (kl - base).mean(axis=0)
                rows.append([setting, model, name, small(np.mean([last_error(report) for report in reports])), small(kl.mean()),
                             small(np.mean([statistics.trimmed(kl[:, i]) for i in range(kl.shape[1])])),
                             small(np.median(kl, axis=0).mean()),
                             "-" if name == "nearest" else small(difference.mean()) + " " + between(
                                 statistics.bootstrap(difference, groups)),
                             "-" if name == "nearest" else f"{(over_seeds < 0).sum()} of {len(seeds)}",
                             f"{100 * right.mean():.1f} %"])
    return table(("setting", "model", "what", "last block's error", "KL mean", "trimmed", "median", "KL - nearest's [95 %]",
                  "seeds below", "right"), rows)
