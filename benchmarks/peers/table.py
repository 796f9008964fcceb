"""The table of a run in Markdown."""
import datetime
import statistics
from pathlib import Path

from programs import CLASSES

BEGIN, END = "<!-- peers: made by benchmarks/peers/run.sh -->", "<!-- peers: end -->"


def rate(entry, rows, shape):
    return 2 * rows * shape[0] * shape[1] / statistics.median(entry["seconds"])


def share(entry, rows, shape, peaks, peak):
    """Percent of the limit: of the streaming read for one row, of the multiplications otherwise."""
    if rows == 1 and shape[0] * shape[1] > 1 << 20:
        return 100 * entry["bytes"] / statistics.median(entry["seconds"]) / peaks["read"]
    return 100 * rate(entry, rows, shape) / peaks[peak]


def cell(entries, rows, shapes, peaks, peak):
    texts = []
    for shape, entry in zip(shapes, entries):
        if entry is None or "absent" in entry:
            texts.append("-")
        else:
            texts.append(f"{rate(entry, rows, shape) * 1e-9:.0f} ({share(entry, rows, shape, peaks, peak):.0f})")
    return " / ".join(texts)


def best_peer(results, keys, amx):
    times = [min_time for name, entry in keys
             if name != "qvlm" and name.endswith("(AMX)") == amx and entry and "seconds" in entry
             for min_time in [statistics.median(entry["seconds"])]]
    return min(times, default=None)


def ratio_cell(kind, threads, results, names, rows, shapes, amx):
    texts = []
    for shape in shapes:
        ours = results.get((threads, kind.title, "qvlm", kind.ours[0], shape, rows))
        keys = [(name, results.get((threads, kind.title, name, kernel, shape, rows))) for name, kernel in names]
        best = best_peer(results, keys, amx)
        usable = ours and "seconds" in ours and best
        texts.append(f"{best / statistics.median(ours['seconds']):.2f}" if usable else "-")
    return " / ".join(texts)


def class_table(kind, threads, options, results, peaks, shapes):
    names = list(dict.fromkeys((k[2], k[3]) for k in results if k[0] == threads and k[1] == kind.title))
    lines = ["| | " + " | ".join(f"M = {m}" for m in options.rows) + " |", "|---" * (len(options.rows) + 1) + "|"]
    for name, kernel in names:
        cells = [cell([results.get((threads, kind.title, name, kernel, s, m)) for s in shapes], m, shapes,
                      peaks[threads], kind.peak) for m in options.rows]
        lines.append(f"| {name}: {kernel} | " + " | ".join(cells) + " |")
    for amx, words in ((False, "no AMX"), (True, "AMX")):
        if kind.ours and any(name.endswith("(AMX)") == amx and name != "qvlm" for name, _ in names):
            cells = [ratio_cell(kind, threads, results, names, m, shapes, amx) for m in options.rows]
            lines.append(f"| **{kind.ours[0]} : best peer, {words}** | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def absences(results):
    found = {}
    for (_, _, name, kernel, shape, rows), entry in results.items():
        if "absent" in entry:
            found.setdefault(f"{name}: {kernel}: {entry['absent']}", []).append(f"M {rows} {shape[0]}x{shape[1]}")
    return [f"- absent: {text} ({places[0]}{' and others' if len(places) > 1 else ''})" for text, places in found.items()]


def cpu_name():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown CPU")


def render(options, results, peaks, versions):
    big = [s for s in options.shapes if s[0] * s[1] > 1 << 20]
    small = [s for s in options.shapes if s not in big]
    lines = [f"{datetime.date.today()}, {cpu_name()}. Median GF/s and, in parentheses, percent of the peak: for M = 1 of the "
             "streaming read, otherwise of the multiplications; `:` rows are how many times as fast as the best peer.",
             "", "- versions: " + "; ".join(f"{name} {text}" for name, text in versions.items())]
    for threads, p in peaks.items():
        lines.append(f"- peaks, {threads} threads: int8 {p['int8'] * 1e-9:.0f} GOPS, bf16 {p['bf16'] * 1e-9:.0f} GFLOP/s, "
                     f"read {p['read'] * 1e-9:.1f} GB/s")
    lines += absences(results)
    for shapes in (big, small):
        for threads in peaks if shapes else ():
            for kind in CLASSES:
                places = " / ".join(f"{k}x{n}" for k, n in shapes)
                lines += ["", f"**{kind.title}, {threads} threads**, K x N = {places}", "",
                          class_table(kind, threads, options, results, peaks, shapes)]
    return "\n".join(lines) + "\n"


def replace(path, text):
    content = path.read_text()
    before, rest = content.split(BEGIN)
    path.write_text(before + BEGIN + "\n" + text + END + rest.split(END)[1])
