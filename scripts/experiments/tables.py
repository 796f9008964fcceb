"""Markdown tables."""

import numpy as np


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def small(value):
    return "-" if value is None else f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"


def signed(value):
    return f"{value:+.2f}"


def changed(values, digits):
    """Relative changes in percent: their mean, and how many are below 0."""
    return f"{100 * np.mean(values):+.{digits}f} % ({sum(value < 0 for value in values)}/{len(values)})"


def marked(value, ends):
    """With its interval; bold where that excludes 0."""
    text = f"{small(value)} {between(ends)}"
    return f"**{text}**" if ends[0] > 0 or ends[1] < 0 else text


def between(ends, form=small):
    return f"[{form(ends[0])}, {form(ends[1])}]"
