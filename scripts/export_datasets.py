#!/usr/bin/env python3
"""Writes evaluation and calibration data folders: data.jsonl plus images, one folder a task.

  export_datasets.py OUT [--fashion-mnist] [--scenes N] [--nlvr] [--calibration N]

OUT/easy-vqa-test is always written: all questions of easy-VQA's official test split.
--calibration adds easy-vqa-calibration, pictures of its training split with one question
each, and with --scenes scenes-calibration, generated like scenes-test from another seed.
A line holds {"id", "image", "question", "answer", "category", "type"}; image paths are
relative to the folder. A folder is written aside and renamed when complete, and one
that is already there is left alone. easy-VQA needs only easy-vqa, Pillow and numpy.
"""

import argparse
import gzip
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from training.scenes import COLORS, SHAPES, pick, scene, scene_questions

FASHION_CLASSES = (
    "top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "boot",
)
FASHION_QUESTION = "what kind of clothing is shown?"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
HELD_OUT_SCENE_SEED = 20260101
# Neither that, nor one that scripts/training draws scenes from (--seed, and 20251231).
CALIBRATION_SEED = 20260202
EASY_VQA_CATEGORIES = ("colour", "shape", "yes-no")


def easy_vqa_category(answer):
    if answer in COLORS:
        return "colour"
    return "shape" if answer in SHAPES else "yes-no"


def read_idx(path, header):
    """The array of an IDX file (MNIST's format), without its header."""
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), dtype=np.uint8, offset=header)


def read_fashion(folder, split):
    """(images [N, 28, 28], labels [N]) of one split, "train" or "t10k"."""
    images = read_idx(folder / f"{split}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28)
    return images, read_idx(folder / f"{split}-labels-idx1-ubyte.gz", 8)


def make_item(item_id, image, question, answer, category):
    return {
        "id": item_id,
        "image": f"images/{image}.png",
        "question": question,
        "answer": answer,
        "category": category,
        "type": "yesno" if answer in ("yes", "no") else "open",
    }


def export_easy_vqa(folder):
    import easy_vqa

    paths = easy_vqa.get_test_image_paths()
    for image_id, path in paths.items():
        shutil.copyfile(path, folder / "images" / f"{image_id}.png")
    for index, (question, answer, image_id) in enumerate(zip(*easy_vqa.get_test_questions())):
        category = easy_vqa_category(answer)
        yield make_item(f"easy-vqa-test-{index}", image_id, question, answer, category)


def easy_vqa_training_questions():
    """{picture: {category: [(question, answer)]}} of easy-VQA's training split."""
    import easy_vqa

    asked = {}
    for question, answer, image_id in zip(*easy_vqa.get_train_questions()):
        kinds = asked.setdefault(image_id, {})
        kinds.setdefault(easy_vqa_category(answer), []).append((question, answer))
    return asked


def export_easy_vqa_calibration(folder, count):
    """One question a picture; the categories take turns as far as a picture has them."""
    import easy_vqa

    paths = easy_vqa.get_train_image_paths()
    asked = easy_vqa_training_questions()
    if count > len(asked):
        sys.exit(f"--calibration: easy-VQA's training split has {len(asked)} pictures")
    rng = np.random.default_rng(CALIBRATION_SEED)
    ids = sorted(asked)
    for index, place in enumerate(rng.permutation(len(ids))[:count]):
        image_id = ids[place]
        wanted = EASY_VQA_CATEGORIES[index % len(EASY_VQA_CATEGORIES)]
        category = wanted if wanted in asked[image_id] else pick(rng, sorted(asked[image_id]))
        question, answer = pick(rng, asked[image_id][category])
        shutil.copyfile(paths[image_id], folder / "images" / f"{image_id}.png")
        yield make_item(f"easy-vqa-calibration-{index}", image_id, question, answer, category)


def export_fashion(folder):
    images, labels = read_fashion(FASHION_FOLDER, "t10k")
    for index, (pixels, label) in enumerate(zip(images, labels)):
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        name = FASHION_CLASSES[label]
        yield make_item(f"fashion-mnist-test-{index}", index, FASHION_QUESTION, name, name)


@dataclass(frozen=True)
class SceneSet:
    split: str
    seed: int
    count: int
    questions: int


def export_scenes(folder, scenes):
    for index in range(scenes.count):
        rng = np.random.default_rng((scenes.seed, index))
        image, shapes = scene(rng)
        image.save(folder / "images" / f"{index}.png")
        for number, asked in enumerate(scene_questions(rng, shapes, scenes.questions)):
            item_id = f"scenes-{scenes.split}-{index}-{number}"
            yield make_item(item_id, index, asked.text, asked.answer, asked.type)


def export_nlvr(folder, source):
    for line in (source / "test.jsonl").read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        name = Path(item["image"]).name
        shutil.copyfile(source / item["image"], folder / "images" / name)
        yield {
            "id": item["id"],
            "image": f"images/{name}",
            "question": item["question"],
            "answer": item["answer"],
            "category": "nlvr",
            "type": "yesno",
        }


def export(out, name, writer, *arguments):
    target = out / name
    if target.exists():
        print(f"{target}: already there")
        return
    temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=out))
    try:
        (temporary / "images").mkdir()
        count = 0
        with open(temporary / "data.jsonl", "w", encoding="utf-8") as file:
            for item in writer(temporary, *arguments):
                file.write(json.dumps(item) + "\n")
                count += 1
        temporary.chmod(0o755)
        os.rename(temporary, target)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    print(f"{target}: {count} questions")


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder that receives the data folders")
    parser.add_argument(
        "--fashion-mnist",
        action="store_true",
        help=f"also fashion-mnist-test, from {FASHION_FOLDER}",
    )
    parser.add_argument(
        "--scenes",
        type=int,
        default=0,
        metavar="N",
        help="also scenes-test with N generated pictures",
    )
    parser.add_argument(
        "--nlvr", action="store_true", help="also nlvr-test, from $QVLM_TEST_DATA/nlvr"
    )
    parser.add_argument(
        "--calibration",
        type=int,
        default=0,
        metavar="N",
        help="also easy-vqa-calibration, and with --scenes scenes-calibration, of N pictures each",
    )
    return parser.parse_args()


def export_calibration(arguments):
    count = arguments.calibration
    export(arguments.out, "easy-vqa-calibration", export_easy_vqa_calibration, count)
    if arguments.scenes:
        scenes = SceneSet("calibration", CALIBRATION_SEED, count, 1)
        export(arguments.out, "scenes-calibration", export_scenes, scenes)


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)

    export(arguments.out, "easy-vqa-test", export_easy_vqa)
    if arguments.fashion_mnist:
        export(arguments.out, "fashion-mnist-test", export_fashion)
    if arguments.scenes:
        scenes = SceneSet("test", HELD_OUT_SCENE_SEED, arguments.scenes, 6)
        export(arguments.out, "scenes-test", export_scenes, scenes)
    if arguments.calibration:
        export_calibration(arguments)
    if arguments.nlvr:
        source = Path(os.environ.get("QVLM_TEST_DATA", "")) / "nlvr"
        if not source.is_dir():
            sys.exit("--nlvr needs QVLM_TEST_DATA to name a folder that holds nlvr/")
        export(arguments.out, "nlvr-test", export_nlvr, source)


if __name__ == "__main__":
    main()
