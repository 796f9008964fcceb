#!/usr/bin/env python3
"""Evaluates a LLaVA checkpoint with stock transformers, in float32 and greedily.

  evaluate_transformers.py MODEL --data FOLDER --answers out.jsonl

FOLDER holds data.jsonl as export_datasets.py writes it. Questions whose prompts have
the same number of tokens run together, so there is no padding and the arithmetic is
that of one question at a time. An answer is right when its decoded text, without outer
spaces, equals the expected one.
"""

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path

import torch
from PIL import Image
from transformers import LlavaForConditionalGeneration, LlavaProcessor
from transformers.utils import logging


def read_items(folder, limit):
    lines = (folder / "data.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:limit]]


def prompt_of(processor, question):
    content = [{"type": "image"}, {"type": "text", "text": question}]
    return processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )


def groups_of(items, processor, size):
    """Lists of at most `size` item indices with equally long prompts."""
    lengths = defaultdict(list)
    for index, item in enumerate(items):
        lengths[len(processor.tokenizer.encode(prompt_of(processor, item["question"])))].append(
            index
        )
    for indices in lengths.values():
        for start in range(0, len(indices), size):
            yield indices[start : start + size]


@torch.no_grad()
def answer(model, processor, folder, items, new_tokens):
    images = []
    for item in items:
        with Image.open(folder / item["image"]) as image:
            images.append(image.convert("RGB"))
    prompts = [prompt_of(processor, item["question"]) for item in items]
    inputs = processor(images=images, text=prompts, return_tensors="pt")
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=new_tokens)
    texts = processor.batch_decode(
        tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
    )
    return [text.strip() for text in texts]


def print_table(items, predictions):
    right = defaultdict(list)
    for item, prediction in zip(items, predictions):
        right[item["category"]].append(prediction == item["answer"])
    for category in sorted(right):
        hits = right[category]
        print(f"{category:12} {sum(hits):6} of {len(hits):6}  {100 * sum(hits) / len(hits):6.2f} %")
    total = sum(sum(hits) for hits in right.values())
    print(f"{'all':12} {total:6} of {len(items):6}  {100 * total / len(items):6.2f} %")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="checkpoint folder")
    parser.add_argument("--data", type=Path, required=True, help="data folder with data.jsonl")
    parser.add_argument("--answers", type=Path, help="file that receives one JSON line an item")
    parser.add_argument("--batch", type=int, default=32, help="most questions to run together")
    parser.add_argument("--limit", type=int, help="only the first so many questions")
    parser.add_argument("--new-tokens", type=int, default=8, help="most tokens of an answer")
    arguments = parser.parse_args()

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    processor = LlavaProcessor.from_pretrained(arguments.model)
    model = LlavaForConditionalGeneration.from_pretrained(
        arguments.model, dtype=torch.float32
    ).eval()
    items = read_items(arguments.data, arguments.limit)
    predictions = [""] * len(items)
    started = time.monotonic()
    for indices in groups_of(items, processor, arguments.batch):
        texts = answer(
            model, processor, arguments.data, [items[i] for i in indices], arguments.new_tokens
        )
        for index, text in zip(indices, texts):
            predictions[index] = text
    if arguments.answers:
        with open(arguments.answers, "w", encoding="utf-8") as file:
            for item, prediction in zip(items, predictions):
                line = {
                    "id": item["id"],
                    "prediction": prediction,
                    "correct": prediction == item["answer"],
                }
                file.write(json.dumps(line) + "\n")
    print_table(items, predictions)
    print(f"{time.monotonic() - started:.1f} s with {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
