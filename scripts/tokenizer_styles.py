"""Small tokenizers in the styles that models use, and strings to try them on.

For check_tokenizer.py and make_text_goldens.py. Each style is a tokenizer.json as a dict; the vocabulary is trained
here, everything around it is as in the published files of the models named.
"""

import json
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

MARK = "\u2581"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

SAMPLE = """The quick brown fox jumps over the lazy dog. It's 7 o'clock; they'll have 1,234.56 items, won't they?
What is on the table? A red cup, two blue plates and a cat. USER: <image> ASSISTANT: There are three of them.
def main(argv):\n    for i in range(10):\n\t\tprint(f"{i:>4}", end="\\r\\n")  # tabs and spaces\n    return None
Der Fu\u00dfg\u00e4nger \u00fcberquert die Stra\u00dfe. \u00c7a va tr\u00e8s bien, merci. \u00bfD\u00f3nde est\u00e1 el ni\u00f1o?
\u0411\u044b\u0441\u0442\u0440\u0430\u044f \u043b\u0438\u0441\u0430 \u043f\u0440\u044b\u0433\u0430\u0435\u0442. \u0397 \u03b1\u03bb\u03b5\u03c0\u03bf\u03cd \u03c4\u03c1\u03ad\u03c7\u03b5\u03b9.
\u5feb\u901f\u7684\u68d5\u8272\u72d0\u72f8\u8df3\u8fc7\u4e86\u61d2\u72d7\u3002\u65e5\u672c\u8a9e\u306e\u30c6\u30b9\u30c8\u3067\u3059\u3002\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4.
\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0644\u063a\u0629. \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd. \u0939\u093f\u0928\u094d\u0926\u0940 \u092d\u093e\u0937\u093e. \u0e20\u0e32\u0e29\u0e32\u0e44\u0e17\u0e22
\U0001f600\U0001f680 \U0001f468\u200d\U0001f469\u200d\U0001f467 e\u0301 a\u0308 \u00bd \u2167 \u0663\u0664
"""

PIECES = [
    "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|end|>", "<image>",
    "<|begin_of_text|>", "<tool_call>", "[NOTE]", "<0x41>", "<0xE2>", "<|im_", "|>", "<s", "<mask>", "\u00e9t\u00e9",
    "\n\n", "Hello", " world", "it's", "IT'S", "we'Ve", "'\u017f", "12345", "3.14159", "\u0661\u0662\u0663", "\u00bd\u00b2",
    "\r\n", "\n", "\r", "\t", " ", "  ", "     ", "\u00a0", "\u3000", "\u2003", "\u180e", "\u0085", "\u2028", "\x0b", "\x1c",
    "\x00", "\x07", "\x1b[0m", "\x7f", "\u200b", "\u200d", "\u200c", "\ufeff", "\ufffd", "\ufffe", "\u00c3\u00a9", MARK, MARK * 2,
    "\u0120", "\u010a", "\u0142\u0119", "e\u0301", "o\u0302\u0323", "\u0344", "\u212b", "\u1100\u1161\u11a8", "\ufb01", "\u0958",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466", "\U0001f44d\U0001f3fd", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f",
    "\u4f60\u597d", "\u3053\u3093", "\uc548\ub155", "\u041f\u0440\u0438", "\u0e2a\u0e27", "\u0928\u092e\u0938\u094d\u0924\u0947", "\u0645\u0631\u062d\u0628\u0627",
    "\U00020000", "\U0002ebf0", "\U00031350", "\u1c89", "\U0001d54f", "\U0010ffff", "\ue000", "_", "a_b", "x" * 40, "!?" * 9,
]  # fmt: skip


def training_text() -> list[str]:
    lines = [line for line in SAMPLE.splitlines(keepends=True) if line]
    rng = random.Random(5)
    words = SAMPLE.split(" ")
    return lines * 3 + [" ".join(rng.choices(words, k=12)) for _ in range(60)]


def train(splitter, size: int, alphabet=(), extra=()) -> tuple[dict, list]:
    """Vocabulary and merges of a BPE model; `extra` tokens come first."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    trainer = trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=list(alphabet), special_tokens=list(extra), show_progress=False
    )
    tokenizer.train_from_iterator(training_text(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], model["merges"]


def added(content: str, number: int, special=True, **flags) -> dict:
    token = dict(id=number, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False)
    return token | {"special": special} | flags


def document(vocab, merges, **parts) -> dict:
    model = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None)
    model |= dict(end_of_word_suffix=None, fuse_unk=False, byte_fallback=False, ignore_merges=False)
    model |= parts.pop("model", {}) | {"vocab": vocab, "merges": merges}
    empty = dict(version="1.0", truncation=None, padding=None, added_tokens=[], normalizer=None)
    empty |= dict(pre_tokenizer=None, post_processor=None, decoder=None)
    return empty | parts | {"model": model}


def byte_level(size=900, **options) -> dict:
    """The part of a byte-level document that all such styles share."""
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocab, merges = train(splitter, size, pre_tokenizers.ByteLevel.alphabet())
    byte = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    return document(vocab, merges, **({"pre_tokenizer": byte, "decoder": byte} | options))


def split_bytes(pattern: str) -> dict:
    byte = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=False)
    split = dict(type="Split", pattern={"Regex": pattern}, behavior="Isolated", invert=False)
    return dict(type="Sequence", pretokenizers=[split, byte])


def template(before: dict[str, int], after: dict[str, int] | None = None) -> dict:
    after = after or {}
    single = [{"SpecialToken": {"id": t, "type_id": 0}} for t in before]
    single += [{"Sequence": {"id": "A", "type_id": 0}}]
    single += [{"SpecialToken": {"id": t, "type_id": 0}} for t in after]
    specials = {t: dict(id=t, ids=[i], tokens=[t]) for t, i in (before | after).items()}
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return dict(type="TemplateProcessing", single=single, pair=pair, special_tokens=specials)


def sentencepiece(**options) -> dict:
    """The part of a document with space marks and byte fallback that all such styles share."""
    first = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    vocab, merges = train(pre_tokenizers.Metaspace(), 1100, extra=first)
    for n in (1, 2, 4):  # runs of spaces, as in Llama's vocabulary
        vocab.setdefault(MARK * n * 2, len(vocab))
        merges.append([MARK * n, MARK * n])
    replace = dict(type="Replace", pattern={"String": " "}, content=MARK)
    decoders = [dict(type="Replace", pattern={"String": MARK}, content=" "), {"type": "ByteFallback"}]
    decoders += [{"type": "Fuse"}, dict(type="Strip", content=" ", start=1, stop=0)]
    parts = dict(
        added_tokens=[added(t, i) for i, t in enumerate(first[:3])],
        normalizer=dict(type="Sequence", normalizers=[dict(type="Prepend", prepend=MARK), replace]),
        post_processor=template({"<s>": 1}),
        decoder=dict(type="Sequence", decoders=decoders),
        model=dict(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
    )
    return document(vocab, merges, **(parts | options))


def add(style: dict, content: str, **flags) -> None:
    taken = style["model"]["vocab"].keys() | {t["content"] for t in style["added_tokens"]}
    style["added_tokens"].append(added(content, len(taken), **flags))


def llama2() -> dict:
    return sentencepiece()


def llama2_metaspace() -> dict:
    space = dict(type="Metaspace", replacement=MARK, prepend_scheme="first", split=False)
    style = sentencepiece(normalizer=None, pre_tokenizer=space)
    style["model"]["merges"] = [" ".join(pair) for pair in style["model"]["merges"]]  # the older form
    return style


def phi3() -> dict:
    style = sentencepiece()
    style["added_tokens"][2] |= dict(rstrip=True, special=False)
    for token in ["<|endoftext|>", "<|user|>", "<|end|>", "<|assistant|>", "<image>"]:
        add(style, token, rstrip=token not in ("<|endoftext|>", "<image>"))
    return style


def gemma() -> dict:
    style = sentencepiece(
        normalizer=dict(type="Replace", pattern={"String": " "}, content=MARK),
        pre_tokenizer=dict(
            type="Split", pattern={"String": " "}, behavior="MergedWithPrevious", invert=False
        ),
    )
    style["decoder"]["decoders"].pop()
    add(style, "\n\n", special=False)
    add(style, "<mask>", special=True)
    return style


def qwen() -> dict:
    style = byte_level(pre_tokenizer=split_bytes(QWEN), normalizer={"type": "NFC"})
    style["post_processor"] = dict(
        type="ByteLevel", add_prefix_space=False, trim_offsets=False, use_regex=False
    )
    for token in ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]:
        add(style, token)
    add(style, "<tool_call>", special=False)
    return style


def llama3() -> dict:
    style = byte_level(pre_tokenizer=split_bytes(LLAMA3), model={"ignore_merges": True})
    add(style, "<|begin_of_text|>")
    number = style["added_tokens"][0]["id"]
    byte = dict(type="ByteLevel", add_prefix_space=True, trim_offsets=False, use_regex=True)
    post = [byte, template({"<|begin_of_text|>": number})]
    style["post_processor"] = dict(type="Sequence", processors=post)
    # A token that no merge makes, which ignore_merges finds all the same.
    style["model"]["vocab"]["\u0120worldwide"] = number
    style["added_tokens"][0]["id"] += 1
    post[1]["special_tokens"]["<|begin_of_text|>"]["ids"] = [number + 1]
    return style


def gpt4o() -> dict:
    return byte_level(pre_tokenizer=split_bytes(GPT4O))


def smolvlm() -> dict:
    byte = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    digits = dict(type="Digits", individual_digits=True)
    style = byte_level(pre_tokenizer=dict(type="Sequence", pretokenizers=[digits, byte]))
    for token in ["<|im_start|>", "<|im_end|>", "<image>"]:
        add(style, token)
    return style


def flags() -> dict:
    """Every flag of added tokens, in a byte-level tokenizer with a space in front."""
    byte = dict(type="ByteLevel", add_prefix_space=True, trim_offsets=True, use_regex=True)
    style = byte_level(pre_tokenizer=byte, decoder=byte, normalizer={"type": "NFC"})
    add(style, "<mask>", lstrip=True)
    add(style, "[NOTE]", special=False, normalized=True, rstrip=True)
    add(style, "world", special=False, single_word=True)
    add(style, "\u00e9t\u00e9", special=False, normalized=True, single_word=True)
    add(style, "<s>", lstrip=True, rstrip=True)
    add(style, "  ", special=False)
    return style


def pieces() -> dict:
    """The behaviours of Split, one after the other, on characters without byte fallback."""
    space = dict(type="Metaspace", replacement=MARK, prepend_scheme="always", split=True)
    splits = [
        dict(type="Digits", individual_digits=False),
        dict(type="Split", pattern={"String": "."}, behavior="MergedWithNext", invert=False),
        dict(type="Split", pattern={"Regex": r"[!?]"}, behavior="Contiguous", invert=False),
        dict(type="Split", pattern={"Regex": r"[,;]+"}, behavior="Removed", invert=False),
        dict(type="Split", pattern={"Regex": r"\w+|\W"}, behavior="MergedWithPrevious", invert=True),
        space,
    ]
    vocab, merges = train(pre_tokenizers.Metaspace(), 500, extra=["<unk>"])
    strip = dict(type="Strip", strip_left=True, strip_right=True)
    digits = dict(type="Replace", pattern={"Regex": r"\p{Nd}{3}"}, content="#")
    style = document(
        vocab,
        merges,
        normalizer=dict(type="Sequence", normalizers=[strip, {"type": "NFC"}, digits]),
        pre_tokenizer=dict(type="Sequence", pretokenizers=splits),
        decoder=dict(type="Metaspace", replacement=MARK, prepend_scheme="always", split=True),
        model=dict(unk_token="<unk>"),
    )
    add(style, "<s>")
    style["post_processor"] = template({}, {"<s>": style["added_tokens"][0]["id"]})
    return style


def plain() -> dict:
    """No decoder, no pre-tokenizer, unknown characters fused."""
    vocab, merges = train(pre_tokenizers.Whitespace(), 400, extra=["<unk>"])
    return document(vocab, merges, model=dict(unk_token="<unk>", fuse_unk=True))


STYLES = [llama2, llama2_metaspace, phi3, gemma, qwen, llama3, gpt4o, smolvlm, flags, pieces, plain]


def random_strings(count: int, seed: int) -> list[str]:
    """Strings that look for trouble, with the empty one among them."""
    rng = random.Random(seed)
    words = SAMPLE.split()
    ranges = [(0, 0x250), (0x300, 0x530), (0x900, 0x1200), (0x1E00, 0x3100), (0x4E00, 0x5000)]
    ranges += [(0xA700, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x2FFFF), (0x1F300, 0x1FAFF)]
    strings = [""]
    while len(strings) < count:
        parts = []
        for _ in range(rng.choice([1, 2, 3, 5, 8, 13])):
            kind = rng.random()
            if kind < 0.35:
                parts.append(rng.choice(PIECES))
            elif kind < 0.6:
                parts.append(rng.choice(words))
            elif kind < 0.7:
                parts.append(rng.choice(" \t\n\r" + MARK) * rng.randint(1, 12))
            elif kind < 0.75:
                parts.append(rng.choice("ab \u00e9\u4e2d\U0001f600") * rng.choice([2, 7, 60, 300]))
            elif kind < 0.9:
                low, high = rng.choice(ranges)
                parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 4))))
            else:
                parts.append(" ")
        strings.append("".join(parts))
    return strings


def random_ids(tokenizer: Tokenizer, count: int, seed: int) -> list[list[int]]:
    """Ids as no text gives them; bytes and special tokens are more frequent than among all tokens."""
    rng = random.Random(seed)
    known = sorted(tokenizer.get_vocab(with_added_tokens=True).values())
    short = [i for i in known if len(tokenizer.id_to_token(i)) == 1]
    short += [i for i in known if tokenizer.id_to_token(i).startswith("<")]
    choose = lambda: rng.choice(short if short and rng.random() < 0.5 else known)  # noqa: E731
    return [[choose() for _ in range(rng.randint(0, 20))] for _ in range(count)]
