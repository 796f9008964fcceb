"""E2, E4, E5, E10, E11: what the entropy of neighbouring layers has to do with the gain of joint search.

DED of a pair: its error at the second layer's output, layers searched one after the other, minus searched jointly.
"""

import itertools
import json

import numpy as np

from experiments import statistics
from experiments.runs import CALIBRATION, ROOT, STORE
from experiments.settings import STRATEGIES
from experiments.tables import signed, small, table

PLAN = STRATEGIES["entropy"]
SAMPLES = 8  # of the analyses that measure joint gains: 1585 layer-forwards each


def analyses(runs, models, settings, gains=True, samples=SAMPLES, seeds=(0,), **options):
    keys = [(model, setting, seed) for seed in seeds for setting in settings for model in models]
    found = runs.all([lambda key=key: runs.analysis(key[0], key[1], PLAN, gains=gains, samples=samples, seed=key[2],
                                                    **options) for key in keys])
    return {key: report for key, report in zip(keys, found) if report is not None}


def pairs(report):
    """Of neighbours (k, k + 1): dependency, error proxy, greedy error behind the pair, DED."""
    gains = [gain for gain in report["joint_gains"] if len(gain["greedy_error"]) > 1]
    errors = np.array([layer["error"] for layer in report["decoder"]])
    return (np.array([layer["dependency"] for layer in report["decoder"]][:-1]), (errors[1:] + errors[:-1]) / 2,
            np.array([gain["greedy_error"][1] for gain in gains]),
            np.array([gain["greedy_error"][1] - gain["joint_error"][1] for gain in gains]))


def both(x, y):
    """Pearson and Spearman, each with its permutation p."""
    texts = []
    for of_ranks in (False, True):
        value, p = statistics.correlation(x, y, of_ranks)
        texts.append("-" if np.isnan(value) else f"{signed(value)} ({p:.2f})")
    return " / ".join(texts)


def across_layers(runs, models, settings):
    rows = []
    for (model, setting, _), report in analyses(runs, models, settings).items():
        entropy, proxy, error, ded = pairs(report)
        rows.append([model, setting, both(entropy, ded), both(entropy, error), both(proxy, ded), both(proxy, error),
                     f"{(ded > 0).sum()} / {len(ded)}", f"{(ded > 0.01 * error).sum()} / {len(ded)}",
                     f"{100 * (ded / error).mean():.2f} %"])
    return table(("model", "setting", "D with DED", "D with block error", "error proxy with DED",
                  "error proxy with block error", "DED > 0", "DED > 1 %", "mean DED / error"), rows)


FILLER = "is there a circle in the image what color is the shape is there a blue shape in the image".split()


def single_samples(count, padded=False):
    """Manifests of one item each. padded: the n-th question has n words before it, so that prompts differ in length."""
    folder = STORE / ("padded" if padded else "single")
    folder.mkdir(parents=True, exist_ok=True)
    source = ROOT / CALIBRATION
    if not (folder / "images").exists():
        (folder / "images").symlink_to(source / "images")
    files = []
    for place, line in enumerate((source / "data.jsonl").read_text().splitlines()[:count]):
        file = folder / f"{place}.jsonl"
        if not file.exists():
            item = json.loads(line)
            if padded:
                words = [FILLER[word % len(FILLER)] for word in range(place)]
                item["question"] = " ".join([*words, item["question"]])
            file.write_text(json.dumps(item) + "\n")
        files.append(str(file.relative_to(ROOT)))
    return files


def across_samples(runs, model, setting, padded, count=24, layer=4):
    """Correlations over samples at one layer. Two candidates only: the smallest search that can have a DED."""
    clips = [1, 0.8] if setting.endswith("token") else [1, 0.98]
    found = runs.all([lambda data=data: runs.analysis(model, setting, PLAN, data=data, gains=True, samples=1,
                                                      activation_clip=clips) for data in single_samples(count, padded)])
    found = [report for report in found if report is not None]
    if len(found) < 4:
        return ""
    measured = [pairs(report) for report in found]
    length = np.array([report["image_tokens"] + report["text_tokens"] + report["answer_tokens"] for report in found])
    entropy = np.array([one[0][layer] for one in measured])
    error, ded = (np.array([one[part][layer] for one in measured]) for part in (2, 3))
    summed_error = error * (length - 1)  # the first token is left out
    rows = [[name, both(x, length), both(x, error), both(x, summed_error), both(x, ded),
             both(statistics.residual(x, length), statistics.residual(error, length)),
             both(statistics.residual(x, length), statistics.residual(summed_error, length))]
            for name, x in (("D per element", entropy), ("D summed over tokens", entropy * length))]
    head = (f"**{model}, {setting}**, layers {layer} and {layer + 1}, {len(found)} samples of {length.min()} to "
            f"{length.max()} tokens; DED > 0 in {(ded > 0).sum()}\n\n")
    return head + table(("", "with tokens", "with error per token", "with summed error", "with DED",
                         "with error per token, tokens fixed", "with summed error, tokens fixed"), rows)


# --- E5: partitions on measured gains ---------------------------------------------------------------


def group(dependency, h0, max_depth=3):
    blocks, first = [], 0
    while first <= len(dependency):
        depth = 1
        while depth < max_depth and first + depth <= len(dependency):
            if not sum(dependency[first:first + depth]) > depth * h0:
                break
            depth += 1
        blocks.append((first, depth))
        first += depth
    return blocks


def thresholds(dependency, max_depth=3):
    sums = [np.mean(dependency[first:first + depth]) for depth in range(1, max_depth)
            for first in range(len(dependency) - depth + 1)]
    return sorted({-np.inf, np.inf, *np.nextafter(sums, np.inf), *np.nextafter(sums, -np.inf)})


def cost_of(blocks, clips=5):
    return sum(sum(clips ** length for length in range(1, depth + 1)) for _, depth in blocks)


def gain_of(blocks, report):
    gains = report["joint_gains"]
    return sum(gains[first]["greedy_error"][depth - 1] - gains[first]["joint_error"][depth - 1] for first, depth in blocks)


def all_partitions(units, max_depth=3):
    if units == 0:
        yield []
    for depth in range(1, min(units, max_depth) + 1):
        for rest in all_partitions(units - depth, max_depth):
            yield [depth, *rest]


def front(runs, models, settings, shares=(0.1, 0.25, 0.5, 0.75, 1.0)):
    """Measured gain inside the planned blocks, in shares of the most that any partition has, by budget."""
    rows = []
    for (model, setting, _), report in analyses(runs, models, settings).items():
        units = len(report["decoder"])
        every = [list(zip(np.cumsum([0, *depths[:-1]]).tolist(), depths)) for depths in all_partitions(units)]
        every = [(cost_of(blocks), gain_of(blocks, report)) for blocks in every]
        least, most = 5 * units, cost_of([(0, 3)] * (units // 3) + [(0, units % 3)])
        top = max(gain for _, gain in every)
        entropy, proxy, _, _ = pairs(report)
        for name in ("random", "error", "entropy", "oracle"):
            cells = []
            for share in shares:
                budget = least + share * (most - least)
                cells.append(best_within(name, {"entropy": entropy, "error": proxy}, report, every, budget) / top
                             if top > 0 else np.nan)
            rows.append([model, setting, name, *("-" if np.isnan(cell) else f"{100 * cell:.0f} %" for cell in cells)])
    return table(("model", "setting", "plan", *(f"share {share}" for share in shares)), rows)


def best_within(name, numbers, report, every, budget):
    if name == "oracle":
        return max(gain for cost, gain in every if cost <= budget)
    if name == "random":
        rng = np.random.default_rng(0)
        draws = [rng.random(len(report["decoder"]) - 1) for _ in range(50)]
        return np.mean([planned(draw, report, budget) for draw in draws])
    return planned(numbers[name], report, budget)


def planned(dependency, report, budget):
    """Measured gain of the plan that qvlm's rule makes: of the thresholds within budget the largest sum inside."""
    plans = [group(dependency, h0) for h0 in thresholds(dependency)]
    plans = [blocks for blocks in plans if cost_of(blocks) <= budget + 1e-9]
    def inside(blocks):
        return sum(sum(dependency[first:first + depth - 1]) for first, depth in blocks)
    best = max(plans, key=lambda blocks: (round(inside(blocks), 12), -cost_of(blocks)))
    return gain_of(best, report)


def depths(runs, models, settings):
    """E4 from the same measurements: error of joint search behind 1, 2, 3 layers, in shares of greedy's."""
    rows = []
    for (model, setting, _), report in analyses(runs, models, settings).items():
        cells = []
        for depth in (2, 3):
            ratios = [1 - gain["joint_error"][depth - 1] / gain["greedy_error"][depth - 1]
                      for gain in report["joint_gains"] if len(gain["greedy_error"]) >= depth]
            cells += [f"{100 * np.mean(ratios):.2f} %", f"{100 * np.max(ratios):.2f} %"]
        rows.append([model, setting, *cells])
    return table(("model", "setting", "depth 2: mean", "most", "depth 3: mean", "most"), rows)


# --- E10, E11 ---------------------------------------------------------------------------------------


def entropies(report):
    return np.array([layer["dependency"] for layer in report["decoder"]][:-1])


def blocks_of(report, strategy="entropy"):
    plan = next(plan for plan in report["plans"] if plan["strategy"] == strategy)
    return " ".join(str(block["first"]) + ("" if block["depth"] == 1 else f"-{block['first'] + block['depth'] - 1}")
                    for block in plan["blocks"])


def padded_prompts(words, name):
    """The calibration data with other words around each question."""
    folder = STORE / name
    folder.mkdir(parents=True, exist_ok=True)
    source = ROOT / CALIBRATION
    if not (folder / "images").exists():
        (folder / "images").symlink_to(source / "images")
    lines = []
    for line in (source / "data.jsonl").read_text().splitlines():
        item = json.loads(line)
        item["question"] = words(item["question"])
        lines.append(json.dumps(item))
    (folder / "data.jsonl").write_text("\n".join(lines) + "\n")
    return str(folder.relative_to(ROOT))


def changes(runs, samples=16):
    """E10: prompts made longer and shorter, and the twin whose layers are rescaled."""
    longer = padded_prompts(lambda question: "look at the image. is there a shape? " + question, "longer")
    shorter = padded_prompts(lambda question: " ".join(question.split()[-3:]), "shorter")
    cases = [("reference", CALIBRATION, "as it is"), ("diagonal", CALIBRATION, "layers rescaled (twin diagonal)"),
             ("turned", CALIBRATION, "residual stream turned (twin turned)"), ("reference", longer, "prompts longer"),
             ("reference", shorter, "prompts cut to three words"),
             ("reference", "build/data/easy-vqa-calibration", "another task (easy-VQA)")]
    found = runs.all([lambda case=case: runs.analysis(case[0], "w3a3-token", PLAN, data=case[1], samples=samples)
                      for case in cases])
    if found[0] is None:
        return ""
    base = entropies(found[0])
    rows = []
    for (_, _, name), report in zip(cases, found):
        if report is None:
            continue
        tokens = (report["image_tokens"] + report["text_tokens"] + report["answer_tokens"]) / report["samples"]
        rows.append([name, f"{tokens:.1f}", small(entropies(report).mean()), small(np.abs(entropies(report) - base).max()),
                     signed(statistics.spearman(entropies(report), base)), blocks_of(report)])
    return table(("change", "tokens a sample", "D mean", "largest change of a D", "rank correlation with the first",
                  "blocks"), rows)


def sample_counts(runs, models, counts=(8, 16, 64), seeds=range(5)):
    """E11: spread of D and of the partition over calibration seeds, by number of samples."""
    rows = []
    for count, model in itertools.product(counts, models):
        found = analyses(runs, [model], ["w3a3-token"], gains=False, samples=count, seeds=seeds)
        if len(found) < 2:
            continue
        values = np.stack([entropies(report) for report in found.values()])
        plans = [blocks_of(report) for report in found.values()]
        usual = max(set(plans), key=plans.count)
        rows.append([model, count, len(plans), small(values.std(axis=0, ddof=1).mean()),
                     small(values.mean(axis=0).std(ddof=1)), f"{plans.count(usual)} of {len(plans)}", usual])
    return table(("model", "samples", "seeds", "D: deviation over seeds", "D: deviation over layers",
                  "seeds with the usual partition", "usual partition"), rows)
