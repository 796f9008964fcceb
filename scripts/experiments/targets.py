"""E9: what the presets' steps keep of the float model, and their divergence beside that of every single method."""

from experiments import ladder, statistics
from experiments.runs import ROOT, TEST
from experiments.tables import table

OURS = "searched + massive apart + gptq by gradient"
SINGLE = {"w4a4": ("smooth, searched", "awq", "rotate", "gptq"), "w3a3": ("smooth, searched", "awq", "rotate", "gptq")}
METHODS = (OURS, ladder.BASE)  # where nothing is said of single methods


def report(runs, models, bits, seeds):
    lines = [one_line(runs, model, setting, seeds) for setting in bits for model in models]
    head = ("format, model", "seeds", "accuracy kept", "same answers", f"KL / {ladder.BASE}", "KL / best single method", "which")
    return table(head, lines)


def one_line(runs, model, setting, seeds):
    single = SINGLE.get(setting, ())
    found = ladder.measure(runs, model, *ladder.bits_of(setting), seeds, (*METHODS, *single))
    reference = runs.reference(model)
    rows = {row[0]: row for row in ladder.rows(reference, found, ladder.BASE)}
    _, count, *_, same, kept, ratio = rows[OURS]
    kl = {method: statistics.divergences(reference, reports) for method, reports in found.items()}
    best = min(single, key=lambda method: kl[method].mean(), default=None)
    beside = "-" if best is None else ladder.ratio(kl, OURS, best, statistics.pictures(reference, ROOT, TEST))
    return [f"{setting} {model}", count, kept, same, ratio, beside, best or "-"]
