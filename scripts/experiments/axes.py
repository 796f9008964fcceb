"""Where joint search could pay: more depth, more axes, a clip for every input; and how soft the codes should be."""

import numpy as np

from experiments import dependence, statistics
from experiments.settings import SETTINGS, STRATEGIES
from experiments.strategies import Judge, last_error
from experiments.tables import between, small, table

THREE = {"token": [1, 0.8, 0.6], "tensor": [1, 0.99, 0.98], "channel": [1, 0.99, 0.98]}


def fixed(depth):
    return {"strategy": "fixed", "max_depth": depth, "budget_share": 1.0} if depth > 1 else STRATEGIES["greedy"]


def variants(setting):
    """(axis, depth, options of the search); the first of an axis is its greedy search."""
    three = THREE[SETTINGS[setting][1]]
    rows = [("activation, 3 values", depth, {"activation_clip": three}) for depth in (1, 2, 3, 4)]
    both = {"activation_clip": three, "weight_clip": [1, 0.9, 0.8]}
    rows += [("activation and weight, 3 values each", depth, both) for depth in (1, 2)]
    linear = {"activation_clip": three, "method": "descent"}
    rows += [("one a layer, descent", 3, linear)]
    rows += [("one an input, descent", depth, {**linear, "per_linear": True}) for depth in (1, 3)]
    return rows


def report(runs, models, settings, seed=0):
    text = ""
    for setting in settings:
        for model in models:
            rows = variants(setting)
            found = runs.all([lambda row=row: runs.search(model, setting, fixed(row[1]), seed=seed, **row[2]) for row in rows])
            found = [(axis, depth, one) for (axis, depth, _), one in zip(rows, found) if one is not None]
            if not found:
                continue
            judge = Judge(runs, model, {f"{axis} {depth}": {seed: one} for axis, depth, one in found})
            lines = []
            for axis, depth, one in found:
                first = next(name for name in judge.reports if name.startswith(axis))
                kl, start = (judge.kl(name, [seed])[:, 0] for name in (f"{axis} {depth}", first))
                ratio = [1 - block["error"] / block["greedy_error"] for block in one["search"]["blocks"]]
                lines.append([axis, depth, one["search"]["forwards"], f"{100 * np.mean(ratio):.2f} %",
                              f"{100 * np.max(ratio):.2f} %", small(last_error(one)), small(kl.mean()),
                              small(statistics.trimmed(kl)), small(np.median(kl)),
                              "-" if first == f"{axis} {depth}" else small((kl - start).mean()) + " " + between(
                                  statistics.bootstrap(kl - start, judge.groups))])
            text += f"\n**{model}, {setting}** (seed {seed})\n\n" + table(
                ("axes", "depth", "layer-forwards", "joint below greedy: mean", "most", "last block's error", "KL mean",
                 "KL trimmed", "KL median", "KL - KL of the axis' first row [95 %]"), lines)
    return text


def softness(runs, models, settings, values=(0.05, 0.25, 1.0)):
    """Entropies with other tau against the joint gains that are in the store."""
    rows = []
    for (model, setting, seed), gains in dependence.analyses(runs, models, settings).items():
        _, _, error, ded = dependence.pairs(gains)
        for tau in values:
            plan = {**dependence.PLAN, "tau": tau}
            found = runs.all([lambda: runs.analysis(model, setting, plan, samples=dependence.SAMPLES, seed=seed)])[0]
            if found is None:
                continue
            entropy = dependence.entropies(found)
            share = max(layer["level_share"] for layer in found["decoder"])
            rows.append([model, setting, tau, small(entropy.mean()), f"{100 * share:.0f} %", dependence.both(entropy, ded),
                         dependence.both(entropy, error), dependence.blocks_of(found)])
    return table(("model", "setting", "tau", "D mean", "largest share of one code", "D with DED", "D with block error",
                  "blocks"), rows)
