#!/usr/bin/env python3
"""Trains the bundled reference model, a 9.5 M parameter LLaVA, from nothing on CPUs.

  train_reference.py --minutes 60                 # train, then export
  train_reference.py --minutes 60 --resume        # go on after an interruption
  train_reference.py --seed 2 --decoder-layers 8 --work WORK --out MODEL    # a sibling
  train_reference.py --check                      # packed forward against transformers

One process per core computes gradients on its own pictures; gradients are averaged.
The learning rate warms up and falls to zero as a cosine over the larger of the two
used-up shares, steps of --steps and minutes of --minutes, so a busy machine still ends
on time with a finished schedule. Checkpoints and the log are in --work, the model in --out.
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer
from transformers import LlavaProcessor
from transformers.utils import logging

from training import vision
from training.model import PackedForward, build_model, export_model
from training.tasks import ANSWER_WORDS, Packer, build_tasks, tokenizer_texts
from training.tokenizer import IMAGE_PROMPT, QUESTION_PROMPT, build_tokenizer, wrap_tokenizer

ROOT = Path(__file__).resolve().parent.parent
# Shares of the tasks' pictures in each stage of the curriculum.
MIXTURES = (
    {"easy-vqa": 0.5, "singles": 0.5},
    {"easy-vqa": 0.54, "singles": 0.20, "scenes": 0.14, "fashion": 0.10, "nlvr": 0.02},
    {"easy-vqa": 0.35, "singles": 0.10, "scenes": 0.35, "fashion": 0.17, "nlvr": 0.03},
)
VISION_STREAM = 1 << 20
VISION_EVERY = 8
CHECKPOINT_SECONDS = 300
LOG_STEPS = 20


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "models/reference-llava")
    parser.add_argument("--work", type=Path, default=ROOT / "build/train-reference")
    parser.add_argument("--steps", type=int, default=20000, help="most optimiser steps")
    parser.add_argument("--minutes", type=float, default=60, help="most minutes of training")
    parser.add_argument("--vision-steps", type=int, default=500, help="steps of the vision warm-up")
    parser.add_argument(
        "--stages",
        type=int,
        nargs=2,
        default=(150, 1700),
        metavar="STEP",
        help="where all questions join colour and shape, and where scenes grow in number",
    )
    parser.add_argument("--batch", type=int, default=16, help="pictures per process and step")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--decay", type=float, default=0.05, help="weight decay of matrices")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--decoder-layers",
        type=int,
        default=12,
        help="depth of the decoder; --resume needs the same one",
    )
    parser.add_argument(
        "--float32",
        action="store_true",
        help="compute in float32: faster where the processor has no bf16 products",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue from the checkpoint in --work"
    )
    parser.add_argument(
        "--check", action="store_true", help="compare the packed forward with transformers and stop"
    )
    return parser.parse_args()


def build_data(seed):
    """All tasks at hand, and the tokenizer trained on their questions and answers."""
    nlvr = os.environ.get("QVLM_TEST_DATA")
    tasks = build_tasks(Path(nlvr) / "nlvr" if nlvr else None)
    return tasks, build_tokenizer(tokenizer_texts(tasks, seed), ANSWER_WORDS)


class Trainer:
    def __init__(self, arguments, rank):
        self.arguments, self.rank = arguments, rank
        self.tasks, self.tokenizer = build_data(arguments.seed)
        state = torch.load(arguments.work / "checkpoint.pt") if arguments.resume else None
        if state:
            # Built anew it could number its pieces otherwise, as it depends on the tasks at hand.
            self.tokenizer = wrap_tokenizer(Tokenizer.from_str(state["tokenizer"]))
        dtype = torch.float32 if arguments.float32 else torch.bfloat16
        self.packer = Packer(self.tokenizer, dtype)
        self.model = build_model(self.tokenizer, arguments.seed, arguments.decoder_layers)
        self.forward = PackedForward(self.model, dtype, self.packer.image_start, compiled=True)
        self.probes = vision.make_probes(self.model.config.text_config.hidden_size)
        self.parameters = [*self.model.parameters(), *self.probes.parameters()]
        matrices = [p for p in self.parameters if p.dim() > 1]
        vectors = [p for p in self.parameters if p.dim() <= 1]
        groups = [
            {"params": matrices, "weight_decay": arguments.decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=arguments.rate, betas=(0.9, 0.98), fused=True)
        self.vision_step, self.step, self.seconds = 0, 0, 0.0
        if state:
            self.restore(state)

    def save(self):
        path = self.arguments.work / "checkpoint.pt"
        state = {
            "tokenizer": self.tokenizer.backend_tokenizer.to_str(),
            "model": self.model.state_dict(),
            "probes": self.probes.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "vision_step": self.vision_step,
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def restore(self, state):
        self.model.load_state_dict(state["model"])
        self.probes.load_state_dict(state["probes"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.vision_step, self.step, self.seconds = (
            state["vision_step"],
            state["step"],
            state["seconds"],
        )

    def progress(self):
        """Used-up share of the budget, as the first process sees it."""
        share = max(self.step / self.arguments.steps, self.seconds / (60 * self.arguments.minutes))
        shared = torch.tensor(min(share, 1.0))
        dist.broadcast(shared, 0)
        return shared.item()

    def sample(self, rng):
        stage = sum(self.step >= last for last in self.arguments.stages)
        weights = {name: weight for name, weight in MIXTURES[stage].items() if name in self.tasks}
        names, shares = list(weights), np.array(list(weights.values()))
        chosen = rng.choice(len(names), self.arguments.batch, p=shares / shares.sum())
        samples = [self.tasks[names[i]].sample(rng, stage == 0) for i in chosen]
        return self.packer.batch(samples)

    def vision_loss(self, number):
        rng = np.random.default_rng((self.arguments.seed, VISION_STREAM, number, self.rank))
        pixels, *labels = vision.batch(rng, self.tasks.get("fashion"), 2 * self.arguments.batch)
        return vision.loss_and_accuracy(self.forward.vision(pixels), self.probes, labels)

    def warm_up_vision(self):
        """Vision tower and projector alone; see training/vision.py."""
        seen, last_log, last_save = [], time.monotonic(), time.monotonic()
        while self.vision_step < self.arguments.vision_steps:
            loss, right = self.vision_loss(self.vision_step)
            loss.backward()
            self.update(min(1.0, (self.vision_step + 1) / self.arguments.warmup))
            self.vision_step += 1
            seen.append((loss.item(), right))
            now = time.monotonic()
            if self.rank:
                continue
            if self.vision_step % (5 * LOG_STEPS) == 0:
                speed = (
                    2
                    * len(seen)
                    * self.arguments.batch
                    * self.arguments.processes
                    / (now - last_log)
                )
                loss, right = np.mean(seen, axis=0)
                log(
                    f"vision step {self.vision_step} loss {loss:.4f} "
                    f"kinds {100 * right:.1f}% images/s {speed:.1f}"
                )
                seen, last_log = [], now
            if (
                now - last_save > CHECKPOINT_SECONDS
                or self.vision_step == self.arguments.vision_steps
            ):
                self.save()
                last_save = now

    def train_step(self, progress):
        rng = np.random.default_rng((self.arguments.seed, self.step, self.rank))
        batch = self.sample(rng)
        loss = F.cross_entropy(self.forward(batch).float(), batch["targets"])
        loss.backward()
        if self.step % VISION_EVERY == 0:
            self.vision_loss(self.arguments.vision_steps + self.step)[0].backward()
        warm = min(1.0, (self.step + 1) / self.arguments.warmup)
        self.update(warm * 0.5 * (1 + math.cos(math.pi * progress)))
        self.step += 1
        return loss.item()

    def update(self, share):
        """One optimiser step at `share` of the peak rate, on averaged gradients."""
        # Parameters that no answer reached have no gradient, here as on the other processes.
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        flat /= self.arguments.processes
        for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients])):
            gradient.copy_(part.view_as(gradient))
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.arguments.rate * share
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def accuracy(self, samples):
        """Share of questions whose answer and end-of-text both come out first."""
        right = []
        for start in range(0, len(samples), self.arguments.batch):
            part = samples[start : start + self.arguments.batch]
            # The compiled graph has one batch size, so the last part is filled up.
            batch = self.packer.batch(part + [part[0]] * (self.arguments.batch - len(part)))
            hits = (self.forward(batch).argmax(-1) == batch["targets"]).view(-1, 2).all(1).tolist()
            rows = [row for row, _ in batch["questions"][::2]]
            right += [hit for hit, row in zip(hits, rows) if row < len(part)]
        return sum(right) / len(right)

    def validate(self):
        names = [name for name, task in self.tasks.items() if hasattr(task, "validation")]
        return {name: self.accuracy(self.tasks[name].validation()) for name in names}

    def run(self):
        last = last_save = last_log = time.monotonic()
        losses = []
        while (progress := self.progress()) < 1.0:
            losses.append(self.train_step(progress))
            now = time.monotonic()
            self.seconds += now - last
            last = now
            if self.rank:
                continue
            if self.step % LOG_STEPS == 0:
                speed = (
                    LOG_STEPS * self.arguments.batch * self.arguments.processes / (now - last_log)
                )
                log(
                    f"step {self.step} progress {progress:.3f} "
                    f"loss {np.mean(losses):.4f} images/s {speed:.1f}"
                )
                losses, last_log = [], now
            if now - last_save > CHECKPOINT_SECONDS:
                self.report()
                last_save = last_log = time.monotonic()
        if not self.rank:
            self.report()

    def report(self):
        self.save()
        export_model(self.model, self.tokenizer, self.arguments.out)
        scores = " ".join(f"{name} {100 * value:.2f}%" for name, value in self.validate().items())
        log(f"step {self.step} validation {scores}")


def log(line):
    print(time.strftime("%H:%M:%S"), line, flush=True)


def worker(rank, arguments):
    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    meeting = f"file://{arguments.work.resolve()}/rendezvous-{os.getppid()}"
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=arguments.processes)
    trainer = Trainer(arguments, rank)
    trainer.warm_up_vision()
    trainer.run()
    dist.barrier()
    dist.destroy_process_group()


@torch.no_grad()
def check(arguments):
    """The packed forward in float32 must equal transformers on every question alone."""
    tasks, tokenizer = build_data(arguments.seed)
    model = build_model(tokenizer, arguments.seed, arguments.decoder_layers).eval()
    packer = Packer(tokenizer, torch.float32)
    rng = np.random.default_rng(arguments.seed)
    samples = [task.sample(rng, False) for task in tasks.values()]
    batch = packer.batch(samples)
    packed = PackedForward(model, torch.float32, packer.image_start)(batch)
    worst = 0.0
    for index, (row, number) in enumerate(batch["questions"]):
        if index % 2 == 0:
            question = samples[row][1][number]
            tokens, answer = packer.encode(question.text, question.answer)
            ids = torch.tensor([packer.prefix + tokens + [answer]])
            logits = model(input_ids=ids, pixel_values=batch["pixels"][row : row + 1]).logits[
                0, -2:
            ]
            worst = max(worst, (logits - packed[index : index + 2]).abs().max().item())
    print(
        f"{len(packed) // 2} questions, largest logit difference {worst:.2e}, "
        f"largest logit {packed.abs().max():.2f}"
    )
    if worst > 1e-4 * packed.abs().max():
        sys.exit("the packed forward disagrees with transformers")
    check_processor(arguments, samples)


def check_processor(arguments, samples):
    """Tokens and pixels that training uses must be those of the exported processor."""
    processor = LlavaProcessor.from_pretrained(arguments.out)
    packer = Packer(processor.tokenizer, torch.float32)
    for pixels, questions in samples:
        prompt = IMAGE_PROMPT + QUESTION_PROMPT.format(question=questions[0].text)
        inputs = processor(
            images=Image.fromarray(np.ascontiguousarray(pixels)), text=prompt, return_tensors="pt"
        )
        tokens, _ = packer.encode(questions[0].text, questions[0].answer)
        ours = packer.batch([(pixels, questions[:1])])["pixels"]
        same = inputs["input_ids"][0].tolist() == packer.prefix + tokens
        if not same or (inputs["pixel_values"] - ours).abs().max() > 1e-5:
            sys.exit(f"the processor in {arguments.out} disagrees with training on {prompt!r}")
    print("tokens and pixels agree with the exported processor")


def main():
    arguments = parse_arguments()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.check:
        logging.set_verbosity_error()
        check(arguments)
        return
    mp.spawn(worker, (arguments,), nprocs=arguments.processes)


if __name__ == "__main__":
    main()
