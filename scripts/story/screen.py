"""What the reader of the story sees."""

import os
import sys
import textwrap

WIDTH = 108
_colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def _paint(text, code):
    return f"\033[{code}m{text}\033[0m" if _colour else text


def bold(text):
    return _paint(text, "1")


def green(text):
    return _paint(text, "32")


def red(text):
    return _paint(text, "31")


def faint(text):
    return _paint(text, "2")


def say(text="", indent=0):
    for line in _wrap(text, WIDTH - indent) or [""]:
        print(" " * indent + line, flush=True)


def _wrap(text, width):
    return textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)


def title(text):
    print(f"\n{bold(text)}\n{faint('-' * len(text))}", flush=True)


def quote(text, indent=4, wrap=False):
    """What a program printed, as it is, but for its long lines where `wrap` says so."""
    for line in text.rstrip("\n").splitlines():
        for part in _wrap(line, WIDTH - indent) if wrap else [line]:
            print(" " * indent + faint("| ") + part, flush=True)


def table(head, rows, indent=2):
    """`rows` are lists of text; a cell may be (text, paint)."""
    def text(cell):
        return cell[0] if isinstance(cell, tuple) else cell

    widths = [max(len(text(row[i])) for row in [head, *rows]) for i in range(len(head))]
    print()
    for row in [head, *rows]:
        cells = []
        for cell, width in zip(row, widths):
            padded = text(cell).ljust(width)
            cells.append(bold(padded) if row is head else cell[1](padded) if isinstance(cell, tuple) else padded)
        print((" " * indent + "  ".join(cells)).rstrip(), flush=True)
    print()
