"""`python -m tests.fuzz TARGET --seconds N`: search for input that breaks a target's promise.

Guided by coverage of our code and of aioquic's, from seeds that our own encoders make. An input that breaks
it is printed, and the exit status is not 0; put it into the target's `found` with the fix. Without a target
it lists them. Needs atheris, which has wheels for some versions of Python only.
"""

import argparse
import logging
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-untyped,unused-ignore]
import structlog

MEMORY_MIB = 1024
"""Resident memory at which a target is taken to hold too much: one link alone has far less."""

SLOWEST_S = 20
"""The longest that one input may take, on a machine that is busy with something else."""

INSTRUMENTED = ["nano", "services.addresspool", "services.gateway", "services.scheduler", "aioquic"]


def main() -> None:
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - what is imported here is watched

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument(
        "--seed", type=int, default=0, help="the same seed, the same search; 0: another each time"
    )
    given = parser.parse_args()
    if given.target is None:
        sys.stdout.write("".join(f"{name}\n" for name in sorted(TARGETS)))
        return
    target = TARGETS[given.target]
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory(prefix="nano-fuzz-") as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate((*target.seeds(), *target.found)):
            (corpus / str(number)).write_bytes(seed)
        options = {
            "max_total_time": given.seconds,
            "seed": given.seed,
            "max_len": target.longest_bytes,
            "rss_limit_mb": MEMORY_MIB,
            "timeout": SLOWEST_S,
            "artifact_prefix": f"{folder}/",
            "print_final_stats": 1,
        }
        flags = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *flags, str(corpus)], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
