#!/usr/bin/env python3
"""Writes tests/data/image: image files of many kinds, what Pillow and transformers make of them.

  make_image_goldens.py [--out tests/data/image] [--nlvr FOLDER]

golden.json holds hashes only (SHA-256 of raw bytes): "decoded" of convert("RGB"), "resized" of
Image.resize, "preprocessed" of the float32 pixel values of transformers' PIL image processors, and
"truncated", the outcome of opening a file cut off after some bytes. With --nlvr it also hashes some
images of a folder that the repository does not hold.
"""

import argparse
import hashlib
import io
import json
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import PIL.features
import transformers
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

ROOT = Path(__file__).resolve().parent.parent
FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3}
# From 37 x 23. The first four lie around Pillow's choice which pass goes first.
SIZES = [(35, 20), (36, 20), (34, 17), (38, 20), (1, 1), (3, 200), (200, 3), (16, 11), (24, 24),
         (37, 23), (37, 50), (90, 23), (56, 56), (112, 75), (224, 224), (36, 22), (38, 24), (7, 90)]


def picture(width, height, seed=3):
    """Noise, gradients and hard edges: filters overshoot on it and chroma subsampling shows."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 255 / width, rows * 255 / height, (rows + columns) % 256], axis=-1)
    pixels[:, : width // 3] = random.integers(0, 256, (height, width // 3, 3))
    pixels[height // 4: height // 2, width // 2: width // 2 + 5] = (255, 0, 0)
    pixels[height // 2:, -4:] = (0, 255, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, color, rows, extra=b""):
    """PNG bytes of a kind that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data)
            + chunk(b"IEND", b""))


# Interlacing: first column, first row, column step, row step of the seven passes.
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2)]


def interlaced_png(pixels):
    """RGB, interlaced; pixels: [height, width, 3]."""
    height, width = pixels.shape[:2]
    data = b""
    for left, top, columns, rows in ADAM7:
        part = pixels[top::rows, left::columns]
        if part.size:
            data += b"".join(b"\0" + row.tobytes() for row in part)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9))
            + chunk(b"IEND", b""))


def raw_pngs():
    random = np.random.default_rng(5)

    def bytes_of(count):
        return random.integers(0, 256, count).astype(np.uint8).tobytes()

    palette = chunk(b"PLTE", bytes_of(3 * 10))
    for depth in (1, 2, 4, 8):
        rows = [bytes_of((13 * depth + 7) // 8) for _ in range(7)]
        yield f"grey{depth}.png", png(13, 7, depth, 0, rows)
        # With 8 bits most indices lie beyond the ten colours.
        yield f"palette{depth}.png", png(13, 7, depth, 3, rows, palette)
    kinds = (("grey", 0, 1), ("rgb", 2, 3), ("grey_alpha", 4, 2), ("rgba", 6, 4))
    for name, color, samples in kinds:
        rows = [bytes_of(2 * samples * 9) for _ in range(5)]
        yield f"{name}16.png", png(9, 5, 16, color, rows)
    small = struct.pack(">9H", 0, 1, 254, 255, 256, 257, 4096, 65280, 65535)
    yield "grey16_small.png", png(9, 1, 16, 0, [small])
    rows = [bytes_of(8 * 3) for _ in range(4)]
    transparent = chunk(b"tRNS", struct.pack(">3H", *rows[0][:3]))
    yield "rgb_trns.png", png(8, 4, 8, 2, rows, transparent + chunk(b"tEXt", b"note\0text"))
    yield "rgb_gamma.png", png(8, 4, 8, 2, rows, chunk(b"gAMA", struct.pack(">I", 100000)))
    rows = [bytes((i * 8 + j) % 10 for j in range(8)) for i in range(4)]
    yield "palette_trns.png", png(8, 4, 8, 3, rows, palette + chunk(b"tRNS", bytes_of(5)))
    yield "interlaced.png", interlaced_png(np.asarray(picture(21, 13)))


def saved(image, kind, **options):
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def with_adobe_transform(data, transform):
    """The same JPEG, its Adobe marker claiming another colour transform."""
    place = data.index(b"Adobe") + 11
    return data[:place] + bytes([transform]) + data[place + 1:]


def with_alpha(image):
    alpha = np.random.default_rng(9).integers(0, 256, image.size[::-1]).astype(np.uint8)
    rgba = image.convert("RGBA")
    rgba.putalpha(Image.fromarray(alpha))
    return rgba


def pillow_files():
    image, alpha = picture(37, 23), with_alpha(picture(37, 23))
    yield "rgb.png", saved(image, "PNG", optimize=True)
    yield "rgba.png", saved(alpha, "PNG", optimize=True)
    yield "grey_alpha.png", saved(alpha.convert("LA"), "PNG", optimize=True)
    yield "palette.png", saved(image.quantize(40), "PNG", optimize=True)
    yield "bilevel.png", saved(image.convert("1"), "PNG", optimize=True)
    for number, name in enumerate(("444", "422", "420")):
        yield f"rgb{name}.jpg", saved(image, "JPEG", quality=85, subsampling=number)
    yield "odd420.jpg", saved(picture(17, 9), "JPEG", quality=60)
    yield "progressive.jpg", saved(image, "JPEG", quality=80, progressive=True)
    yield "restart.jpg", saved(image, "JPEG", quality=80, restart_marker_blocks=2)
    yield "grey.jpg", saved(image.convert("L"), "JPEG", quality=90)
    yield "keep_rgb.jpg", saved(image, "JPEG", quality=90, keep_rgb=True)
    cmyk = saved(image.convert("CMYK"), "JPEG", quality=90)
    yield "cmyk.jpg", cmyk
    yield "ycck.jpg", with_adobe_transform(cmyk, 2)
    turned = Image.Exif()
    turned[0x0112] = 6
    yield "turned.jpg", saved(image, "JPEG", quality=75, exif=turned)
    yield "lossy.webp", saved(image, "WEBP", quality=70)
    yield "lossless.webp", saved(image, "WEBP", lossless=True)
    yield "lossy_alpha.webp", saved(alpha, "WEBP", quality=70)
    yield "lossless_alpha.webp", saved(alpha, "WEBP", lossless=True, exact=True)


def digest(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def decoded(data):
    image = Image.open(io.BytesIO(data)).convert("RGB")
    return {"width": image.width, "height": image.height, "sha256": digest(np.asarray(image))}


def resized(image):
    for filter_name, number in FILTERS.items():
        for width, height in SIZES:
            result = image.resize((width, height), number)
            yield {"filter": filter_name, "width": width, "height": height,
                   "sha256": digest(np.asarray(result))}


def processor_settings():
    crop = {"height": 28, "width": 28}
    yield {"size": {"shortest_edge": 28}, "crop_size": crop}
    yield {"size": {"shortest_edge": 28}, "crop_size": crop, "do_pad": True}
    yield {"size": {"height": 42, "width": 30}, "do_center_crop": False, "resample": 2}
    yield {"size": {"shortest_edge": 20}, "crop_size": {"height": 31, "width": 27}}
    yield {"size": {"shortest_edge": 21}, "crop_size": {"height": 26, "width": 10}, "resample": 1}
    yield {"do_resize": False, "crop_size": {"height": 50, "width": 40}, "do_normalize": False}
    yield {"do_resize": False, "do_center_crop": False, "image_mean": [0.5, 0.5, 0.5],
           "image_std": [0.5, 0.25, 0.3]}
    yield {"size": {"shortest_edge": 28}, "crop_size": crop, "do_rescale": False, "resample": 0}
    yield {"size": {"shortest_edge": 33}, "crop_size": crop, "rescale_factor": 1 / 127.5}


def preprocessed(image):
    for settings in processor_settings():
        kind = LlavaImageProcessorPil if settings.get("do_pad") else CLIPImageProcessorPil
        values = kind(**settings)(image, return_tensors="np")["pixel_values"][0]
        if not settings.get("do_normalize", True) or not settings.get("do_rescale", True):
            values = values.astype(np.float32)
        assert values.dtype == np.float32, (settings, values.dtype)
        yield {"settings": settings, "shape": values.shape, "sha256": digest(values)}


def opens(data):
    try:
        return decoded(data)["sha256"]
    except Exception:
        return None


def truncated(files):
    for name in ("rgb.png", "interlaced.png", "palette8.png", "rgb420.jpg", "progressive.jpg",
                 "lossy.webp", "lossless.webp"):
        data = files[name]
        for keep in sorted({len(data) * part // 8 for part in range(1, 8)} | {len(data) - 12, 20}):
            yield {"file": name, "bytes": keep, "sha256": opens(data[:keep])}


def write_nlvr(folder, out):
    names = sorted(path.name for path in folder.glob("*.png"))[::200][:8]
    hashes = {name: decoded((folder / name).read_bytes()) for name in names}
    (out / "nlvr.json").write_text(json.dumps(hashes, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "data" / "image")
    parser.add_argument("--nlvr", type=Path, help="folder of NLVR images to hash as well")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    arguments.out.mkdir(parents=True, exist_ok=True)
    files = dict(raw_pngs()) | dict(pillow_files())
    for name, data in files.items():
        (arguments.out / name).write_bytes(data)
    source = Image.open(io.BytesIO(files["rgb.png"])).convert("RGB")
    golden = {
        "versions": {"pillow": PIL.__version__, "transformers": transformers.__version__,
                     "libjpeg_turbo": PIL.features.version("libjpeg_turbo"),
                     "webp": PIL.features.version("webp")},
        "decoded": {name: decoded(data) for name, data in files.items()},
        "resized": list(resized(source)),
        "preprocessed": list(preprocessed(source)),
        "truncated": list(truncated(files)),
    }
    (arguments.out / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    if arguments.nlvr:
        write_nlvr(arguments.nlvr, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
