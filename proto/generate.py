"""Makes `nano/contracts` from `proto/`: `python proto/generate.py`, or `--check` to only compare.

betterproto2's plug-in writes a package with files of its own around ours, so it works in a scratch folder and
the result is moved into place as a whole.
"""

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTRACTS = ROOT / "nano" / "contracts"


def generate(into: Path) -> None:
    """Runs protoc with betterproto2's plug-in; raises CalledProcessError when a contract is wrong."""
    sources = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            f"--proto_path={ROOT / 'proto'}",
            f"--python_betterproto2_out={into}",
            "--python_betterproto2_opt=client_generation=async,server_generation=async",
            *sources,
        ],
        check=True,
        env=environment,
    )


def differences(made: Path, kept: Path) -> list[str]:
    """The files that differ between a fresh generation and what is checked in."""
    names = {str(path.relative_to(base)) for base in (made, kept) for path in base.rglob("*.py")}
    return sorted(
        name
        for name in names
        if not ((made / name).is_file() and (kept / name).is_file())
        or not filecmp.cmp(made / name, kept / name, shallow=False)
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "contracts"
        made.mkdir()
        generate(made)
        if "--check" in sys.argv[1:]:
            stale = differences(made, CONTRACTS)
            if stale:
                sys.stderr.write(
                    f"contracts: not as proto/ makes them: {', '.join(stale)}; ./dev contracts\n"
                )
            return 1 if stale else 0
        shutil.rmtree(CONTRACTS, ignore_errors=True)
        shutil.copytree(made, CONTRACTS)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
