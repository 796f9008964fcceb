#!/usr/bin/env python3
"""Writes src/text/unicode_additions.cc: the characters that the reference tokenizers know and PCRE2 does not.

PCRE2 10.42 has the character tables of Unicode 14, like Python 3.11's unicodedata; the regular expressions of
the `tokenizers` package (0.23.3) have newer ones. Run with Python 3.11 and that package installed.
"""

import pathlib
import unicodedata

from tokenizers import Regex, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cf".split()
HEADER = """// Written by scripts/make_unicode_additions.py; do not edit.
#include "text/unicode_additions.h"

namespace qvlm {
namespace {

constexpr UnicodeAddition kAdditions[] = {
"""
FOOTER = """};

}  // namespace

std::span<const UnicodeAddition> unicode_additions() { return kAdditions; }

}  // namespace qvlm
"""


def matching(pattern: str, characters: str) -> set[str]:
    splitter = pre_tokenizers.Split(Regex(pattern), "removed")
    kept = set()
    for begin in range(0, len(characters), 4096):
        for piece, _ in splitter.pre_tokenize_str(characters[begin : begin + 4096]):
            kept.update(piece)
    return set(characters) - kept


def main() -> None:
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    points = [p for p in range(0x110000) if unicodedata.category(chr(p)) == "Cn"]
    characters = "".join(map(chr, points))
    category = {c: name for name in CATEGORIES for c in matching(rf"\p{{{name}}}", characters)}
    han = matching(r"\p{Han}", characters)
    rows: list[list] = []
    for point in points:
        key = (category.get(chr(point)), chr(point) in han)
        if key[0] is None:
            continue
        if rows and rows[-1][1] == point - 1 and rows[-1][2] == key:
            rows[-1][1] = point
        else:
            rows.append([point, point, key])
    lines = [
        f"    {{0x{first:X}, 0x{last:X}, \"{name}\", {str(is_han).lower()}}},\n"
        for first, last, (name, is_han) in rows
    ]
    target = pathlib.Path(__file__).parent.parent / "src/text/unicode_additions.cc"
    target.write_text(HEADER + "".join(lines) + FOOTER)
    print(f"{len(category)} characters in {len(rows)} ranges -> {target}")


if __name__ == "__main__":
    main()
