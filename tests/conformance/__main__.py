"""`python -m tests.conformance`: run the table, say what is wrong; with `--write` put it into docs/."""

import sys

from tests.conformance.table import PAGE, observe, page


def main() -> int:
    observed = observe()
    flaws = [
        f"{row.section}: a peer {row.does}: {flaw}"
        for part in observed.values()
        for row, outcome in part
        if (flaw := row.flaw(outcome))
    ]
    text = page(observed)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        flaws.append(f"{PAGE} is not what the code does: run this with --write")
    sys.stdout.write("".join(f"{flaw}\n" for flaw in flaws))
    return 1 if flaws else 0


if __name__ == "__main__":
    raise SystemExit(main())
