"""Divergences from logits, bootstrap over pictures, correlations with permutation tests. Seeds are fixed."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

DRAWS = 2000


def log_softmax(logits):
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def logits_of(report):
    return load_file(Path(report["folder"]) / report["logits_file"])["logits"]


def divergence(reference, result):
    """KL(reference || result) of every item in nats."""
    assert [item["id"] for item in reference["items"]] == [item["id"] for item in result["items"]]
    p, q = log_softmax(logits_of(reference)), log_softmax(logits_of(result))
    return (np.exp(p) * (p - q)).sum(axis=1)


def divergences(reference, results):
    """Those of every item by several reports: [items, reports]"""
    return np.stack([divergence(reference, result) for result in results], axis=1)


def margins(report):
    return np.array([np.nan if item["margin"] is None else item["margin"] for item in report["items"]])


def correct(report):
    return np.array([float(item["correct"]) for item in report["items"]])


def pictures(report, root, data):
    """The number of the picture that each item asks about."""
    image = {}
    with open(Path(root) / data / "data.jsonl") as lines:
        for line in lines:
            item = json.loads(line)
            image[item["id"]] = item["image"]
    names = [image[item["id"]] for item in report["items"]]
    order = {name: place for place, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names])


def mean(values):
    return float(np.mean(values))


def trimmed(values):
    """The mean without the highest 1 %."""
    kept = np.sort(values)[: len(values) - int(np.ceil(0.01 * len(values)))]
    return float(kept.mean())


def sum_pictures(values, groups):
    """[items, seeds] -> [pictures, seeds]"""
    return np.stack([np.bincount(groups, column) for column in values.T], axis=1)


def bootstrap(values, groups, seed=0):
    """95 % interval of the mean of values [items, seeds] (or [items]); pictures and seeds are both drawn with
    replacement."""
    values = np.asarray(values, float).reshape(len(groups), -1)
    rng = np.random.default_rng(seed)
    counts = np.bincount(groups)
    sums = sum_pictures(values, groups)
    means = []
    for _ in range(DRAWS):
        pictures = rng.integers(0, len(counts), len(counts))
        seeds = rng.integers(0, values.shape[1], values.shape[1])
        means.append(sums[np.ix_(pictures, seeds)].sum() / (counts[pictures].sum() * len(seeds)))
    return np.quantile(means, [0.025, 0.975])


def bootstrap_ratio(values, base, groups, seed=0):
    """95 % interval of mean(values) / mean(base), both [items, seeds]; pictures and seeds are drawn together."""
    rng = np.random.default_rng(seed)
    counts = len(np.bincount(groups))
    sums = [sum_pictures(matrix, groups) for matrix in (values, base)]
    ratios = []
    for _ in range(DRAWS):
        place = np.ix_(rng.integers(0, counts, counts), rng.integers(0, values.shape[1], values.shape[1]))
        ratios.append(sums[0][place].sum() / sums[1][place].sum())
    return np.quantile(ratios, [0.025, 0.975])


def ranks(values):
    """Ranks from 0, equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2)[inverse]


def pearson(x, y):
    x, y = np.asarray(x, float) - np.mean(x), np.asarray(y, float) - np.mean(y)
    scale = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / scale) if scale > 0 else float("nan")


def spearman(x, y):
    return pearson(ranks(np.asarray(x, float)), ranks(np.asarray(y, float)))


def correlation(x, y, of_ranks=False, draws=2000, seed=0):
    """(Pearson's or, of ranks, Spearman's coefficient, two-sided permutation p)."""
    x, y = (ranks(np.asarray(values, float)) if of_ranks else np.asarray(values, float) for values in (x, y))
    found = pearson(x, y)
    if np.isnan(found):
        return found, found
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(np.tile(x - x.mean(), (draws, 1)), axis=1) @ (y - y.mean())
    beyond = np.abs(shuffled) >= abs((x - x.mean()) @ (y - y.mean())) * (1 - 1e-12)
    return found, (beyond.sum() + 1) / (draws + 1)


def residual(y, on):
    """What a straight line in `on` leaves of y."""
    design = np.stack([np.ones(len(on)), np.asarray(on, float)], axis=1)
    return np.asarray(y, float) - design @ np.linalg.lstsq(design, np.asarray(y, float), rcond=None)[0]
