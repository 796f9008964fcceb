"""E8: layer-forwards that a strategy needs before it can plan, as the progress line counts them."""

import os
import pty
import re
import subprocess

from experiments.runs import CALIBRATION, ROOT, STORE, write_recipe
from experiments.settings import MODELS, STRATEGIES, recipe
from experiments.tables import table

SAMPLES = 64  # slow enough for the line to show every forward


def count(program, model, strategy):
    folder = STORE / f"forwards-{model}-{strategy}"
    write_recipe(folder, recipe("w4a4-token", STRATEGIES[strategy], samples=SAMPLES, activation_clip=[1]))
    command = [program, "--threads", "1", "quantize", MODELS[model], folder / "model", "--recipe", folder / "recipe.yaml",
               "--data", CALIBRATION, "--overwrite"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:
            break
        if not part:
            break
        shown += part
    process.wait()
    return max((int(number) for number in re.findall(rb"dependencies (\d+)/", shown)), default=0)


def report(runs, models):
    rows = [[model, *(count(runs.program, model, strategy) for strategy in ("entropy", "error"))] for model in models]
    return table(("model", "entropy", "error proxy"), rows)
