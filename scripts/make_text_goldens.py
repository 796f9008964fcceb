#!/usr/bin/env python3
"""Writes tests/data/text: small tokenizers with what the reference makes of strings and ids, and chat prompts.

Needs `tokenizers`, `transformers` and `jinja2`; the files name the versions they were made with.
"""

import json
import pathlib

import tokenizer_styles as styles
import tokenizers
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

FOLDER = pathlib.Path(__file__).parent.parent / "tests/data/text"
STYLES = ["llama2", "llama2_metaspace", "phi3", "gemma", "qwen", "llama3", "flags", "pieces", "plain"]
STRINGS = 300

# chat_template.json of llava-hf/llava-1.5-7b-hf.
LLAVA = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}"
    "{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
CHATS = [
    [("user", "What is on the table?", 1)],
    [("user", "Hello", 0)],
    [("user", "Which is larger?", 3)],
    [("system", "Answer in one word.", 0), ("user", "Is it red?", 1)],
    [("user", "First?", 1), ("assistant", "A cat.", 0), ("user", "And then?\nTell me.", 0)],
    [("user", "First?", 1), ("assistant", "A cat.", 0), ("user", "Second?", 2), ("assistant", " x ", 0), ("user", "?", 0)],
    [("user", "", 1)],
    [("user", " spaces kept  ", 0)],
    [("user", "\u00bfQu\u00e9 es {{ this }} {% if %}?", 1)],
    [],
]
# Bytes that are not UTF-8, and what the reference, which wants text, is given for them.
BROKEN = ["ff", "61ff62", "c3", "c328", "e282", "e28261", "e2288c", "f09f98", "f09f9861", "f0808080", "eda080", "c080"]
BROKEN += ["f4908080", "f880808080", "80", "bfbf", "e0809f", "c3a9c3", "f09f9880f09f", "00ff00", "efbfbd", "ed9fbf", "20e28120"]


def write_lines(name: str, head: dict, lists: dict[str, list]) -> None:
    """JSON with an element a line, so that a change shows what changed."""
    dump = lambda value: json.dumps(value, separators=(",", ":"))  # noqa: E731
    fields = [f"{dump(key)}: {dump(value)}" for key, value in head.items()]
    for key, items in lists.items():
        fields.append(f"{dump(key)}: [\n" + ",\n".join(map(dump, items)) + "\n]")
    (FOLDER / name).write_text("{\n" + ",\n".join(fields) + "\n}\n")
    print(name, (FOLDER / name).stat().st_size)


def write_style(name: str) -> None:
    document = getattr(styles, name)()
    reference = tokenizers.Tokenizer.from_str(json.dumps(document))
    strings = [s for s in styles.random_strings(STRINGS * 3, 11) if len(s) <= 60][:STRINGS]
    encoded = []
    for index, text in enumerate(strings):
        special = index % 3 > 0
        ids = reference.encode(text, add_special_tokens=special).ids
        encoded.append([special, text, ids, reference.decode(ids, skip_special_tokens=special)])
    decoded = []
    for ids in styles.random_ids(reference, STRINGS // 3, 12):
        decoded.append([ids, reference.decode(ids, skip_special_tokens=True)])
    head = {"made_with": f"tokenizers {tokenizers.__version__}", "tokenizer": document}
    # [add and skip special tokens, text, ids, text of the ids] and [ids, text without special tokens]
    write_lines(f"{name}.json", head, {"encode": encoded, "decode": decoded})


def write_chats() -> None:
    chats = []
    for chat in CHATS:
        messages = []
        for role, text, images in chat:
            content = [{"type": "text", "text": text}] if text else []
            messages.append({"role": role, "content": content + [{"type": "image"}] * images})
        rendered, _ = render_jinja_template(
            conversations=[messages], chat_template=LLAVA, add_generation_prompt=True
        )
        turns = [dict(role=role, text=text, images=images) for role, text, images in chat]
        chats.append({"turns": turns, "prompt": rendered[0]})
    write_lines("chat_llava.json", {"made_with": f"transformers {transformers.__version__}"}, {"chats": chats})


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in STYLES:
        write_style(name)
    write_chats()
    repaired = [[text, bytes.fromhex(text).decode("utf-8", "replace")] for text in BROKEN]
    write_lines("broken_utf8.json", {"made_with": "bytes.decode of Python 3.11"}, {"texts": repaired})


if __name__ == "__main__":
    main()
