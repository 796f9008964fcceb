"""E1, E4 and E12 of what other experiments left in the store: invariants, choices, question types. Starts nothing."""

import json
from collections import Counter

import numpy as np

from experiments import statistics
from experiments.runs import STORE
from experiments.settings import SETTINGS
from experiments.strategies import Judge
from experiments.tables import small, table


def stored(kind, name):
    for file in sorted((STORE / kind).glob(f"*/{name}")):
        yield json.loads(file.read_text())


def setting_of(report):
    return report["recipe"] if report["recipe"] in SETTINGS else "other"


def joint_against_greedy():
    """E1: every block of every search, and every start layer and depth of every analysis."""
    compared = {}
    for report in stored("search", "q.json"):
        compared.setdefault(("blocks of searches", setting_of(report)), []).extend(
            (block["greedy_error"], block["error"]) for block in report["search"]["blocks"] if block["depth"] > 1)
    for report in stored("analysis", "analysis.json"):
        compared.setdefault(("start layers of analyses", setting_of(report)), []).extend(
            pair for gain in report["joint_gains"] for pair in list(zip(gain["greedy_error"], gain["joint_error"]))[1:])
    rows = []
    for (kind, setting), pairs in sorted(compared.items()):
        if pairs:
            greedy, joint = np.array(pairs).T
            rows.append([kind, setting, len(pairs), (joint > greedy).sum(), (joint < greedy).sum(),
                         (joint < 0.99 * greedy).sum(), f"{100 * np.mean(1 - joint / greedy):.2f} %",
                         f"{100 * np.max(1 - joint / greedy):.2f} %"])
    return table(("what", "setting", "depth > 1", "joint above greedy", "joint below", "below by over 1 %", "mean gain",
                  "largest gain"), rows)


def wins(found):
    """E4: which candidates the layers of all runs chose."""
    rows = []
    for (model, setting, strategy), reports in found.items():
        if strategy in ("nearest", "one ratio"):
            continue
        count = Counter()
        for report in reports.values():
            count.update({name.split(",")[0].split()[-1]: value for name, value in report["search"]["wins"].items()})
        rows.append([setting, model, strategy, len(reports),
                     ", ".join(f"{clip}: {number}" for clip, number in sorted(count.items(), key=lambda x: -float(x[0])))])
    return table(("setting", "model", "strategy", "runs", "ratio: layers that chose it"), rows)


def by_type(runs, found, models, settings, strategies):
    """E12: divergence and accuracy by type of question, of the first seed."""
    rows = []
    for setting in settings:
        for model in models:
            runs_of = {name: found[model, setting, name] for name in strategies if (model, setting, name) in found}
            if not runs_of:
                continue
            judge = Judge(runs, model, runs_of)
            kinds = np.array([item["category"] for item in judge.reference["items"]])
            right = statistics.correct(judge.reference)
            rows.append([setting, model, "float", *(f"{100 * right[kinds == kind].mean():.0f} %" for kind in sorted(set(kinds)))])
            for name in runs_of:
                kl, right = judge.kl(name).mean(axis=1), judge.items(name, statistics.correct).mean(axis=1)
                rows.append([setting, model, name, *(f"{small(kl[kinds == kind].mean())}, {100 * right[kinds == kind].mean():.0f} %"
                                                     for kind in sorted(set(kinds)))])
    return table(("setting", "model", "strategy", *sorted(set(kinds))), rows) if rows else ""
