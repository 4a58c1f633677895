"""All rows, what came of them, and the page that shows it: docs/conformance.md."""

from collections import Counter
from pathlib import Path

from tests.conformance import handshake_rows, http_rows, quic_rows
from tests.conformance.row import Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"

PARTS = {
    "QUIC": quic_rows.ROWS,
    "The handshake": handshake_rows.ROWS,
    "HTTP/3": http_rows.ROWS,
}

_HEAD = """# What a peer may not do

Each row was executed: a peer with the right keys and a certificate of the zone does to one of our links what
the row says, in memory (`tests/conformance/`), and the last column is what it got. This page is written by
`python -m tests.conformance --write`; a test fails when it differs from what the code does.

*connection* X: the connection is closed with the error X. *stream* X: the stream is reset with X, and the
link serves on. *ignored*: nothing happens, and the link serves on. Unless a row says otherwise, the peer is a
client and we are the server. Where an RFC leaves a choice, all that it allows stands in the third column.

{count} rows, {deviations} of them deviations.
"""


def observe() -> dict[str, list[tuple[Row, str]]]:
    """Run every row."""
    return {part: [(row, row.observe()) for row in rows] for part, rows in PARTS.items()}


def page(observed: dict[str, list[tuple[Row, str]]]) -> str:
    rows = [found for part in observed.values() for found in part]
    deviations = [(row, outcome) for row, outcome in rows if row.deviates]
    lines = [_HEAD.format(count=len(rows), deviations=len(deviations))]
    if deviations:
        lines += ["## Deviations\n"]
        lines += [f"- {row.section}: a peer {row.does}: {row.deviates}." for row, _ in deviations]
        lines += [""]
    for part, found in observed.items():
        sections = Counter(row.section.partition(",")[0] for row, _ in found)
        counted = ", ".join(f"{name} {count}" for name, count in sorted(sections.items()))
        lines += [f"## {part}\n", f"Rows: {counted}.\n"]
        lines += ["| where | the peer | it must get | it gets |", "|---|---|---|---|"]
        lines += [_line(row, outcome) for row, outcome in found]
        lines += [""]
    return "\n".join(lines)


def _line(row: Row, outcome: str) -> str:
    mark = " (deviates)" if row.deviates else ""
    return f"| {row.section} | {row.does} | {' or '.join(row.must)} | {outcome}{mark} |"
