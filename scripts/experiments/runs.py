"""Runs of qvlm, cached by everything that decides their result: build/experiments/ holds one folder a run.

A run that is there is read, so an interrupted sweep goes on where it stopped. The program is not part of the name of a
run: delete the folder when it has changed. Nothing here knows why a run is made.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path

import yaml

from experiments.settings import DECODER_ONLY, MODELS, is_static, recipe

ROOT = Path(__file__).resolve().parents[2]
STORE = ROOT / "build/experiments"
TEST = "build/data/scenes-test"
CALIBRATION = "build/data/scenes-calibration"
ITEMS = 600  # 100 pictures with six questions each
JOBS = int(os.environ.get("QVLM_EXPERIMENT_JOBS", "2"))
_locks, _guard = {}, threading.Lock()


class Missing(RuntimeError):
    """A run that is not in the store, where none may be started (--cached)."""


class Runs:
    def __init__(self, cached_only=False, program="build/release/qvlm"):
        self.cached_only, self.program = cached_only, program

    # --- one run each -------------------------------------------------------------------------

    def reference(self, model, data=TEST, items=ITEMS):
        return self._evaluate(MODELS[model], {"model": model, "float": True}, data, items)

    def search(self, model, setting, plan, data=CALIBRATION, items=ITEMS, evaluate=True, **options):
        """Quantizes with a search; returns its report, with the report of the evaluation under "evaluation"."""
        rules = recipe(setting, plan, **options)
        key = {"model": model, "recipe": rules, "data": data}
        with self._lock("search", key):
            folder = place("search", key)
            report = read(folder / "q.json")
            if report is None:
                report = self._quantize(model, rules, data, folder)
        if evaluate:
            report["evaluation"] = self._evaluate_search(model, setting, report, key, items)
        return report

    def with_recipe(self, model, rules, data=CALIBRATION, items=ITEMS):
        """Quantizes by any recipe and evaluates; returns the report of the evaluation."""
        folder = place("recipe", {"model": model, "recipe": rules, "data": data})

        def quantize():
            write_recipe(folder, rules)
            flags = ["--data", data] if "calibration" in rules else []
            self._call("quantize", MODELS[model], folder / "model", "--recipe", folder / "recipe.yaml", *flags, "--overwrite")

        report = self._evaluate(folder / "model", {"model": model, "recipe": rules, "calibration": data}, TEST, items, quantize)
        if not self.cached_only:
            shutil.rmtree(folder / "model", ignore_errors=True)
        return report

    def analysis(self, model, setting, plan, data=CALIBRATION, gains=False, **options):
        rules = recipe(setting, plan, **options)
        key = {"model": model, "recipe": rules, "data": data, "gains": gains}
        with self._lock("analysis", key):
            folder = place("analysis", key)
            report = read(folder / "analysis.json")
            if report is None:
                self._start("analysis", key)
                write_recipe(folder, rules)
                flags = ["--joint-gains"] if gains else []
                self._call("analyze", MODELS[model], "--data", data, "--recipe", folder / "recipe.yaml", "--json", *flags,
                           out=folder / "analysis.json")
                report = read(folder / "analysis.json")
        return report

    def kept(self, kind, key, last, make):
        """The folder of a run that `make(folder)` does, if it is not there: `last` is the file that it writes last."""
        folder = place(kind, key)
        with self._lock(kind, key):
            if not (folder / last).exists():
                self._start(kind, key)
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(parents=True)
                write(folder / "key.json", key)
                make(folder)
        return folder

    # --- many ---------------------------------------------------------------------------------

    def all(self, calls):
        """Runs functions without arguments JOBS at a time; returns their results in order, None where one is missing or
        failed: the store's failures.txt then says why."""
        def guarded(call):
            try:
                return call()
            except Missing:
                return None
            except RuntimeError as error:
                with _guard, open(STORE / "failures.txt", "a") as file:
                    file.write(f"{error}\n")
                return None
        with ThreadPoolExecutor(JOBS) as pool:
            return list(pool.map(guarded, calls))

    # --- parts --------------------------------------------------------------------------------

    def _quantize(self, model, rules, data, folder):
        self._start("search", folder.name)
        write_recipe(folder, rules)
        self._call("quantize", MODELS[model], folder / "model", "--recipe", folder / "recipe.yaml", "--data", data,
                   "--overwrite", "--report", folder / "q.part")
        report = json.loads((folder / "q.part").read_text())
        report.pop("linears")
        write(folder / "q.json", report)
        return report

    def _evaluate_search(self, model, setting, report, key, items):
        """Checkpoints with the same choices are the same; static ranges also depend on the calibration data."""
        search = report["search"]
        choices = [choice for block in search["blocks"] for choice in block["choices"]]
        rules = key["recipe"]
        identity = {"model": model, "default": rules["default"], "choices": choices}
        if is_static(setting):
            identity["ranges"] = [key["data"], rules["calibration"]]
        if rules["overrides"] != DECODER_ONLY:
            identity["tower"] = [key["data"], rules["calibration"], rules.get("vision_encoder"), rules["plan"].get("tau")]
        folder = place("search", key) / "model"
        result = self._evaluate(folder, identity, TEST, items, lambda: self._again(model, key, folder))
        if not self.cached_only:
            shutil.rmtree(folder, ignore_errors=True)
        return result

    def _again(self, model, key, folder):
        """Makes a checkpoint anew that was deleted after an earlier evaluation."""
        if not folder.exists():
            self._quantize(model, key["recipe"], key["data"], folder.parent)

    def _evaluate(self, model, identity, data, items, prepare=lambda: None):
        key = {**identity, "data": data, "items": items}
        with self._lock("evaluation", key):
            folder = place("evaluation", key)
            report = read(folder / "r.json")
            if report is None:
                self._start("evaluation", folder.name)
                prepare()
                folder.mkdir(parents=True, exist_ok=True)
                write(folder / "key.json", key)
                self._call("evaluate", model, "--data", data, "--items", items, "--max-new-tokens", 1, "--no-speed",
                           "--report", folder / "r.json")
                report = read(folder / "r.json")
        report["folder"] = str(folder)
        return report

    def _lock(self, kind, key):
        return nullcontext() if self.cached_only else lock(place(kind, key))

    def _start(self, kind, key):
        if self.cached_only:
            raise Missing(f"{kind} {key}")

    def _call(self, verb, *arguments, out=None):
        command = [self.program, "--threads", "1", "--quiet", verb, *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "GOMP_SPINCOUNT": "0"})
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        if out is not None:
            part = out.with_suffix(".part")
            part.write_text(done.stdout)
            part.rename(out)


def place(kind, key):
    text = json.dumps(key, sort_keys=True)
    return STORE / kind / hashlib.sha256(text.encode()).hexdigest()[:16]


@contextmanager
def lock(folder):
    """One run of a folder at a time, in this process and in others."""
    with _guard:
        own = _locks.setdefault(folder, threading.Lock())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with own, open(folder.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read(file):
    return json.loads(file.read_text()) if file.exists() else None


def write(file, value):
    part = file.with_suffix(".writing")
    part.write_text(json.dumps(value, indent=1) + "\n")
    part.rename(file)


def write_recipe(folder, rules):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(rules, sort_keys=False))
