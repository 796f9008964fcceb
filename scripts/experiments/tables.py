"""Markdown tables."""


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def small(value):
    return "-" if value is None else f"{value:.4g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.2e}"


def signed(value):
    return f"{value:+.2f}"


def between(ends, form=small):
    return f"[{form(ends[0])}, {form(ends[1])}]"
