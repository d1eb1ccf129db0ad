"""Units, container file and the guide that uses them: what they name exists."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from layer1.cli import app

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "packaging/systemd/layer1@.service"
CONTAINER = ROOT / "packaging/container/Containerfile"
GUIDE = ROOT / "docs/operating.md"


def options_of(verb: str) -> set[str]:
    command = getattr(get_command(app), "commands")[verb]  # noqa: B009 - typer's own type does not say so
    return {option for parameter in command.params for option in parameter.opts}


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are as they are
    parser.read_string(UNIT.read_text())
    return parser


def test_the_unit_starts_a_replica_and_starts_it_again_only_after_a_failure() -> None:
    service = unit()["Service"]
    program, verb, *rest = service["ExecStart"].split()
    assert Path(program).name == "layer1"
    assert {word for word in rest if word.startswith("--")} <= options_of(verb)
    assert rest[-1] == "/var/lib/layer1/%i" == service["ReadWritePaths"]
    assert (service["Restart"], service["KillSignal"]) == ("on-failure", "SIGTERM")
    assert service["ExecReload"].endswith("-HUP $MAINPID"), "certificates are loaded again"
    assert service["User"] != "root" and service["UMask"] == "0077"
    assert int(unit()["Unit"]["StartLimitBurst"]) > 0, "what stops by itself is not started for ever"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """By `systemd-analyze verify` where it is; the parts that matter were read above in any case."""
    program = shutil.which("systemd-analyze")
    if program is None:
        assert set(unit().sections()) == {"Unit", "Service", "Install"}
        return
    text = re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text())
    copy = tmp_path / "layer1@.service"
    copy.write_text(text.replace("User=layer1\nGroup=layer1", "User=root\nGroup=root"))
    done = _verify(program, copy)
    assert "layer1@" not in done, done
    copy.write_text(text.replace("Restart=on-failure", "Restart=now and then"))
    assert "now and then" in _verify(program, copy), "it finds what is wrong"


def _verify(program: str, path: Path) -> str:
    instance = path.with_name("layer1@replica-0.service")
    instance.write_text(path.read_text())
    command = [program, "verify", "--man=no", "--recursive-errors=no", str(instance)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


def test_the_container_file_copies_what_exists_and_runs_verbs_that_exist() -> None:
    text = CONTAINER.read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    copied = [words.split()[:-1] for kind, words in lines if kind == "COPY" and "--from" not in words]
    assert all((ROOT / name).exists() for names in copied for name in names)
    packages = re.findall(r'"(\w+)\*"', (ROOT / "pyproject.toml").read_text())
    assert {name for names in copied for name in names} >= {*packages, "requirements.lock", "pyproject.toml"}
    assert "--require-hashes" in text, "packages are those of the lock"
    for words in re.findall(r"\[([^\]]*layer1\"[^\]]*)\]", text):
        program, verb, *rest = re.findall(r'"([^"]*)"', words)
        assert Path(program).name == "layer1"
        assert {word for word in rest if word.startswith("--")} <= options_of(verb)
    kinds = [kind for kind, _ in lines]
    assert kinds.index("USER") > kinds.index("RUN")
    assert {"VOLUME", "HEALTHCHECK", "ENTRYPOINT", "STOPSIGNAL"} <= set(kinds)


def test_every_verb_option_and_file_that_the_guide_names_exists() -> None:
    text = GUIDE.read_text()
    verbs = set(getattr(get_command(app), "commands"))  # noqa: B009 - as above
    commands = re.findall(r"layer1 ([a-z]+)([^\n`|]*)", text)
    named = [(verb, rest) for verb, rest in commands if verb in verbs]
    assert {verb for verb, _ in named} >= {
        "verify",
        "reset",
        "export",
        "inspect",
        "status",
        "start",
        "version",
        "config",
    }
    for verb, rest in named:
        assert set(re.findall(r"--[a-z-]+", rest)) <= options_of(verb), (verb, rest)
    assert all((GUIDE.parent / link).exists() for link in re.findall(r"\]\(([\w/.@-]+)\)", text))


@pytest.mark.parametrize("broken", ["layer1 verify --gently DIR", "[x](../packaging/none.json)"])
def test_a_guide_that_names_what_is_not_there_would_be_noticed(broken: str, tmp_path: Path) -> None:
    other = ROOT / "docs" / "operating.md"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "read_text", lambda _: f"{other.read_bytes().decode()}\n{broken}\n")
        with pytest.raises(AssertionError):
            test_every_verb_option_and_file_that_the_guide_names_exists()
