"""E9: what the presets' steps keep of the float model, and their divergence beside that of every single method."""

from experiments import ladder, statistics
from experiments.runs import ROOT, TEST
from experiments.tables import table

PRESETS = {"balanced": "searched + massive apart + gptq by gradient", "best": "each clip by kind"}
# Where they are other methods, or more of them, than `balanced` above.
OF_SETTING = {
    "w3a3": PRESETS,
    "w4a4": {"all of 4 bits": PRESETS["balanced"], "all of 4 bits, clips": PRESETS["best"], "balanced": "balanced", "best": "best"},
    "w8a8": {"balanced": "smooth"},
}
SINGLE = ("smooth, searched", "awq", "rotate", "gptq")
HARD = ("w4a4", "w3a3")  # where single methods and `best` are looked at


def report(runs, models, bits, seeds):
    lines = [line for setting in bits for model in models for line in lines_of(runs, model, setting, seeds)]
    head = ("format, model", "seeds", "accuracy kept", "same answers", f"KL / {ladder.BASE}", "KL / best single method", "which")
    return table(head, lines)


def lines_of(runs, model, setting, seeds):
    hard = setting in HARD
    presets = OF_SETTING.get(setting, {"balanced": PRESETS["balanced"]})
    methods = (ladder.BASE, *presets.values(), *(SINGLE if hard else ()))
    found = ladder.measure(runs, model, *ladder.bits_of(setting), seeds, methods)
    reference = runs.reference(model)
    rows = {row[0]: row for row in ladder.rows(reference, found, ladder.BASE)}
    kl = {method: statistics.divergences(reference, reports) for method, reports in found.items()}
    for preset, method in presets.items():
        if method not in rows:
            continue
        _, count, *_, same, kept, ratio = rows[method]
        line = [f"{setting} {model}, {preset}", count, kept, same, ratio]
        yield line + (beside(kl, method, statistics.pictures(reference, ROOT, TEST)) if hard else ["-", "-"])


def beside(kl, method, groups):
    """Its divergence over that of the single method with the least, and which one that is."""
    known = [single for single in SINGLE if single in kl]
    if not known:
        return ["-", "-"]
    best = min(known, key=lambda single: kl[single].mean())
    return [ladder.ratio(kl, method, best, groups), best]
