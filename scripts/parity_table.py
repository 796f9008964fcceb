"""Prints the parity tables of docs/parity.md from what the tests recorded.

  build/dev/tests/model/model_test --gtest_filter='*EveryStage*:*Pixels*' --gtest_output=json:build/parity.json
  python3 scripts/parity_table.py build/parity.json
"""

import json
import sys

STAGES = ("pixels", "tower", "projector", "logits")


def worst_by_stage(test):
    """Largest recorded difference of each stage over the test's prompts, in millionths of the range."""
    worst = {}
    for name, value in test.items():
        stage = name.split(".")[-1]
        if name.startswith("prompt") and stage in STAGES:
            worst[stage] = max(worst.get(stage, 0.0), float(value))
    return worst


def main():
    tests = [test for path in sys.argv[1:] for suite in json.load(open(path))["testsuites"] for test in suite["testsuite"]]
    rows = {}
    for test in tests:
        rows.setdefault(test["name"].split("/")[-1], {}).update(worst_by_stage(test))
    print("| checkpoint | " + " | ".join(STAGES) + " |\n|---" + "|---" * len(STAGES) + "|")
    for name, worst in rows.items():
        if worst:
            print(f"| {name} | " + " | ".join(f"{worst[s]:.2f}e-6" if s in worst else "-" for s in STAGES) + " |")


if __name__ == "__main__":
    main()
