"""The commands of a guide, for tests that run them as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

HOSTS_GUIDE = Path(__file__).parent.parent / "docs/hosts.md"


def steps(guide: Path = HOSTS_GUIDE) -> list[tuple[str, str]]:
    """Each block of commands: where it is to be run, which its first line says, and the commands."""
    return re.findall(r"(?ms)^```sh\n# ([^\n]*)\n(.*?)^```", guide.read_text())


def listed(guide: Path = HOSTS_GUIDE) -> dict[str, str]:
    """The hosts of the guide's list: name and address."""
    (block,) = re.findall(r"(?ms)^```text\n(.*?)^```", guide.read_text())
    return dict(line.split("=") for line in block.splitlines())
