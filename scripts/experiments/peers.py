"""Quantizers of others beside qvlm: the same checkpoint, calibration samples and questions, decoder only.

They need Python environments of their own, one for what wants transformers 5.17 and one for what wants a later one; torch
is pinned, and where a package asks for another torch it is installed without what it depends on:

  echo torch==2.13.0 >build/peers-constraints.txt
  python3 -m venv build/peers-venv
  build/peers-venv/bin/pip install -c build/peers-constraints.txt torch llmcompressor==0.14.0.1 transformers==5.17.0 pillow
  python3 -m venv build/peers-venv/later
  build/peers-venv/later/bin/pip install -c build/peers-constraints.txt torch transformers==5.23.0 accelerate datasets \\
    pillow compressed-tensors==0.19.0
  build/peers-venv/later/bin/pip install --no-deps auto-round==0.16.1 gptqmodel==7.7.0 torchao defuser device-smi logbar \\
    pypcre tokenicer threadpoolctl protobuf py-cpuinfo requests urllib3 charset-normalizer certifi

Every result is a LLaVA that `qvlm evaluate --execution simulated` judges, weights and activations rounded as declared and
multiplied in float32: llm-compressor's as the compressed-tensors checkpoint that it saves, those of auto-round and
GPTQModel with the float weights that their codes stand for. So nobody's kernels count. A seed draws the samples; all
methods get the same ones, each with its own defaults otherwise (peer_quantizers.py).

auto-round is not run at W8A8, where it took minutes a layer here.

Run with: .venv/bin/python scripts/experiments.py peers --model reference --bits w4a16 w8a8 --seeds 0 1 2
"""

import json
import os
import random
import shutil
import subprocess

import numpy as np

from experiments import ladder
from experiments.runs import CALIBRATION, ITEMS, ROOT, STORE, TEST, lock, read, write, write_recipe
from experiments.settings import MODELS
from experiments.tables import table

SAMPLES = 64
BASE = "qvlm, balanced"
FIRST, LATER = "build/peers-venv/bin/python", "build/peers-venv/later/bin/python"
# By row: environment, method of peer_quantizers.py, settings.
PEERS = {
    "llm-compressor, nearest": (FIRST, "nearest", ("w4a16", "w8a8")),
    "llm-compressor, GPTQ": (FIRST, "gptq", ("w4a16", "w8a8")),
    "llm-compressor, AWQ": (FIRST, "awq", ("w4a16",)),
    "llm-compressor, SmoothQuant + GPTQ": (FIRST, "smooth + gptq", ("w8a8",)),
    "GPTQModel, GPTQ": (LATER, "gptqmodel", ("w4a16",)),
    "auto-round": (LATER, "auto-round", ("w4a16",)),
}
# By row: steps of a recipe, as in ladder.py, and settings.
OURS = {
    "qvlm, nearest": ("nearest", ("w4a16", "w8a8")),
    "qvlm, GPTQ": ("gptq", ("w4a16", "w8a8")),
    "qvlm, AWQ": ("awq", ("w4a16",)),
    "qvlm, smoothing + GPTQ": ("smooth + gptq", ("w8a8",)),
    BASE: (None, ("w4a16", "w8a8")),  # no recipe: the scheme's name alone
}
# Threads of others spin on cores that are shared; GPTQModel wants two workers; nobody shall look for anything outside.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "GPTQMODEL_CPU_WORKERS": "2", "HF_HUB_OFFLINE": "1", "GOMP_SPINCOUNT": "0",
               "PYTHONPATH": str(ROOT / "scripts")}


def report(runs, models, bits, seeds):
    return "\n".join(one_setting(runs, model, setting, seeds) for setting in bits for model in models)


def one_setting(runs, model, setting, seeds):
    methods = [name for name, (*_, settings) in (PEERS | OURS).items() if setting in settings]
    found = ladder.by_method(runs, methods, seeds, lambda name, seed: quantized(runs, name, model, setting, seed))
    rows = [[*row, f"{np.mean([result['cpu_seconds'] for result in found[row[0]]]):.1f}"]
            for row in ladder.rows(runs.reference(model), found, BASE)]
    return table((f"{setting} {model}", "seeds", *ladder.COLUMNS, f"KL / {BASE}", "CPU seconds"), rows)


def quantized(runs, name, model, setting, seed):
    """Quantizes by the method of a row and evaluates; returns the report of the evaluation, with "cpu_seconds"."""
    def make(folder):
        how = by_peer if name in PEERS else by_qvlm
        seconds = how(ROOT / runs.program, name, ROOT / MODELS[model], setting, seed, folder)
        spend(folder, ROOT / runs.program, "--threads", 1, "--quiet", "evaluate", "model", "--data", ROOT / TEST,
              "--items", ITEMS, "--max-new-tokens", 1, "--no-speed", "--execution", "simulated", "--report", "r.json")
        shutil.rmtree(folder / "model")
        write(folder / "cost.json", {"cpu_seconds": seconds})

    key = {"model": model, "method": name, "setting": setting, "seed": seed, "samples": SAMPLES}
    folder = runs.kept("peers", key, "cost.json", make)
    return {**read(folder / "r.json"), **read(folder / "cost.json"), "folder": str(folder)}


def by_peer(program, name, model, setting, seed, folder):
    """The CPU seconds are those that the method reports: without imports and what it does not do itself."""
    python, method, _ = PEERS[name]
    spend(folder, ROOT / python, "-m", "experiments.peer_quantizers", method, setting.upper(), model, draw(seed), "model")
    return float((folder / "log.txt").read_text().split()[-1])


def by_qvlm(program, name, model, setting, seed, folder):
    """The CPU seconds are those of the whole run, tower included."""
    steps, _ = OURS[name]
    if steps is None:
        how = ["--scheme", setting.upper(), "--data", draw(seed)]
    else:
        rules = ladder.rules_of(steps, *ladder.bits_of(setting), seed)
        how = ["--recipe", "recipe.yaml"]
        if "calibration" in rules:
            rules["calibration"]["samples"] = SAMPLES
            how += ["--data", draw(seed)]
        write_recipe(folder, rules)
    return spend(folder, program, "--threads", 1, "--quiet", "quantize", model, "model", *how)


def draw(seed):
    """A folder with the samples of a seed, the same for everyone: qvlm takes all that are in it."""
    folder = STORE / "peers" / f"draw-{seed}"
    with lock(folder):
        if not (folder / "data.jsonl").exists():
            source = ROOT / CALIBRATION
            items = [json.loads(line) for line in (source / "data.jsonl").read_text().splitlines()]
            lines = [json.dumps({**item, "image": str(source / item["image"])}) + "\n"
                     for item in random.Random(seed).sample(items, SAMPLES)]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "data.jsonl").write_text("".join(lines))
    return folder


def spend(folder, *command):
    """Runs a command in a folder, where log.txt keeps what it prints; returns its CPU seconds."""
    command = [str(part) for part in command]
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **ENVIRONMENT})
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}, see {folder}/log.txt")
    return usage.ru_utime + usage.ru_stime
