#!/usr/bin/env python3
"""Asks qvlm and stock transformers the same questions and counts equal answers.

  compare_with_transformers.py MODEL DATA --qvlm BINARY [--items N] [--new-tokens N] [--least SHARE]

DATA holds data.jsonl as export_datasets.py writes it. Prints a table by category and every answer
that differs; exits 1 when fewer than SHARE (default 1) of all answers are equal.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

REFERENCE = Path(__file__).resolve().parent / "evaluate_transformers.py"
SHOWN = 20


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nended with {done.returncode}:\n{done.stderr}")


def their_answers(arguments, folder):
    file = folder / "transformers.jsonl"
    limit = ["--limit", arguments.items] if arguments.items else []
    run(sys.executable, REFERENCE, arguments.model, "--data", arguments.data, "--answers", file,
        "--new-tokens", arguments.new_tokens, *limit)
    lines = (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines())
    return {line["id"]: line for line in lines}


def our_answers(arguments, folder):
    file = folder / "qvlm.json"
    limit = ["--items", arguments.items] if arguments.items else []
    run(arguments.qvlm, "evaluate", arguments.model, "--data", arguments.data, "--report", file,
        "--max-new-tokens", arguments.new_tokens, *limit)
    return {item["id"]: item for item in json.loads(file.read_text(encoding="utf-8"))["items"]}


def print_table(ours, theirs):
    """Returns the ids whose answers differ."""
    rows, differing = defaultdict(lambda: [0, 0, 0, 0]), []
    for key, item in ours.items():
        equal = item["prediction"] == theirs[key]["prediction"]
        if not equal:
            differing.append(key)
        for name in (item["category"], "all"):
            for column, hit in enumerate((True, equal, item["correct"], theirs[key]["correct"])):
                rows[name][column] += hit
    print(f"{'category':14} {'items':>7} {'equal':>7} {'qvlm right':>11} "
          f"{'transformers right':>19}")
    for name in sorted(rows, key=lambda name: (name == "all", name)):
        items, equal, right, reference = rows[name]
        print(f"{name:14} {items:7} {equal:7} {right:11} {reference:19}")
    return differing


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--qvlm", type=Path, required=True)
    parser.add_argument("--items", type=int, default=0, help="only the first N; default: all")
    parser.add_argument("--new-tokens", type=int, default=8)
    parser.add_argument("--least", type=float, default=1.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        ours = our_answers(arguments, Path(name))
        theirs = their_answers(arguments, Path(name))
    if ours.keys() != theirs.keys():
        sys.exit(f"different questions: {len(ours)} by qvlm, {len(theirs)} by transformers")
    differing = print_table(ours, theirs)
    for key in differing[:SHOWN]:
        print(f"{key}: qvlm '{ours[key]['prediction']}', "
              f"transformers '{theirs[key]['prediction']}'")
    return 0 if len(ours) - len(differing) >= arguments.least * len(ours) else 1


if __name__ == "__main__":
    sys.exit(main())
