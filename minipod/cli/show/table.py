"""Columns as kubectl prints them (layer 6): Go's elastic tab stops. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from minipod.terminal import escaped

MIN_WIDTH = 6  # of a column with its padding (cli-runtime printers.GetNewTabWriter)


def table(rows: Sequence[Sequence[object]], widths: list[int] | None = None, padding: int = 3) -> str:
    """Rows as aligned lines; the last column is not padded. `widths` remembers between calls (a watch)."""
    widths = widths if widths is not None else []
    lines = []
    texts = [[_cell(str(cell)) for cell in row] for row in rows]
    for row in texts:
        for index, cell in enumerate(row):
            if index == len(widths):
                widths.append(0)
            widths[index] = max(widths[index], len(cell))
    for row in texts:
        cells = [cell.ljust(max(widths[index] + padding, MIN_WIDTH)) for index, cell in enumerate(row[:-1])]
        lines.append("".join(cells) + row[-1] + "\n" if row else "\n")
    return "".join(lines)


def _cell(text: str) -> str:
    """One line of it, as kubectl prints it (cli-runtime, printers/tableprinter.go: printRows)."""
    if text.isprintable():
        return text
    first = min((place for mark in "\f\n\r" if (place := text.find(mark)) >= 0), default=-1)
    return escaped(text if first < 0 else f"{text[:first]}...")


def tabbed(text: str, padding: int = 2) -> str:
    """Text with tab-terminated cells, aligned as Go's text/tabwriter does (`kubectl describe`).

    A column is a run of consecutive lines that have a cell there; text after a line's last tab is in no column.
    """
    lines = [line.split("\t") for line in text.split("\n")]
    output = [""] * len(lines)
    _align(lines, output, 0, len(lines), 0, padding)
    return "\n".join(output)


def _align(lines: list[list[str]], output: list[str], start: int, end: int, column: int, padding: int) -> None:
    index = start
    while index < end:
        cells = lines[index]
        if column >= len(cells) - 1:
            output[index] += cells[column] if column < len(cells) else ""
            index += 1
            continue
        block = index
        while block < end and column < len(lines[block]) - 1:
            block += 1
        width = max(len(lines[i][column]) for i in range(index, block))
        width += padding
        for i in range(index, block):
            output[i] += lines[i][column].ljust(width)
        _align(lines, output, index, block, column + 1, padding)
        index = block
