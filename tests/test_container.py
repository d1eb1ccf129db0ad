"""What the container file says is done here step by step, without a container: a new environment, only what it copies.

Its directories are ones below a temporary one. The packages of the lock are those of the environment that runs the
tests, so that nothing is fetched: pip finds each of them there, in the version of the lock, or the step fails. Base,
user and volume are not tried by this.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from layer1.devnet import Plan, home_of, initialize

ROOT = Path(__file__).parent.parent
CONTAINER = ROOT / "packaging/container/Containerfile"


@dataclass
class Image:
    """A directory in the place of the container's root."""

    root: Path
    workdir: Path = Path("/")
    entrypoint: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    volume: str = ""

    def build(self, text: str) -> None:
        """Do what each line says."""
        for line in text.replace("\\\n", " ").splitlines():
            kind, _, words = line.partition(" ")
            if kind and not kind.startswith("#"):
                self._do(kind, words)

    def _do(self, kind: str, words: str) -> None:
        match kind:
            case "WORKDIR":
                self.workdir = Path(words)
                self._at(words).mkdir(parents=True)
            case "COPY" if "--from" not in words:
                *names, target = words.split()
                for name in names:
                    self._copy(ROOT / name, self._at(self.workdir / target))
            case "RUN" if not words.startswith("useradd"):
                for command in words.split("&&"):
                    self.run(shlex.split(command))
            case "ENTRYPOINT":
                self.entrypoint = json.loads(words)
            case "HEALTHCHECK":
                self.healthcheck = json.loads(words.partition("CMD")[2])
            case "VOLUME":
                self.volume = words
            case _:
                pass  # the base, the user, ports and signals

    def _at(self, path: str | Path) -> Path:
        return self.root / str(path).lstrip("/")

    def _copy(self, source: Path, target: Path) -> None:
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)

    def here(self, command: list[str]) -> list[str]:
        """The command with this directory's paths."""
        program, *rest = command
        program = sys.executable if program == "python" else str(self._at(program))
        return [program, *(str(self._at(word)) if word.startswith("/") else word for word in rest)]

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the one that runs the tests; nothing is fetched."""
        return {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}

    def run(self, command: list[str]) -> str:
        """Run it, in the working directory."""
        done = subprocess.run(
            self.here(command), cwd=self._at(self.workdir), env=self.environment, capture_output=True, text=True,
            timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        if command[:3] == ["python", "-m", "venv"]:
            self._lend_packages(self._at(command[3]))
        return done.stdout

    def _lend_packages(self, environment: Path) -> None:
        """Let the new environment find the packages of this one; not this project, whose link is in a file besides.

        What it brought along itself but pip would hide that of the lock.
        """
        (site,) = environment.glob("lib/python*/site-packages")
        for old in (*site.glob("setuptools*"), *site.glob("_distutils_hack"), *site.glob("pkg_resources")):
            shutil.rmtree(old)
        for old in site.glob("distutils-precedence.pth"):
            old.unlink()
        (site / "lent.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.timeout(240)
async def test_what_the_container_file_says_makes_a_replica_that_runs(tmp_path: Path) -> None:
    image = Image(tmp_path / "image")
    await asyncio.to_thread(image.build, CONTAINER.read_text())
    assert image.volume in image.entrypoint
    home = image._at(image.volume)
    initialize(tmp_path / "ledger", Plan(replicas=1, base_port=0))
    shutil.copytree(home_of(tmp_path / "ledger", 0), home)
    (place,) = json.loads(image.run(["/opt/layer1/bin/python", "-c", WHERE]))
    assert Path(place).is_relative_to(image.root), "the installed program, not the source"
    replica = await asyncio.create_subprocess_exec(
        *image.here(image.entrypoint), "--json", env=image.environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert replica.stdout is not None
        told = b""
        async with asyncio.timeout(30):
            while not told.rstrip().endswith(b"}"):
                told += await replica.stdout.read(4_096)
        api = f"http://127.0.0.1:{json.loads(told)['api']}"
        check = [api if word.startswith("http://") else word for word in image.here(image.healthcheck)]

        async def healthy() -> bool:
            asked = await asyncio.create_subprocess_exec(
                *check, env=image.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
            )
            await asked.communicate()
            return asked.returncode == 0

        assert await healthy(), "the container's own check is content"
    finally:
        replica.terminate()
        assert await replica.wait() == 0
    assert not await healthy()


WHERE = "import json, layer1; print(json.dumps([layer1.__file__]))"


@pytest.mark.slow
def test_a_container_file_that_copies_too_little_is_noticed(tmp_path: Path) -> None:
    """Without the lock, for speed."""
    text, image = CONTAINER.read_text(), Image(tmp_path)
    for line in (
        "COPY layer1 layer1\n",
        " && /opt/layer1/bin/pip install --no-cache-dir --require-hashes -r requirements.lock",
    ):
        assert line in text
        text = text.replace(line, "")
    image.build(text)
    with pytest.raises(AssertionError, match="No module named 'layer1'"):
        image.run(["/opt/layer1/bin/layer1", "version"])
