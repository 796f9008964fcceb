"""E3: search strategies at equal budget. Beside them: no search, and the best single ratio for all layers."""

import numpy as np

from experiments import statistics
from experiments.runs import ROOT, TEST
from experiments.settings import STRATEGIES, candidates
from experiments.tables import between, changed, marked, small, table

SEEDS = range(5)
# By how much the costly ones are worth running: oracle on the first seed only.
ORDER = ("nearest", "one ratio", "greedy", "fixed 2", "random", "error", "entropy", "oracle", "fixed 3")


def last_error(report):
    return report["search"]["blocks"][-1]["error"]


def one_ratio(runs, model, setting, seed, ratio, evaluate):
    return runs.search(model, setting, STRATEGIES["greedy"], seed=seed, evaluate=evaluate, activation_clip=[ratio])


def best_ratio(runs, model, setting, seed):
    """The ratio whose error on the calibration samples, behind the last layer, is smallest."""
    reports = {ratio: one_ratio(runs, model, setting, seed, ratio, evaluate=False) for ratio in candidates(setting)}
    ratio = min(reports, key=lambda ratio: last_error(reports[ratio]))
    report = one_ratio(runs, model, setting, seed, ratio, evaluate=True)
    report["search"]["forwards"] = sum(one["search"]["forwards"] for one in reports.values())
    return report


def run(runs, model, setting, strategy, seed):
    if strategy == "nearest":
        return one_ratio(runs, model, setting, seed, 1, evaluate=True)
    if strategy == "one ratio":
        return best_ratio(runs, model, setting, seed)
    return runs.search(model, setting, STRATEGIES[strategy], seed=seed)


def sweep(runs, models, settings, seeds=SEEDS, strategies=ORDER):
    """{(model, setting, strategy): {seed: report}}, of what is there."""
    keys = [(model, setting, strategy, seed) for seed in seeds for setting in settings for model in models
            for strategy in strategies if strategy != "oracle" or seed == 0]
    runs.all([lambda model=model: runs.reference(model) for model in models])
    found = {}
    for key, report in zip(keys, runs.all([lambda key=key: run(runs, *key) for key in keys])):
        if report is not None:
            found.setdefault(key[:3], {})[key[3]] = report
    return found


class Judge:
    """Held-out numbers of the runs of one model. Rows average over the seeds that a strategy and greedy both have."""

    def __init__(self, runs, model, by_strategy):
        self.reference = runs.reference(model)
        self.groups = statistics.pictures(self.reference, ROOT, TEST)
        self.reports = by_strategy
        self.seeds = sorted(by_strategy["greedy"]) if "greedy" in by_strategy else []

    def seeds_of(self, strategy):
        return [seed for seed in self.seeds if seed in self.reports[strategy]]

    def items(self, strategy, measure, seeds=None):
        """[items, seeds]"""
        seeds = self.seeds_of(strategy) if seeds is None else seeds
        return np.stack([measure(self.reports[strategy][seed]["evaluation"]) for seed in seeds], axis=1)

    def kl(self, strategy, seeds=None):
        return self.items(strategy, lambda report: statistics.divergence(self.reference, report), seeds)

    def row(self, strategy, against):
        seeds = self.seeds_of(strategy)
        kl, other = self.kl(strategy), self.kl(against, seeds)
        reports = [self.reports[strategy][seed] for seed in seeds]
        margin = self.items(strategy, statistics.margins) - statistics.margins(self.reference)[:, None]
        difference = kl - other
        return [
            strategy, len(seeds), small(np.mean([report["search"]["forwards"] for report in reports])),
            small(np.mean([last_error(report) for report in reports])), small(kl.mean()),
            small(np.mean([statistics.trimmed(kl[:, i]) for i in range(kl.shape[1])])), small(np.median(kl, axis=0).mean()),
            "-" if strategy == against else small(difference.mean()) + " " + between(
                statistics.bootstrap(difference, self.groups)),
            f"{np.nanmean(margin):+.3f}", f"{100 * self.items(strategy, statistics.correct).mean():.1f} %"]

    def difference(self, strategy, against):
        """Mean difference of KL on the seeds of both, with its interval, as text."""
        seeds = [seed for seed in self.seeds_of(strategy) if seed in self.reports[against]]
        values = self.kl(strategy, seeds) - self.kl(against, seeds)
        return f"{strategy} - {against}: {small(values.mean())} {between(statistics.bootstrap(values, self.groups))}"


    def error_change(self, strategy):
        """Last error less greedy's, in percent of it, and on how many seeds it is below."""
        seeds = self.seeds_of(strategy)
        changes = [last_error(self.reports[strategy][seed]) / last_error(self.reports["greedy"][seed]) - 1 for seed in seeds]
        return changed(changes, 2)

    def change(self, strategy, against):
        """Mean difference of KL on the seeds of both, with its interval; marked where that excludes 0."""
        seeds = [seed for seed in self.seeds_of(strategy) if seed in self.reports[against]]
        if not seeds:
            return "-"
        values = self.kl(strategy, seeds) - self.kl(against, seeds)
        return marked(values.mean(), statistics.bootstrap(values, self.groups))


def judges(runs, found, models, settings, strategies=ORDER):
    """(setting, model, its reports by strategy, their Judge) of what a sweep found, where greedy was."""
    for setting in settings:
        for model in models:
            by_strategy = {name: found[model, setting, name] for name in strategies if (model, setting, name) in found}
            if "greedy" in by_strategy:
                yield setting, model, by_strategy, Judge(runs, model, by_strategy)


HEAD = ("strategy", "seeds", "layer-forwards", "last block's error", "KL mean", "KL trimmed", "KL median",
        "KL - KL of greedy [95 %]", "margin", "accuracy")


def recovered(reports):
    """Text: of the gain in last-block error that depth 3 everywhere has over greedy, and of its extra cost, what the
    other plans get; on the seeds that each has in common with both."""
    texts = []
    for strategy in ("fixed 3", "fixed 2", "random", "error", "entropy", "oracle"):
        seeds = [seed for seed in reports.get(strategy, ()) if seed in reports["greedy"] and seed in reports.get("fixed 3", ())]
        if not seeds:
            continue
        def above_greedy(name, get):
            return np.mean([get(reports[name][seed]) - get(reports["greedy"][seed]) for seed in seeds])
        def forwards(report):
            return report["search"]["forwards"]
        gain, extra = above_greedy("fixed 3", last_error), above_greedy("fixed 3", forwards)
        if strategy == "fixed 3":
            start = np.mean([last_error(reports["greedy"][seed]) for seed in seeds])
            texts.append(f"Depth 3 everywhere changes greedy's last error by {100 * gain / start:+.2f} %")
        elif gain:
            texts.append(f"{strategy}: {100 * above_greedy(strategy, last_error) / gain:.0f} % of that for "
                         f"{100 * above_greedy(strategy, forwards) / extra:.0f} % of the extra cost")
    return "; ".join(texts) + "." if texts else ""


CONTRASTS = (("fixed 3", "one ratio"), ("entropy", "random"), ("entropy", "fixed 3"), ("entropy", "fixed 2"))


COMPACT = ("nearest", "one ratio", "fixed 2", "random", "error", "entropy", "oracle", "fixed 3")


def summary(runs, models, settings, seeds=SEEDS):
    """E3 in three tables: a row a model and setting."""
    found = sweep(runs, models, settings, seeds)
    errors, kls, differences = [], [], []
    for setting, model, by_strategy, judge in judges(runs, found, models, settings):
        def cell(name, form):
            return form(name) if name in by_strategy and judge.seeds_of(name) else "-"
        greedy = np.mean([last_error(one) for one in by_strategy["greedy"].values()])
        errors.append([setting, model, len(judge.seeds), small(greedy), *(cell(name, judge.error_change) for name in COMPACT)])
        def mean_kl(name):
            return f"{small(judge.kl(name).mean())}, {100 * judge.items(name, statistics.correct).mean():.1f} %"
        kls.append([setting, model, f"{100 * statistics.correct(judge.reference).mean():.1f} %",
                    *(cell(name, mean_kl) for name in ("nearest", "one ratio", "greedy", "random", "entropy", "fixed 3"))])
        differences.append([setting, model, *(judge.change(*pair) if set(pair) <= set(by_strategy) else "-" for pair in (
            ("greedy", "nearest"), ("fixed 3", "greedy"), ("entropy", "greedy"), ("entropy", "random"), ("fixed 3", "one ratio")))])
    return "\n".join((
        table(("setting", "model", "seeds", "greedy's last error", *COMPACT), errors),
        table(("setting", "model", "float", "nearest", "one ratio", "greedy", "random", "entropy", "fixed 3"), kls),
        table(("setting", "model", "greedy - nearest", "fixed 3 - greedy", "entropy - greedy", "entropy - random",
               "fixed 3 - one ratio"), differences)))


def contrast(runs, models, one, other, seeds=SEEDS):
    """A row a model: (setting, strategy) `one` against `other`, on the seeds of both."""
    rows = []
    for model in models:
        sides = [sweep(runs, [model], [setting], seeds, [strategy]).get((model, setting, strategy), {}) for setting, strategy in (one, other)]
        common = sorted(set(sides[0]) & set(sides[1]))
        if not common:
            continue
        first, second = ([side[seed] for seed in common] for side in sides)
        reference = runs.reference(model)
        kl, base = (statistics.divergences(reference, [run["evaluation"] for run in side]) for side in (first, second))
        right, right_base = (np.mean([statistics.correct(run["evaluation"]).mean() for run in side]) for side in (first, second))
        def changes(get):
            return changed([get(a) / get(b) - 1 for a, b in zip(first, second)], 1)
        def of_kind(kind):
            return lambda run: run["search"]["blocks"][-1]["token_errors"][kind]
        ends = statistics.bootstrap(kl - base, statistics.pictures(reference, ROOT, TEST))
        rows.append([f"{one[0]}, {one[1]}", f"{other[0]}, {other[1]}", model, changes(lambda run: run["search"]["forwards"]).split(" (")[0],
                     changes(last_error) if not one[0].endswith(("answers", "gradient")) else "-", changes(of_kind("image")), changes(of_kind("answer")),
                     f"{small(base.mean())} -> {small(kl.mean())}", marked((kl - base).mean(), ends),
                     f"{100 * right_base:.1f} -> {100 * right:.1f} %"])
    return rows


CONTRAST_HEAD = ("what", "against", "model", "layer-forwards", "last error", "of image tokens", "of answer tokens", "KL mean",
                 "KL difference [95 %]", "right")


def alternatives(runs, models, seeds=SEEDS):
    """What else than depth could pay: tokens weighed by kind, a clip for every input."""
    rows = []
    for one, other in ((("w3a3-answers", "greedy"), ("w3a3-token", "greedy")), (("w3a3-answers", "fixed 3"), ("w3a3-token", "fixed 3")),
                       (("w3a3-inputs", "greedy"), ("w3a3-token", "greedy")), (("w4a4-inputs", "greedy"), ("w4a4-token", "greedy")),
                       (("w3a3-inputs-answers", "greedy"), ("w3a3-token", "greedy")),
                       (("w4a4-inputs-answers", "greedy"), ("w4a4-token", "greedy")),
                       (("w3a3-inputs-gradient", "greedy"), ("w3a3-inputs-answers", "greedy")),
                       (("w4a4-inputs-gradient", "greedy"), ("w4a4-inputs-answers", "greedy")),
                       (("w4a4-inputs-gradient", "fixed 3"), ("w4a4-inputs-gradient", "greedy")),
                       (("w3a3-channel-answers", "greedy"), ("w3a3-channel", "greedy")),
                       (("w3a3-channel-answers", "greedy"), ("w3a3-channel", "nearest")),
                       (("w3a3-inputs", "random"), ("w3a3-inputs", "greedy")), (("w3a3-inputs", "entropy"), ("w3a3-inputs", "greedy")),
                       (("w3a3-inputs", "fixed 3"), ("w3a3-inputs", "greedy"))):
        rows += contrast(runs, models, one, other, seeds)
    return table(CONTRAST_HEAD, rows)


def generalization(runs, models, settings, seeds=SEEDS, strategies=("greedy", "random", "entropy", "fixed 3")):
    """Whether what is gained on the searched samples is gained on others: 32 samples, 16 of them set aside. Changes of
    the last block's error against greedy, in percent: mean (seeds below greedy)."""
    rows = []
    for setting in settings:
        for model in models:
            keys = [(name, seed) for name in strategies for seed in seeds]
            found = runs.all([lambda key=key: runs.search(model, setting, STRATEGIES[key[0]], samples=32, seed=key[1],
                                                          evaluate=False, held_out=True) for key in keys])
            last = {key: one["search"]["blocks"][-1] for key, one in zip(keys, found) if one is not None}
            for name in strategies[1:]:
                both = [(last[name, seed], last["greedy", seed]) for seed in seeds if {(name, seed), ("greedy", seed)} <= set(last)]
                if not both:
                    continue
                def cell(get):
                    return changed([get(one) / get(greedy) - 1 for one, greedy in both], 2)
                rejected = np.mean([not block["kept"] for seed in seeds for key, one in zip(keys, found)
                                    if one is not None and key == (name, seed) for block in one["search"]["blocks"]])
                rows.append([setting, model, name, cell(lambda block: block["error"]), cell(lambda block: block["held_out_error"]),
                             *(cell(lambda block, kind=kind: block["token_errors"][kind]) for kind in ("image", "text", "answer")),
                             f"{100 * rejected:.0f} %"])
    return table(("setting", "model", "strategy", "searched samples", "set aside", "their image tokens", "text", "answer",
                  "blocks rejected"), rows)


def report(runs, models, settings, seeds=SEEDS, strategies=ORDER):
    found = sweep(runs, models, settings, seeds, strategies)
    text = ""
    for setting, model, by_strategy, judge in judges(runs, found, models, settings, strategies):
        accuracy = 100 * statistics.correct(judge.reference).mean()
        text += f"\n**{model}, {setting}** (seeds {judge.seeds}; float accuracy {accuracy:.1f} %)\n\n"
        text += table(HEAD, [judge.row(name, "greedy") for name in by_strategy if judge.seeds_of(name)])
        text += "\n" + recovered(by_strategy) + "\n"
        text += "Differences of mean KL: " + "; ".join(
            judge.difference(*pair) for pair in CONTRASTS if set(pair) <= set(by_strategy)) + ".\n"
    return text
