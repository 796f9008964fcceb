#!/usr/bin/env python3
"""Runs the experiments of docs/experiments.md and prints their tables.

  .venv/bin/python scripts/experiments.py e3 --setting w3a3-token --model reference --seeds 0 1 2

Runs are kept in build/experiments/ and never repeated; --cached prints what is there and starts nothing. Needs
build/release/qvlm, the data of scripts/export_datasets.py in build/data and the twins in build/models.
QVLM_EXPERIMENT_JOBS says how many runs go at a time (2), each on one thread.
"""

import argparse
import os

from experiments import axes, dependence, forwards, ladder, mixed, peers, strategies, summaries, targets, tower, vision
from experiments.runs import Runs
from experiments.settings import FOUR_MODELS, MODELS, SETTINGS

NICE = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=sorted(EXPERIMENTS))
    parser.add_argument("--model", nargs="+", choices=sorted(MODELS), default=FOUR_MODELS)
    parser.add_argument("--setting", nargs="+", choices=sorted(SETTINGS), default=["w3a3-token", "w3a3-tensor"])
    parser.add_argument("--bits", nargs="+", default=["w4a4"], help="of weights and activations, for e9 and peers")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(strategies.SEEDS), help="of the calibration data")
    parser.add_argument("--strategy", nargs="+", choices=strategies.ORDER, default=strategies.ORDER)
    parser.add_argument("--method", nargs="+", choices=list(ladder.METHODS), default=list(ladder.METHODS), help="for e9")
    parser.add_argument("--summary", action="store_true", help="e9 in one table")
    parser.add_argument("--cached", action="store_true", help="start nothing")
    parser.add_argument("--program", default="build/release/qvlm")
    options = parser.parse_args()
    os.nice(max(0, NICE - os.nice(0)))  # sweeps are long: whoever builds goes first
    print(EXPERIMENTS[options.experiment](Runs(options.cached, options.program), options))


def e3(runs, options):
    return strategies.report(runs, options.model, options.setting, options.seeds, options.strategy)


def e3_summary(runs, options):
    return strategies.summary(runs, options.model, options.setting, options.seeds)


def alternatives(runs, options):
    return strategies.alternatives(runs, options.model, options.seeds)


def held_out(runs, options):
    return strategies.generalization(runs, options.model, options.setting, options.seeds)


def e1(runs, options):
    return summaries.joint_against_greedy()


def e2(runs, options):
    return dependence.across_layers(runs, options.model, options.setting)


def samples(runs, options):
    return "\n".join(dependence.across_samples(runs, model, setting, padded) for model in options.model
                     for setting in options.setting for padded in (False, True))


def find_axes(runs, options):
    return axes.report(runs, options.model, options.setting)


def tau(runs, options):
    return axes.softness(runs, options.model, options.setting)


def e4(runs, options):
    found = strategies.sweep(runs, options.model, options.setting, options.seeds, options.strategy)
    return dependence.depths(runs, options.model, options.setting) + "\n" + summaries.wins(found)


def e5(runs, options):
    return dependence.front(runs, options.model, options.setting)


def e9(runs, options):
    form = ladder.summary if options.summary else ladder.report
    return form(runs, options.model, options.bits, options.seeds, options.method)


def e9_targets(runs, options):
    return targets.report(runs, options.model, options.bits, options.seeds)


def e10(runs, options):
    return dependence.changes(runs)


def e11(runs, options):
    return dependence.sample_counts(runs, options.model, seeds=options.seeds)


def e12(runs, options):
    found = strategies.sweep(runs, options.model, options.setting, options.seeds, options.strategy)
    return summaries.by_type(runs, found, options.model, options.setting, ("nearest", "one ratio", "greedy", "fixed 3"))


def e14(runs, options):
    return mixed.report(runs, options.model, options.seeds)


def with_peers(runs, options):
    return peers.report(runs, options.model, options.bits, options.seeds)


def round_tower(runs, options):
    return tower.report(runs, options.model, options.seeds)


def code_of_paper(runs, options):
    from experiments import qvlm_code  # imports torch and transformers, which nothing else here does

    return qvlm_code.report(runs, options.model, options.seeds)


def e6(runs, options):
    return "\n".join(vision.signs(runs, options.model, setting, options.seeds) for setting in options.setting)


def e7(runs, options):
    return vision.ablation(runs, options.model, options.setting, options.seeds)


def e8(runs, options):
    return forwards.report(runs, ["reference"])


EXPERIMENTS = {"e1": e1, "e2": e2, "e3": e3, "e3-summary": e3_summary, "e4": e4, "e5": e5, "e6": e6, "e7": e7, "e8": e8, "e9": e9,
               "e9-targets": e9_targets, "e10": e10, "e11": e11, "e12": e12, "e14": e14, "alternatives": alternatives,
               "axes": find_axes, "held-out": held_out, "peers": with_peers, "qvlm-code": code_of_paper, "samples": samples,
               "tau": tau, "tower": round_tower}

if __name__ == "__main__":
    main()
