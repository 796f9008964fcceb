#!/usr/bin/env python3
"""Compares our tokenizer with the `tokenizers` package: ids, text and speed.

Ids of random strings and texts of ids (of strings, and of random ids) must be equal for every style of
tokenizer_styles.py, and for GPT-2 and MiniMind when QVLM_TEST_DATA names a folder that has them. Then both encode the
same text on one thread, in turn. Exits with 1 on any mismatch, or when ours is not --speedup times as fast.

  scripts/check_tokenizer.py --driver build/release/tests/text/tokenizer_driver [--strings 20000]
"""

import argparse
import glob
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time

import tokenizer_styles as styles
from tokenizers import Tokenizer, __version__

BATCH = 1000


class Driver:
    """tokenizer_driver as a process of its own."""

    def __init__(self, program: str, file: pathlib.Path):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, file], stdin=pipe, stdout=pipe, text=True, encoding="utf-8")

    def ask(self, verb: str, option, items: list) -> list:
        self.process.stdin.write(json.dumps([verb, option, *items], ensure_ascii=False) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the driver ended at {verb}")
        return json.loads(answer)

    def ask_all(self, verb: str, option, items: list) -> list:
        return [a for i in range(0, len(items), BATCH) for a in self.ask(verb, option, items[i : i + BATCH])]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def tokenizer_files(folder: pathlib.Path) -> list[pathlib.Path]:
    files = []
    for style in styles.STYLES:
        files.append(folder / f"{style.__name__}.json")
        files[-1].write_text(json.dumps(style(), ensure_ascii=False), encoding="utf-8")
    data = os.environ.get("QVLM_TEST_DATA")
    if not data:
        print("QVLM_TEST_DATA is not set: GPT-2 and MiniMind are left out")
        return files
    data = pathlib.Path(data) / "tokenizers"
    vocab = json.loads((data / "gpt2_vocab.json").read_text(encoding="utf-8"))
    lines = (data / "gpt2_merges.txt").read_text(encoding="utf-8").split("\n")
    byte = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    gpt2 = styles.document(vocab, [l for l in lines[1:] if l], pre_tokenizer=byte, decoder=byte)
    gpt2["added_tokens"] = [styles.added("<|endoftext|>", 50256)]
    files.append(folder / "gpt2.json")
    files[-1].write_text(json.dumps(gpt2), encoding="utf-8")
    return files + [data / "minimind.tokenizer.json"]


def report(what: str, inputs: list, expected: list, got: list) -> int:
    wrong = [i for i, pair in enumerate(zip(expected, got, strict=True)) if pair[0] != pair[1]]
    for i in wrong[:3]:
        print(f"  {what}: {inputs[i]!a}\n    expected {expected[i]!a}\n    got      {got[i]!a}")
    return len(wrong)


def with_unknown_ids(reference: Tokenizer, sequences: list[list[int]], seed: int) -> list[list[int]]:
    """Puts ids without a token, as models with padded vocabularies give them, into a quarter of the sequences."""
    rng = random.Random(seed)
    size = max(reference.get_vocab(with_added_tokens=True).values()) + 1
    for ids in sequences[::4]:
        for _ in range(rng.randint(1, 3)):
            ids.insert(rng.randint(0, len(ids)), size + rng.choice([0, 1, 62, 1 << 20]))
    return sequences


def compare(name: str, reference: Tokenizer, driver: Driver, strings: list[str], seed: int) -> int:
    wrong = 0
    sequences = []
    for special, tried in ((False, strings[: len(strings) // 4]), (True, strings)):
        sequences = [e.ids for e in reference.encode_batch(tried, add_special_tokens=special)]
        wrong += report(f"encode {special}", tried, sequences, driver.ask_all("encode", special, tried))
    sequences += with_unknown_ids(reference, styles.random_ids(reference, len(strings) // 2, seed), seed)
    # That streams show what decode() gives is for the unit tests: each way is compared once.
    for verb, skip in (("stream", True), ("decode", False)):
        texts = reference.decode_batch(sequences, skip_special_tokens=skip)
        wrong += report(f"{verb} {skip}", sequences, texts, driver.ask_all(verb, skip, sequences))
    print(f"{name}: {len(strings)} strings, {len(sequences)} id sequences, {wrong} mismatches", flush=True)
    return wrong


def timing_texts() -> list[str]:
    """Source code, prose and many scripts; pieces of about 2000 characters, as prompts are."""
    names = sorted(glob.glob(sysconfig.get_path("stdlib") + "/*.py"))[:12]
    names += sorted(glob.glob("/usr/share/common-licenses/*"))[:4]
    whole = [pathlib.Path(n).read_text(encoding="utf-8", errors="replace") for n in names]
    whole.append(styles.SAMPLE * 40)
    return [text[i : i + 2000] for text in whole for i in range(0, len(text), 2000)]


def ways_to_encode(reference: Tokenizer, texts: list[str]) -> list:
    def loop():
        for text in texts:
            reference.encode(text)

    return [loop, lambda: reference.encode_batch(texts), lambda: reference.encode_batch_fast(texts)]


def seconds(way) -> float:
    start = time.perf_counter()
    way()
    return time.perf_counter() - start


def compare_speed(name: str, reference: Tokenizer, driver: Driver, rounds: int) -> float:
    """How many times as fast as the fastest way that the package offers."""
    texts = timing_texts()
    megabytes = sum(len(t.encode()) for t in texts) / 1e6
    fastest = min(ways_to_encode(reference, texts), key=seconds)
    theirs, ours = [], []
    for _ in range(rounds):
        theirs.append(seconds(fastest))
        ours += driver.ask("time", 1, texts)
    a, b = statistics.median(theirs), statistics.median(ours)
    print(f"{name}: ours {megabytes / b:.1f} MB/s, theirs {megabytes / a:.1f} MB/s: {a / b:.1f} times", flush=True)
    return a / b


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--driver", required=True, help="the built tokenizer_driver")
    parser.add_argument("--strings", type=int, default=20000, help="random strings per tokenizer")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="of timing; 0: none")
    parser.add_argument("--speedup", type=float, default=2.0, help="the least that is accepted")
    parser.add_argument("--only", help="one tokenizer, by name")
    options = parser.parse_args()
    print(f"tokenizers {__version__}")
    strings = styles.random_strings(options.strings, options.seed)
    wrong, slow = 0, []
    with tempfile.TemporaryDirectory() as folder:
        for file in tokenizer_files(pathlib.Path(folder)):
            name = file.name.split(".")[0]
            if options.only and name != options.only:
                continue
            reference = Tokenizer.from_file(str(file))
            driver = Driver(options.driver, file)
            os.environ["TOKENIZERS_PARALLELISM"] = "true"
            wrong += compare(name, reference, driver, strings, options.seed)
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
            if options.rounds and compare_speed(name, reference, driver, options.rounds) < options.speedup:
                slow.append(name)
            driver.close()
    print(f"{wrong} mismatches" + (f"; too slow: {', '.join(slow)}" if slow else ""))
    return 1 if wrong or slow else 0


if __name__ == "__main__":
    sys.exit(main())
