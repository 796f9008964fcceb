"""Vision warm-up: what lies where, learned patch by patch before the decoder joins.

A decoder of twelve fresh layers passes so little gradient on to fresh vision layers that
shapes stay unseen for long. Here the vision tower and the projector answer directly:
for every patch the colour and the kind of the shape whose box covers most of it, and
for clothing its class. The linear probes that read the answers are thrown away.
"""

import numpy as np
import torch
import torch.nn.functional as F

from .model import IMAGE_SIZE, PATCH
from .scenes import COLORS, SCENE_SIZE, SHAPES, SINGLE_SIZE, scene, single_scene
from .tasks import FASHION_CLASSES, normalise, squeeze

SIDE = IMAGE_SIZE // PATCH
BACKGROUND = 0
LEAST_COVER = 0.1
GROUPS = (len(COLORS) + 1, len(SHAPES) + 1, len(FASHION_CLASSES))
IGNORED = -100


def make_probes(width):
    return torch.nn.Linear(width, sum(GROUPS))


def patch_cover(center, size, scale):
    """Share of each of the SIDE patches along one axis that an interval covers."""
    edges = np.arange(SIDE + 1)
    low, high = (center - size / 2) * scale, (center + size / 2) * scale
    return np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, 1)


def patch_labels(shapes, size):
    """(colour, kind) numbers of every patch, BACKGROUND where no box covers it."""
    scale = SIDE / size
    covers = [
        np.outer(patch_cover(s.y, s.height, scale), patch_cover(s.x, s.width, scale))
        for s in shapes
    ]
    covers = np.stack([np.full((SIDE, SIDE), LEAST_COVER), *covers])
    colors = np.array([BACKGROUND] + [1 + list(COLORS).index(s.color) for s in shapes])
    kinds = np.array([BACKGROUND] + [1 + SHAPES.index(s.kind) for s in shapes])
    owner = covers.argmax(0).ravel()
    return colors[owner], kinds[owner]


def sample(rng, fashion):
    """(pixels, patch colours, patch kinds, clothing class) of one picture."""
    draw = rng.random()
    nothing = np.full(SIDE * SIDE, IGNORED)
    if fashion is not None and draw < 0.12:
        pixels, label = fashion.labelled(rng)
        return pixels, nothing, nothing, label
    several = draw < 0.4
    image, shapes = scene(rng) if several else single_scene(rng)
    return squeeze(image), *patch_labels(shapes, SCENE_SIZE if several else SINGLE_SIZE), IGNORED


def batch(rng, fashion, count):
    pixels, colors, kinds, clothing = zip(*(sample(rng, fashion) for _ in range(count)))
    return (
        normalise(pixels),
        torch.tensor(np.stack(colors)),
        torch.tensor(np.stack(kinds)),
        torch.tensor(clothing),
    )


def loss_and_accuracy(features, probes, labels):
    """Sum of the three losses, and the share of shape patches whose kind is right."""
    colors, kinds, clothing = labels
    features = features.float()
    color_logits, kind_logits, _ = probes(features).split(GROUPS, dim=-1)
    clothing_logits = probes(features.mean(1)).split(GROUPS, dim=-1)[2]
    loss = patch_loss(color_logits, colors) + 2 * patch_loss(kind_logits, kinds)
    if (clothing != IGNORED).any():
        loss = loss + 0.2 * F.cross_entropy(clothing_logits, clothing, ignore_index=IGNORED)
    shown = kinds > BACKGROUND
    right = (kind_logits.argmax(-1) == kinds)[shown].float().mean()
    return loss, right.item()


def patch_loss(logits, labels):
    # Most patches are background and easy; at full weight they would drown the rest.
    weight = torch.ones(logits.shape[-1])
    weight[BACKGROUND] = 0.1
    return F.cross_entropy(logits.flatten(0, -2), labels.flatten(), weight, ignore_index=IGNORED)
