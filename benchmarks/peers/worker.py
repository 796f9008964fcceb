"""The Python side of protocol.h: answers requests with times. A worker lists its kernels and calls serve()."""
import json
import sys
import time
from dataclasses import dataclass
from typing import Callable


@dataclass
class Shape:
    rows: int
    inner: int
    out: int


@dataclass
class Kernel:
    # make(shape, copies) gives a function that multiplies once with each copy of the weights.
    make: Callable[[Shape, int], Callable[[], None]]
    bytes: Callable[[Shape], int]  # of one copy, as the program stores it


def passes(run, copies, seconds):
    run()
    times = []
    while len(times) < 2 or (sum(times) < seconds and len(times) * copies < 1000):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return [t / copies for t in times]


def answer(kernels, kept, words):
    if words[0] == "forget":
        kept.clear()
        return {}
    # Names with blanks come with ~ in their place.
    _, name, rows, inner, out, seconds, rotated = words
    shape, kernel = Shape(int(rows), int(inner), int(out)), kernels[name.replace("~", " ")]
    size = kernel.bytes(shape)
    copies = max(1, -(-int(rotated) // size))
    key = (name, rows, inner, out, copies)
    if key not in kept:
        for other in [k for k in kept if k[1:4] != key[1:4]]:  # hundreds of MiB each: those of one shape at a time
            del kept[other]
        kept[key] = kernel.make(shape, copies)
    return {"copies": copies, "bytes": size, "seconds": passes(kept[key], copies, float(seconds))}


def serve(program, version, kernels):
    # Libraries write to stdout as they like; the answers have a channel of their own.
    answers, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps({"program": program, "version": version, "kernels": list(kernels)}), file=answers, flush=True)
    kept = {}
    for line in sys.stdin:
        try:
            result = answer(kernels, kept, line.split())
        except Exception as error:  # any refusal of the program under test is a result
            kept.clear()
            result = {"absent": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:160]}"}
        print(json.dumps(result), file=answers, flush=True)
