"""Trains the reference model's tokenizer: Llama-2 style BPE with byte fallback."""

import json

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

SPACE = "\u2581"
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
BYTES = [f"<0x{value:02X}>" for value in range(256)]
VOCABULARY = 2048
IMAGE_PROMPT = "USER: <image>"
QUESTION_PROMPT = "\n{question} ASSISTANT:"


def learn_merges(texts, words):
    """(vocabulary, merges) of a BPE whose merges never cross a word boundary.

    The saved tokenizer has no pre-tokenizer, as Llama-2's has none, so the boundaries
    that keep it from learning whole sentences exist here only.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(SPACE), "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIAL) - len(BYTES),
        min_frequency=2,
        show_progress=False,
    )
    # Repeating the answers makes each frequent enough to become one token.
    weighted = texts + [
        f" {word}" for word in words for _ in range(20 * len(texts) // len(words) + 2)
    ]
    tokenizer.train_from_iterator(weighted, trainer)
    learned = json.loads(tokenizer.to_str())["model"]
    return learned["vocab"], [tuple(merge) for merge in learned["merges"]]


def build_tokenizer(texts, words):
    """Fast tokenizer from sample texts (words led by a space) and one-word answers."""
    learned, merges = learn_merges(texts, words)
    pieces = SPECIAL + BYTES + sorted(learned, key=learned.get)
    pieces += [f"<unused{index}>" for index in range(VOCABULARY - len(pieces))]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}

    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
        )
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(SPACE, " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    tokenizer.add_special_tokens(SPECIAL)
    fast = wrap_tokenizer(tokenizer)
    for word in words:
        if len(fast.encode(word, add_special_tokens=False)) != 1:
            raise ValueError(f"the answer {word!r} is not one token")
    return fast


def wrap_tokenizer(tokenizer):
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
    )
