#!/usr/bin/env python3
"""Gates the bundled model in float, W8A8, W4A8 and W4A4 on 2 000 questions, and checks that the gate can fail.

  check_gate.py QVLM OUT                     QVLM: the executable; OUT: a folder for models, reports and verdicts
  check_gate.py QVLM OUT --record            keep this run's reports as the accepted ones, tests/data/gate
  check_gate.py QVLM OUT --clean-runs 10     repeat clean runs instead: each must pass

Three regressions are planted in W4A8, and each must be caught by the row that is about it: scales of one layer
perturbed so that about a point of accuracy is lost, 12 % more resident memory, a slower matrix product.
"""

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).resolve().parent.parent
MODEL = ROOT / "models/reference-llava"
ACCEPTED = ROOT / "tests/data/gate"
GATES = ROOT / "configs/gates"
DATA = ROOT / "build/data/easy-vqa-test"
SCHEMES = ("w8a8", "w4a8", "w4a4")
GATE_FAILED = 5


class Gate:
    def __init__(self, qvlm, out):
        self.qvlm, self.out = Path(qvlm).resolve(), Path(out).resolve()
        self.out.mkdir(parents=True, exist_ok=True)

    def run(self, *arguments, environment=None):
        """Returns the exit code; what is printed goes to a log."""
        with open(self.out / "log.txt", "a", encoding="utf-8") as log:
            return subprocess.run([self.qvlm, "--quiet", *map(str, arguments)], stdout=log, stderr=log, check=False,
                                  env={**os.environ, **(environment or {})}).returncode

    def quantize(self, scheme):
        folder = self.out / scheme
        code = self.run("quantize", MODEL, folder, "--recipe", ROOT / f"configs/recipes/{scheme}.yaml", "--overwrite")
        assert code == 0, f"quantize {scheme}: exit code {code}, see {self.out}/log.txt"
        return folder

    def evaluate(self, name, model, environment=None):
        report = self.out / f"{name}.json"
        # Threads are fixed: each has a sequence of its own, and memory is compared.
        code = self.run("evaluate", model, "--data", DATA, "--items", 2000, "--threads", 2, "--report", report,
                        environment=environment)
        assert code == 0, f"evaluate {name}: exit code {code}, see {self.out}/log.txt"
        return report

    def verdict(self, name, report, reference, limits):
        """Exit code and rows by name."""
        code = self.run("gate", report, "--against", reference, "--limits", GATES / f"{limits}.yaml",
                        "--junit", self.out / f"{name}.xml", "--markdown", self.out / f"{name}.md")
        shown = subprocess.run([self.qvlm, "gate", report, "--against", reference, "--limits",
                                GATES / f"{limits}.yaml", "--json"], capture_output=True, text=True, check=False)
        rows = {row["what"]: row for row in json.loads(shown.stdout)["rows"]}
        print(f"{name:32} exit {code}  " + "; ".join(f"{row['what']}: {row['outcome']} ({row['why']})"
                                                       for row in rows.values()
                                                       if row["outcome"] not in ("pass", "-")), flush=True)
        return code, rows


def perturb_scales(model, folder):
    """A copy of the model in which the scales of one linear are multiplied by exp(0.8 x), x normal: about a point of
    accuracy (measured)."""
    shutil.copytree(model, folder, dirs_exist_ok=True)
    with (folder / "model.safetensors").open("r+b") as file:  # in place: not a byte more or less
        length, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        name = next(name for name in sorted(header) if name.endswith("layers.0.self_attn.v_proj.weight_scale"))
        assert header[name]["dtype"] == "BF16", header[name]
        begin, end = header[name]["data_offsets"]
        file.seek(8 + length + begin)
        scales = torch.frombuffer(bytearray(file.read(end - begin)), dtype=torch.bfloat16)
        noise = np.random.default_rng(0).standard_normal(scales.numel())
        scales = (scales.float() * torch.from_numpy(np.exp(0.8 * noise)).float()).bfloat16()
        file.seek(8 + length + begin)
        file.write(scales.view(torch.uint8).numpy().tobytes())
    return folder


def more_memory(out, report):
    """Environment of a process that keeps 12 % of the report's peak memory on top."""
    extra = round(0.12 * json.loads(report.read_text(encoding="utf-8"))["peak_memory_bytes"])
    source, library = out / "ballast.c", out / "ballast.so"
    source.write_text("#include <stdlib.h>\n#include <string.h>\n"
                      "__attribute__((constructor)) static void load(void) {\n"
                      f"  if (getenv(\"QVLM_BALLAST\")) memset(malloc({extra}), 1, {extra});\n}}\n", encoding="utf-8")
    subprocess.run(["gcc", "-O0", "-shared", "-fPIC", "-o", library, source], check=True)
    return {"LD_PRELOAD": str(library), "QVLM_BALLAST": "1"}


def slower_level(report):
    """Environment in which the kernels use the next lower instruction set; nothing where there is none."""
    levels = ["scalar", "avx2", "avx512vnni"]
    best = levels.index(json.loads(report.read_text(encoding="utf-8"))["identity"]["cpu_level"])
    return {"QVLM_CPU_LEVEL": levels[best - 1]} if best > 0 else None


def gate_bundled(gate, record):
    """Returns the reports, and whether all passed."""
    reports = {"float": gate.evaluate("float", MODEL)}
    for scheme in SCHEMES:
        reports[scheme] = gate.evaluate(scheme, gate.quantize(scheme))
    if record:
        ACCEPTED.mkdir(parents=True, exist_ok=True)
        for name, report in reports.items():
            text = report.read_text(encoding="utf-8").replace(str(ROOT) + "/", "")
            (ACCEPTED / f"{name}.json").write_text(text, encoding="utf-8")
    codes = [gate.verdict(f"{name} (accepted)", report, ACCEPTED / f"{name}.json", "regression")[0]
             for name, report in reports.items()]
    codes += [gate.verdict(f"{name} (float)", reports[name], reports["float"], "quantized")[0] for name in SCHEMES]
    return reports, all(code == 0 for code in codes)


def catches(gate, name, report, reference, row):
    code, rows = gate.verdict(f"planted: {name}", report, reference, "regression")
    return code == GATE_FAILED and rows[row]["outcome"] == "FAIL"


def check_planted(gate, clean):
    """Whether each planted regression is caught. `clean`: the report of W4A8."""
    worse = gate.evaluate("planted-scales", perturb_scales(gate.out / "w4a8", gate.out / "planted-scales"))
    right = [json.loads(report.read_text(encoding="utf-8"))["accuracy"]["value"] for report in (clean, worse)]
    print(f"perturbed scales: accuracy {100 * right[0]:.2f} % -> {100 * right[1]:.2f} %")
    caught = [0.004 < right[0] - right[1] < 0.025, catches(gate, "scales", worse, clean, "accuracy loss")]
    heavier = gate.evaluate("planted-memory", gate.out / "w4a8", more_memory(gate.out, clean))
    caught.append(catches(gate, "memory", heavier, clean, "peak memory"))
    level = slower_level(clean)
    if level is None:
        print("this CPU has no lower level to plant a slower matrix product with")
    else:
        slower = gate.evaluate("planted-speed", gate.out / "w4a8", level)
        caught.append(catches(gate, "speed", slower, clean, "prefill speed"))
    return all(caught)


def check_clean_runs(gate, runs):
    model = gate.quantize("w4a8")
    reference = gate.evaluate("clean-0", model)
    codes = [gate.verdict(f"clean run {run}", gate.evaluate(f"clean-{run}", model), reference, "regression")[0]
             for run in range(1, runs + 1)]
    print(f"{codes.count(0)} of {runs} clean runs passed")
    return codes.count(0) == runs


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("qvlm")
    parser.add_argument("out")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--clean-runs", type=int, default=0)
    arguments = parser.parse_args()
    gate = Gate(arguments.qvlm, arguments.out)
    if not DATA.exists():
        subprocess.run([sys.executable, ROOT / "scripts/export_datasets.py", ROOT / "build/data"], check=True)
    if arguments.clean_runs:
        return 0 if check_clean_runs(gate, arguments.clean_runs) else 1
    reports, passed = gate_bundled(gate, arguments.record)
    caught = check_planted(gate, reports["w4a8"])
    print(f"clean: {'passed' if passed else 'FAILED'}; planted: {'caught' if caught else 'MISSED'}")
    return 0 if passed and caught else 1


if __name__ == "__main__":
    sys.exit(main())
