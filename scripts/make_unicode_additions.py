#!/usr/bin/env python3
"""Writes src/text/unicode_additions.cc: the characters that the reference tokenizers know and PCRE2 does not.

PCRE2 10.42 has the character tables of Unicode 14, like Python 3.11's unicodedata; the regular expressions of
the `tokenizers` package (0.23.3) have newer ones. Its normalizers have older ones: the second table lists the
characters that they leave where they stand. Run with Python 3.11 and that package installed.
"""

import pathlib
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cf".split()
HEADER = """// Written by scripts/make_unicode_additions.py; do not edit.
#include "text/unicode_additions.h"

namespace qvlm {
namespace {

constexpr UnicodeAddition kAdditions[] = {
"""
MIDDLE = """};

constexpr CharacterRange kUnknownToNfc[] = {
"""
FOOTER = """};

}  // namespace

std::span<const UnicodeAddition> unicode_additions() { return kAdditions; }
std::span<const CharacterRange> unknown_to_nfc() { return kUnknownToNfc; }

}  // namespace qvlm
"""


def matching(pattern: str, characters: str) -> set[str]:
    splitter = pre_tokenizers.Split(Regex(pattern), "removed")
    kept = set()
    for begin in range(0, len(characters), 4096):
        for piece, _ in splitter.pre_tokenize_str(characters[begin : begin + 4096]):
            kept.update(piece)
    return set(characters) - kept


def unknown_to_nfc() -> list[int]:
    """Characters that take part in normalization, of which the reference does not know that they do."""
    nfc, nfd = normalizers.NFC(), normalizers.NFD()

    def moves(point: int) -> bool:  # to before a mark of class 240
        return nfd.normalize_str("\u4e00\u0345" + chr(point)).endswith("\u0345")

    points = []
    for point in range(0x110000):
        if 0 < unicodedata.combining(chr(point)) < 240 and not unicodedata.decomposition(chr(point)):
            if not moves(point):
                points.append(point)
        decomposed = unicodedata.normalize("NFD", chr(point)) if not 0xD800 <= point < 0xE000 else ""
        if len(decomposed) == 2 and nfc.normalize_str(decomposed) != unicodedata.normalize("NFC", decomposed):
            points.append(ord(decomposed[1]))
    return sorted(set(points))


def ranges(points: list[int]) -> list[list[int]]:
    rows: list[list[int]] = []
    for point in points:
        if rows and rows[-1][1] == point - 1:
            rows[-1][1] = point
        else:
            rows.append([point, point])
    return rows


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
    unknown = [f"    {{0x{first:X}, 0x{last:X}}},\n" for first, last in ranges(unknown_to_nfc())]
    target.write_text(HEADER + "".join(lines) + MIDDLE + "".join(unknown) + FOOTER)
    print(f"{len(category)} characters in {len(rows)} ranges -> {target}")


if __name__ == "__main__":
    main()
