#!/usr/bin/env python3
"""Measures the kernels and their peers interleaved in one run, and makes one table.

  benchmarks/peers/compare.py [--build build/release] [--update docs/performance.md]

Each round asks every program in turn for some milliseconds of the same product; the table has medians over all
rounds, as a share of peaks that are measured in every round too. All measurements: build/peers/measurements.jsonl.
"""
import argparse
import json
import os
import statistics
import time
from pathlib import Path

import table
from programs import CLASSES, INCLUDES, ROOT, programs
from workers import Worker

STREAMED_ROWS = 8         # up to here weights are rotated through more bytes than the caches hold
STREAMED_SIZE = 1 << 20   # codes of a weight; smaller models fit a cache
MEMORY_SHARE = 0.5        # of what is free, for everybody's rotated weights together


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = lambda text: [int(n) for n in text.split(",")]
    shapes = lambda text: [tuple(int(n) for n in shape.split("x")) for shape in text.split(",")]
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--threads", type=numbers, default=[1, 2])
    parser.add_argument("--rows", type=numbers, default=[1, 8, 64, 256, 640])
    parser.add_argument("--shapes", type=shapes, default=shapes("4096x4096,4096x11008,11008x4096,256x512"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.1, help="per program, kernel and round")
    parser.add_argument("--update", type=Path, help="replace the table between the markers of this file")
    return parser.parse_args()


def free_bytes():
    line = next(l for l in Path("/proc/meminfo").read_text().splitlines() if l.startswith("MemAvailable"))
    return int(line.split()[1]) * 1024


def cases(kind, workers):
    """(worker, kernel, is_ours) of a class, in the order of the table."""
    for worker in workers:
        if worker.name == "qvlm":
            yield from ((worker, kernel) for kernel in kind.ours)
        else:
            yield from ((worker, kernel) for kernel in kind.peers.get(worker.name.removesuffix(" (AMX)"), []))


class Run:
    def __init__(self, options, output):
        self.options, self.output, self.results, self.peaks = options, output, {}, {}

    def record(self, **fields):
        self.output.write(json.dumps(fields) + "\n")
        self.output.flush()

    def measure_peaks(self, threads, workers, size):
        answer = workers[0].ask("peaks", 0, 0, 0, 0, 0, size)
        if "absent" in answer:
            raise SystemExit(f"compare: {answer['absent']} (cmake --build {self.options.build} --target kernels_worker)")
        self.peaks.setdefault(threads, []).append(answer)
        self.record(peaks=answer, threads=threads)

    def measure(self, kind, threads, workers, shape, rows, rotated):
        absent = {}
        for _ in range(self.options.rounds):
            for worker, kernel in cases(kind, workers):
                if (worker, kernel) in absent:
                    continue
                answer = worker.ask("measure", kernel, rows, *shape, self.options.seconds, rotated)
                key = (threads, kind.title, worker.name, kernel, shape, rows)
                if "absent" in answer:
                    absent[worker, kernel] = answer["absent"]
                    self.results.setdefault(key, answer)
                else:
                    entry = self.results.setdefault(key, {"seconds": [], "bytes": answer["bytes"]})
                    entry["seconds"] += answer["seconds"]
                included = INCLUDES.get(kernel) or INCLUDES[worker.name.split(" ")[0]]
                self.record(name=f"{worker.name}: {kernel}", M=rows, K=shape[0], N=shape[1], threads=threads,
                            includes=included, **answer)

    def measure_shape(self, threads, workers, shape, size):
        for kind in CLASSES:
            started = time.monotonic()
            for rows in self.options.rows:
                streams = rows <= STREAMED_ROWS and shape[0] * shape[1] > STREAMED_SIZE
                count = sum(1 for _ in cases(kind, workers))
                rotated = min(size, int(free_bytes() * MEMORY_SHARE / max(count, 1))) if streams else 0
                self.measure(kind, threads, workers, shape, rows, rotated)
            for worker in workers:
                worker.ask("forget")
            print(f"{threads} threads, {shape[0]}x{shape[1]}, {kind.title}: {time.monotonic() - started:.0f} s", flush=True)

    def measure_threads(self, threads, logs):
        workers = [Worker(program, threads, logs) for program in programs(self.options.build)]
        try:
            size = workers[0].hello["streaming_size"] if workers[0].reason is None else 0
            for shape in self.options.shapes:
                self.measure_peaks(threads, workers, size)
                self.measure_shape(threads, workers, shape, size)
            self.measure_peaks(threads, workers, size)
        finally:
            for worker in workers:
                worker.close()
        return {w.name: w.reason or w.hello["version"] for w in workers}


def main():
    options = arguments()
    folder = ROOT / "build/peers"
    folder.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    with open(folder / "measurements.jsonl", "w") as output:
        run, versions = Run(options, output), {}
        for threads in options.threads:
            if threads <= cores:
                versions = run.measure_threads(threads, folder)
    peaks = {threads: {name: statistics.median(p[name] for p in measured) for name in ("int8", "bf16", "read")}
             for threads, measured in run.peaks.items()}
    text = table.render(options, run.results, peaks, versions)
    (folder / "table.md").write_text(text)
    print(text)
    if options.update:
        table.replace(options.update, text)


if __name__ == "__main__":
    main()
