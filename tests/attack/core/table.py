"""A table for a terminal: columns of limited width, long cells on several lines."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    """Lines separated by ` | `; a cell wider than its column goes on in the next line. A cell may have line breaks."""
    if len(headings) != len(widths) or any(len(row) != len(headings) for row in rows):
        raise ValueError(f"each row needs {len(headings)} cells, and each column a width")
    used = [
        min(width, max(_longest(row[column]) for row in [headings, *rows]))
        for column, width in enumerate(widths)
    ]
    lines = _row(headings, used)
    lines.append("-+-".join("-" * width for width in used))
    for row in rows:
        lines += _row(row, used)
    return "\n".join(lines)


def _longest(cell: str) -> int:
    return max((len(line) for line in cell.split("\n")), default=0)


def _row(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    columns = [_wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    height = max(len(column) for column in columns)
    lines = []
    for number in range(height):
        parts = [
            (column[number] if number < len(column) else "").ljust(width)
            for column, width in zip(columns, widths, strict=True)
        ]
        lines.append(" | ".join(parts).rstrip())
    return lines


def _wrap(cell: str, width: int) -> list[str]:
    lines: list[str] = []
    for line in cell.split("\n"):
        lines += textwrap.wrap(line, width) or [""]
    return lines
