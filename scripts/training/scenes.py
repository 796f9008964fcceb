"""Seeded generator of plain scenes of coloured shapes with templated questions.

It needs only Pillow and numpy, so data sets can be exported without torch.
Colours, shapes and wording follow easy-VQA; a `single` scene imitates its pictures.
"""

from dataclasses import dataclass

from PIL import Image, ImageDraw

COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "teal": (0, 128, 128),
    "brown": (165, 42, 42),
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
}
SHAPES = ("circle", "rectangle", "triangle")
SCENE_SIZE = 192
SINGLE_SIZE = 64
SUPERSAMPLE = 4


@dataclass(frozen=True)
class Shape:
    kind: str
    color: str
    x: float
    y: float
    width: float
    height: float

    @property
    def name(self):
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class Question:
    text: str
    answer: str
    type: str


def yes_no(value):
    return "yes" if value else "no"


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def light_background(rng):
    return tuple(int(v) for v in rng.integers(229, 256, 3))


def draw(shapes, size, background):
    """Draws enlarged and shrinks, which gives the soft edges easy-VQA has."""
    scale = SUPERSAMPLE
    image = Image.new("RGB", (size * scale, size * scale), background)
    canvas = ImageDraw.Draw(image)
    for s in shapes:
        left, top = (s.x - s.width / 2) * scale, (s.y - s.height / 2) * scale
        right, bottom = (s.x + s.width / 2) * scale, (s.y + s.height / 2) * scale
        fill = COLORS[s.color]
        if s.kind == "circle":
            canvas.ellipse((left, top, right, bottom), fill=fill)
        elif s.kind == "rectangle":
            canvas.rectangle((left, top, right, bottom), fill=fill)
        else:
            middle = (left + right) / 2
            canvas.polygon(((middle, top), (left, bottom), (right, bottom)), fill=fill)
    return image.resize((size, size), Image.Resampling.BOX)


def make_shape(rng, x, y, size):
    kind = pick(rng, SHAPES)
    width, height = size, size
    if kind == "rectangle":
        width, height = size * rng.uniform(0.4, 1.0), size * rng.uniform(0.4, 1.0)
    elif kind == "triangle":
        height = size * 0.87
    return Shape(kind, pick(rng, list(COLORS)), float(x), float(y), float(width), float(height))


def single_scene(rng):
    """One shape, as in easy-VQA: anywhere on the picture, 8 to 32 pixels of 64."""
    size = rng.uniform(8, 32)
    x, y = rng.uniform(size / 2, SINGLE_SIZE - size / 2, 2)
    shapes = [make_shape(rng, x, y, size)]
    return draw(shapes, SINGLE_SIZE, light_background(rng)), shapes


def scene(rng, most=6):
    """One to `most` shapes on a jittered 3x3 grid, so that none overlap."""
    cell = SCENE_SIZE / 3
    shapes = []
    for slot in rng.permutation(9)[: int(rng.integers(1, most + 1))]:
        size = rng.uniform(0.45, 0.8) * cell
        slack = (cell - size) / 2
        x = (slot % 3 + 0.5) * cell + rng.uniform(-slack, slack)
        y = (slot // 3 + 0.5) * cell + rng.uniform(-slack, slack)
        shapes.append(make_shape(rng, x, y, size))
    return draw(shapes, SCENE_SIZE, light_background(rng)), shapes


def ask_exist(rng, shapes):
    wanted_yes = rng.random() < 0.5
    names = sorted({s.name for s in shapes})
    if wanted_yes:
        name = pick(rng, names)
    else:
        name = pick(rng, [f"{c} {k}" for c in COLORS for k in SHAPES if f"{c} {k}" not in names])
    return Question(f"is there a {name}?", yes_no(wanted_yes), "exist")


def ask_count(rng, shapes):
    if rng.random() < 0.5:
        kind = pick(rng, SHAPES)
        return Question(
            f"how many {kind}s are there?", str(sum(s.kind == kind for s in shapes)), "count"
        )
    if rng.random() < 0.5:
        return Question("how many shapes are there?", str(len(shapes)), "count")
    color = pick(rng, [s.color for s in shapes])
    return Question(
        f"how many {color} shapes are there?", str(sum(s.color == color for s in shapes)), "count"
    )


def ask_compare(rng, shapes):
    first, second = (SHAPES[i] for i in rng.permutation(len(SHAPES))[:2])
    counts = [sum(s.kind == kind for s in shapes) for kind in (first, second)]
    return Question(
        f"are there more {first}s than {second}s?", yes_no(counts[0] > counts[1]), "compare"
    )


def ask_color(rng, shapes):
    kinds = [s.kind for s in shapes]
    unique = [s for s in shapes if kinds.count(s.kind) == 1]
    if not unique:
        return None
    s = pick(rng, unique)
    return Question(f"what color is the {s.kind}?", s.color, "colour")


def ask_shape(rng, shapes):
    colors = [s.color for s in shapes]
    unique = [s for s in shapes if colors.count(s.color) == 1]
    if not unique:
        return None
    s = pick(rng, unique)
    return Question(f"what is the {s.color} shape?", s.kind, "shape")


def ask_relation(rng, shapes):
    names = [s.name for s in shapes]
    unique = [s for s in shapes if names.count(s.name) == 1]
    if len(unique) < 2:
        return None
    first, second = (unique[i] for i in rng.permutation(len(unique))[:2])
    # Pairs that are almost level on the asked axis would be a matter of opinion.
    margin = SCENE_SIZE / 12
    dx, dy = first.x - second.x, first.y - second.y
    if rng.random() < 0.5:
        word, distance = pick(rng, (("left of", -dx), ("right of", dx)))
    else:
        word, distance = pick(rng, (("above", -dy), ("below", dy)))
    if abs(distance) < margin:
        return None
    return Question(
        f"is the {first.name} {word} the {second.name}?", yes_no(distance > 0), "relation"
    )


ASKERS = (ask_exist, ask_count, ask_compare, ask_color, ask_shape, ask_relation)


def scene_questions(rng, shapes, count):
    """`count` different questions, their types in turn from a random start."""
    found = {}
    start = int(rng.integers(len(ASKERS)))
    for attempt in range(4 * count):
        question = ASKERS[(start + attempt) % len(ASKERS)](rng, shapes)
        if question is not None:
            found.setdefault(question.text, question)
        if len(found) == count:
            break
    return list(found.values())


WHAT_COLOR = (
    "what color is the shape?",
    "what is the color of the shape?",
    "what color is the {kind}?",
    "what is the color of the {kind}?",
)
WHAT_SHAPE = (
    "what shape is in the image?",
    "what shape does the image contain?",
    "what shape is present?",
    "what is the {color} shape?",
)
POSITIVE = (
    "is there a {thing}?",
    "is there a {thing} in the image?",
    "is a {thing} present?",
    "does the image contain a {thing}?",
)
NEGATIVE = (
    "is there not a {thing}?",
    "is there not a {thing} in the image?",
    "is no {thing} present?",
    "does the image not contain a {thing}?",
)


def single_question(rng, color, kind, type):
    """One easy-VQA style question about the only shape of a picture."""
    if type == "colour":
        return Question(pick(rng, WHAT_COLOR).format(kind=kind), color, type)
    if type == "shape":
        return Question(pick(rng, WHAT_SHAPE).format(color=color), kind, type)
    negative, present = rng.random() < 0.5, rng.random() < 0.5
    # easy-VQA asks for colours 2.6 times as often as for shapes.
    if rng.random() < 0.7:
        thing = f"{color if present else pick(rng, [c for c in COLORS if c != color])} shape"
    else:
        thing = kind if present else pick(rng, [k for k in SHAPES if k != kind])
    text = pick(rng, NEGATIVE if negative else POSITIVE).format(thing=thing)
    return Question(text, yes_no(present != negative), "yes-no")
