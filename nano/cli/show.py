"""How things look in a terminal: tables for people, JSON for programs."""

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

_SIZE = re.compile(r"(?P<number>[0-9]{1,15}(\.[0-9]{1,6})?) ?(?P<unit>[KMGTPkmgtp]?)([iI]?[bB])?")
_PIPE_COLUMNS = 240
"""Into a file or a pipe a table is as wide as it needs."""
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(number: int) -> str:
    """Bytes for people: `34.0 MiB`."""
    value = float(number)
    for unit in _UNITS[:-1]:
        if value < 1024:
            return f"{number} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} {_UNITS[-1]}"


def moment(at_ms: int) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def parse_size(text: str) -> int:
    """Bytes of `512M`, `1.5GiB`, `1073741824`; ValueError when it is none. Units are powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    value = int(float(found["number"]) * 1024 ** " KMGTP".index((found["unit"] or " ").upper()))
    if value <= 0:
        raise ValueError(text)
    return value


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table, or a line that says there is nothing."""
    shown = Table(title=title, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:  # an id that is cut or folded cannot be copied
        shown.add_column(column, overflow="fold", no_wrap=column in {"ID", "OF", "NAME", "STATE"})
    for row in rows:
        shown.add_row(*(str(cell) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_COLUMNS)
    console.print(shown if shown.row_count else f"no {title}")


def document(data: Any) -> None:
    """JSON on standard output, indented, keys as they came."""
    print(msgspec.json.format(msgspec.json.encode(data), indent=2).decode())


def moving_bytes(label: str) -> tuple[Progress, Callable[[int, int], None]]:
    """A progress bar for bytes on standard error, and what moves it."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        console=Console(stderr=True),
    )
    row = bar.add_task(label, total=None)
    return bar, lambda moved, total: bar.update(row, completed=moved, total=total)
