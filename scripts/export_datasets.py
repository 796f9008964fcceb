#!/usr/bin/env python3
"""Writes evaluation data folders: data.jsonl plus images, one folder a task.

  export_datasets.py OUT [--fashion-mnist] [--scenes N] [--nlvr]

OUT/easy-vqa-test is always written: all questions of easy-VQA's official test split.
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
from pathlib import Path

import numpy as np
from PIL import Image

from training.scenes import COLORS, SHAPES, scene, scene_questions

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


def export_easy_vqa(folder):
    import easy_vqa

    paths = easy_vqa.get_test_image_paths()
    for image_id, path in paths.items():
        shutil.copyfile(path, folder / "images" / f"{image_id}.png")
    for index, (question, answer, image_id) in enumerate(zip(*easy_vqa.get_test_questions())):
        yield {
            "id": f"easy-vqa-test-{index}",
            "image": f"images/{image_id}.png",
            "question": question,
            "answer": answer,
            "category": easy_vqa_category(answer),
            "type": "yesno" if answer in ("yes", "no") else "open",
        }


def export_fashion(folder):
    images, labels = read_fashion(FASHION_FOLDER, "t10k")
    for index, (pixels, label) in enumerate(zip(images, labels)):
        Image.fromarray(pixels).save(folder / "images" / f"{index}.png")
        yield {
            "id": f"fashion-mnist-test-{index}",
            "image": f"images/{index}.png",
            "question": FASHION_QUESTION,
            "answer": FASHION_CLASSES[label],
            "category": FASHION_CLASSES[label],
            "type": "open",
        }


def export_scenes(folder, count):
    for index in range(count):
        rng = np.random.default_rng((HELD_OUT_SCENE_SEED, index))
        image, shapes = scene(rng)
        image.save(folder / "images" / f"{index}.png")
        for number, question in enumerate(scene_questions(rng, shapes, 6)):
            yield {
                "id": f"scenes-test-{index}-{number}",
                "image": f"images/{index}.png",
                "question": question.text,
                "answer": question.answer,
                "category": question.type,
                "type": "yesno" if question.answer in ("yes", "no") else "open",
            }


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


def main():
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
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    export(arguments.out, "easy-vqa-test", export_easy_vqa)
    if arguments.fashion_mnist:
        export(arguments.out, "fashion-mnist-test", export_fashion)
    if arguments.scenes:
        export(arguments.out, "scenes-test", export_scenes, arguments.scenes)
    if arguments.nlvr:
        source = Path(os.environ.get("QVLM_TEST_DATA", "")) / "nlvr"
        if not source.is_dir():
            sys.exit("--nlvr needs QVLM_TEST_DATA to name a folder that holds nlvr/")
        export(arguments.out, "nlvr-test", export_nlvr, source)


if __name__ == "__main__":
    main()
