"""Debian's packages that the guest is made of: which, in what version, and their files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nano.fleet.tools import Progress, run_tool
from nano.model.errors import Unsupported

KERNEL = "linux-image-cloud-amd64"
"""Debian's kernel for virtual machines; this name depends on the one package that has it."""
AGENT = "qemu-guest-agent"
_STRONG_ONLY = tuple(
    f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
)


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str

    @property
    def file_pattern(self) -> str:
        """How apt names the downloaded file, whatever its architecture."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_*.deb"


def guest_packages(say: Progress) -> list[Package]:
    """What the guest is made of, in the versions that apt would install now."""
    needs = dependencies(_apt_depends(say))
    kernel = next((name for name in needs.get(KERNEL, []) if name.startswith("linux-image-")), None)
    if kernel is None:
        raise Unsupported(
            f"apt names no kernel for {KERNEL}: the guest needs Debian on amd64", subject=KERNEL
        )
    names = ["busybox-static", AGENT, *libraries(needs, AGENT), kernel]
    versions = package_versions(run_tool("apt-cache", "show", "--no-all-versions", *names))
    return [Package(name, versions[name]) for name in names]


def _apt_depends(say: Progress) -> str:
    command = ("apt-cache", "depends", "--recurse", *_STRONG_ONLY, AGENT, KERNEL)
    try:
        return run_tool(*command)
    except Unsupported:  # a machine that has thrown its lists away knows no package
        say("reading Debian's lists of packages (apt-get update)")
        run_tool("apt-get", "-qq", "update")
        return run_tool(*command)


def dependencies(shown: str) -> dict[str, list[str]]:
    """What each package needs, out of what `apt-cache depends --recurse` prints."""
    needs: dict[str, list[str]] = {}
    current: list[str] = []
    for line in shown.splitlines():
        if match := re.match(r"^(\S+)$", line):
            current = needs.setdefault(match[1], [])
        elif match := re.match(r"^ [ |](?:Pre)?Depends: (\S+)$", line):
            current.append(match[1])
    return needs


def libraries(needs: Mapping[str, list[str]], package: str) -> list[str]:
    """The packages of shared libraries that `package` needs, directly or not.

    Only names that begin with `lib` are followed: what else a package wants (init scripts, perl) has no place
    in the guest.
    """
    found: list[str] = []
    waiting = [package]
    while waiting:
        for name in needs.get(waiting.pop(), []):
            if name.startswith("lib") and name not in found:
                found.append(name)
                waiting.append(name)
    return sorted(found)


def package_versions(shown: str) -> dict[str, str]:
    """Version by name, out of what `apt-cache show` prints; the first stanza of a name wins."""
    versions: dict[str, str] = {}
    for stanza in shown.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if re.match(r"^\w[\w-]*: ", line))
        if "Package" in fields:
            versions.setdefault(fields["Package"], fields["Version"])
    return versions


def fetch(packages: list[Package], folder: Path, say: Progress) -> list[Path]:
    """The packages' files in `folder`, downloaded by apt where absent."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [package for package in packages if not list(folder.glob(package.file_pattern))]
    if missing:
        say(f"fetching {len(missing)} Debian packages for the guest")
        wanted = [f"{package.name}={package.version}" for package in missing]
        run_tool("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *wanted, folder=folder)
    return [next(folder.glob(package.file_pattern)) for package in packages]
