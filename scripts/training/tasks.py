"""Training tasks: pictures with one-word questions, and their packing into batches."""

import json
import re
from functools import lru_cache

import easy_vqa
import numpy as np
import torch
from PIL import Image

from export_datasets import FASHION_CLASSES, FASHION_FOLDER, FASHION_QUESTION, read_fashion

from .model import IMAGE_SIZE, IMAGE_TOKENS
from .scenes import (
    COLORS,
    SHAPES,
    Question,
    pick,
    scene,
    scene_questions,
    single_question,
    single_scene,
    yes_no,
)
from .tokenizer import IMAGE_PROMPT, QUESTION_PROMPT

PACK_TOKENS = 160
VALIDATION_IMAGES = 200
VALIDATED = 64
MEAN = np.array((0.48145466, 0.4578275, 0.40821073), dtype=np.float32)
STD = np.array((0.26862954, 0.26130258, 0.27577711), dtype=np.float32)
ANSWER_WORDS = ("yes", "no", *COLORS, *SHAPES, *(str(d) for d in range(10)), *FASHION_CLASSES)


def squeeze(image):
    """The processor's resize: the whole picture to a square, as uint8."""
    return np.asarray(
        image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    )


def normalise(images):
    """What the processor does after its resize, as a float tensor [N, 3, H, W]."""
    pixels = (np.stack(images).astype(np.float32) / 255 - MEAN) / STD
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def single_questions(rng, color, kind, open_only, count=10):
    types = ("colour", "shape") if open_only else ("yes-no",)
    return [single_question(rng, color, kind, types[i % len(types)]) for i in range(count)]


class EasyVqa:
    """easy-VQA's official training split; the last pictures are held out to validate."""

    def __init__(self):
        self.official = {}
        for text, answer, image_id in zip(*easy_vqa.get_train_questions()):
            self.official.setdefault(image_id, []).append(Question(text, answer, "official"))
        ids = sorted(self.official)
        self.train_ids, self.validation_ids = ids[:-VALIDATION_IMAGES], ids[-VALIDATION_IMAGES:]
        paths = easy_vqa.get_train_image_paths()
        self.pixels = {i: squeeze(Image.open(paths[i])) for i in ids}
        self.facts = {i: self.find_facts(i) for i in ids}

    def find_facts(self, image_id):
        """(colour, shape) as told by the official questions, None where they do not."""
        color = kind = None
        for question in self.official[image_id]:
            negated = " not " in question.text or " no " in question.text
            true = [question.answer]
            if question.answer not in ("yes", "no") or (question.answer == "yes") != negated:
                true += re.findall(r"\w+", question.text)
            color = next((c for c in true if c in COLORS), color)
            kind = next((k for k in true if k in SHAPES), kind)
        return color, kind

    def sample(self, rng, open_only):
        image_id = pick(rng, self.train_ids)
        color, kind = self.facts[image_id]
        official = self.official[image_id]
        if not (color and kind):
            questions = official
        else:
            questions = single_questions(rng, color, kind, open_only)
            if not open_only:
                questions = [official[i] for i in rng.permutation(len(official))[:6]] + questions
        return augment(rng, self.pixels[image_id]), questions

    def validation(self):
        return [(self.pixels[i], self.official[i]) for i in self.validation_ids[:VALIDATED]]


def augment(rng, pixels):
    """Mirrors and shifts up to 6 pixels, the border repeated."""
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    reach = 6
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    y, x = rng.integers(0, 2 * reach + 1, 2)
    return padded[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE]


class Singles:
    def sample(self, rng, open_only):
        image, (shape,) = single_scene(rng)
        return squeeze(image), single_questions(rng, shape.color, shape.kind, open_only)


class Scenes:
    def sample(self, rng, open_only):
        image, shapes = scene(rng)
        return squeeze(image), scene_questions(rng, shapes, 8)

    def validation(self):
        rng = np.random.default_rng(20251231)
        return [self.sample(rng, False) for _ in range(VALIDATED)]


class Fashion:
    def __init__(self):
        self.images, self.labels = read_fashion(FASHION_FOLDER, "train")
        self.held_out = 100

    def labelled(self, rng):
        """A training picture, mirrored half of the time, and the number of its class."""
        index = int(rng.integers(len(self.images) - self.held_out))
        pixels = self.pixels(index)
        return (pixels[:, ::-1] if rng.random() < 0.5 else pixels), int(self.labels[index])

    def sample(self, rng, open_only):
        pixels, label = self.labelled(rng)
        return pixels, self.questions(rng, FASHION_CLASSES[label])

    def pixels(self, index):
        return squeeze(Image.fromarray(self.images[index]))

    @staticmethod
    def questions(rng, name):
        """The class itself, then yes-no questions on it and on others."""
        asked = [Question(FASHION_QUESTION, name, "fashion")]
        for other in (name, pick(rng, FASHION_CLASSES), pick(rng, FASHION_CLASSES)):
            asked.append(Question(f"is this a {other}?", yes_no(other == name), "fashion"))
        return asked

    def validation(self):
        first = len(self.images) - self.held_out
        return [
            (
                self.pixels(i),
                [Question(FASHION_QUESTION, FASHION_CLASSES[self.labels[i]], "fashion")],
            )
            for i in range(first, first + VALIDATED)
        ]


class Nlvr:
    def __init__(self, folder):
        self.folder = folder
        self.items = self.read("train")
        self.cache = {}

    def read(self, split):
        return [
            json.loads(line)
            for line in (self.folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        ]

    def pixels(self, item):
        if item["id"] not in self.cache:
            self.cache[item["id"]] = squeeze(Image.open(self.folder / item["image"]))
        return self.cache[item["id"]]

    def sample(self, rng, open_only):
        item = pick(rng, self.items)
        return self.pixels(item), [Question(item["question"], item["answer"], "nlvr")]

    def validation(self):
        return [
            (self.pixels(i), [Question(i["question"], i["answer"], "nlvr")])
            for i in self.read("dev")[:VALIDATED]
        ]


def build_tasks(nlvr_folder):
    tasks = {"easy-vqa": EasyVqa(), "singles": Singles(), "scenes": Scenes()}
    if FASHION_FOLDER.is_dir():
        tasks["fashion"] = Fashion()
    if nlvr_folder and nlvr_folder.is_dir():
        tasks["nlvr"] = Nlvr(nlvr_folder)
    return tasks


def tokenizer_texts(tasks, seed):
    """Sample prompts of every task; a question's first word carries no space."""
    rng = np.random.default_rng(seed)
    texts = []
    for name, task in tasks.items():
        if name == "nlvr":
            found = [(item["question"], item["answer"]) for item in task.items]
        else:
            found = [(q.text, q.answer) for _ in range(300) for q in task.sample(rng, False)[1]]
        texts += [f"{question} ASSISTANT: {answer}" for question, answer in found]
    return texts + [" USER:"] * len(texts)


class Packer:
    """Turns (pixels, questions) pairs into tensors for the packed forward."""

    def __init__(self, tokenizer, dtype):
        self.tokenizer, self.dtype = tokenizer, dtype
        image_token = tokenizer.convert_tokens_to_ids("<image>")
        prefix = tokenizer.encode(IMAGE_PROMPT)
        self.prefix = prefix[:-1] + [image_token] * IMAGE_TOKENS
        self.skip = len(prefix)
        self.image_start = len(prefix) - 1
        self.eos = tokenizer.eos_token_id
        self.encode = lru_cache(maxsize=20000)(self.encode_question)

    def encode_question(self, text, answer):
        prompt = IMAGE_PROMPT + QUESTION_PROMPT.format(question=text)
        (answer_id,) = self.tokenizer.encode(answer, add_special_tokens=False)
        return self.tokenizer.encode(prompt)[self.skip :], answer_id

    def row(self, questions):
        """ids, positions, segments, and (place, wanted token, question) for each target."""
        ids, segments = list(self.prefix), [0] * len(self.prefix)
        positions = list(range(len(ids)))
        targets = []
        for number, question in enumerate(questions):
            tokens, answer = self.encode(question.text, question.answer)
            if len(ids) + len(tokens) + 1 > PACK_TOKENS:
                break
            places = len(ids) + len(tokens) - 1
            targets += [(places, answer, number), (places + 1, self.eos, number)]
            ids += tokens + [answer]
            segments += [number + 1] * (len(tokens) + 1)
            positions += range(len(self.prefix), len(self.prefix) + len(tokens) + 1)
        padding = PACK_TOKENS - len(ids)
        pad = self.tokenizer.pad_token_id
        return ids + [pad] * padding, positions + [0] * padding, segments + [-1] * padding, targets

    def batch(self, samples):
        rows = [self.row(questions) for _, questions in samples]
        segments = torch.tensor([row[2] for row in rows])
        ours, theirs = segments.unsqueeze(2), segments.unsqueeze(1)
        seen = ((theirs == 0) | (theirs == ours)).tril()
        flat = [
            (r * PACK_TOKENS + place, token, (r, q))
            for r, row in enumerate(rows)
            for place, token, q in row[3]
        ]
        return {
            "pixels": normalise([pixels for pixels, _ in samples]),
            "ids": torch.tensor([row[0] for row in rows]),
            "positions": torch.tensor([row[1] for row in rows]),
            "mask": torch.zeros(seen.shape, dtype=self.dtype)
            .masked_fill_(~seen, -1e4)
            .unsqueeze(1),
            "targets_at": torch.tensor([place for place, _, _ in flat]),
            "targets": torch.tensor([token for _, token, _ in flat]),
            "questions": [question for _, _, question in flat],
        }
