"""Configuration files: every complaint names the key; secrets stay hidden."""

from __future__ import annotations

import json
import re
import stat
import tomllib
from dataclasses import dataclass, fields, replace
from ipaddress import ip_network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from layer1.config import (
    DATABASE_VARIABLE,
    NOT_IN_FILE,
    Address,
    HttpOptions,
    Peer,
    ReplicaConfig,
    load_config,
    read_genesis,
    read_key,
    write_key,
)
from layer1.config_format import example, format_config, is_table
from layer1.crypto import SigningKey
from layer1.docstrings import field_texts
from layer1.errors import LocalError
from layer1.httpd.rates import RateLimit
from tests.layer1.test_cli import invoke

KEY, OTHER = "0a" * 32, "0b" * 32
GOOD = f"""
link = "127.0.0.1:7000"
api = "127.0.0.1:7001"

[[peers]]
key = "{KEY}"
link = "[::1]:7002"
api = "http://127.0.0.1:7003"
"""


def load(home: Path, text: str) -> ReplicaConfig:
    (home / "replica.toml").write_text(text)
    return load_config(home)


def test_a_file_and_its_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.link == Address("127.0.0.1", 7000)
    assert config.peer(bytes.fromhex(KEY)) == Peer(b"\n" * 32, Address("::1", 7002), "http://127.0.0.1:7003")
    assert config.peer(bytes.fromhex(OTHER)) is None
    assert config.database_url == f"sqlite:///{tmp_path}/data/ledger.sqlite"
    assert config.journal == tmp_path / "data" / "journal"


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert load(tmp_path, format_config(config)) == config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("[[peers]]", "index = 0\n[[peers]]"), "index is no key any more: replicas are known by their keys"),
        (("key = ", "index = 1\nkey = "), r"peers\[0\].index is no key any more"),
        ((f'key = "{KEY}"', ""), r"peers\[0\].key is missing"),
        (('"0a0a', '"0a'), r"peers\[0\].key: '0a.*' is no public key; a key is 64 digits in hex"),
        (('"0a0a', '"0a x'), r"peers\[0\].key: '0a x.*' is no public key"),
        (
            ("[[peers]]", f'[[peers]]\nkey = "{KEY}"\nlink = "[::1]:1"\n[[peers]]'),
            r"peers\[1\].key is that of peers\[0\]",
        ),
        ((f'"{KEY}"', "1"), r"peers\[0\].key is 1; it must be of type str"),
        (('"127.0.0.1:7000"', '"127.0.0.1"'), "link: '127.0.0.1' is no address"),
        (('"127.0.0.1:7000"', '"127.0.0.1:70000"'), "link: .* port from 0 to 65535"),
        (('link = "[::1]:7002"', ""), r"peers\[0\].link is missing"),
        (("[[peers]]", "dat = 1\n[[peers]]"), "dat is not known"),
        (("[[peers]]", "peers = 3\n[[peers]]"), "read|peers"),
        (("[[peers]]", "[limits]\ntransactions = 0\n[[peers]]"), "limits.transactions is 0"),
        (("[[peers]]", "[limits]\nreserved = 60000\n[[peers]]"), "limits.reserved is 60000"),
        (("[[peers]]", "[limits]\nsize = 1\n[[peers]]"), "limits.size is not known"),
        (("[[peers]]", "[rate]\nburst = 0\n[[peers]]"), "rate.burst is 0, below 1"),
        (("[[peers]]", '[rate]\nburst = "9"\n[[peers]]'), "rate.burst is '9'; it must be of type int"),
        (("[[peers]]", "[rate]\nper_s = 1\n[[peers]]"), "rate.per_s is not known"),
        (("[[peers]]", '[rate]\nexempt = ["10.0.0.1/8"]\n[[peers]]'), "rate.exempt: 10.0.0.1/8 has host bits set"),
        (("[[peers]]", "[rate]\nexempt = [1]\n[[peers]]"), "rate.exempt: '1' does not appear"),
        (("[[peers]]", '[http]\ncertificate = "c"\n[[peers]]'), "http.certificate is given and http.key is not"),
        (("[[peers]]", '[http]\nkey = "k"\n[[peers]]'), "http.key is given and http.certificate is not"),
        (("[[peers]]", '[http]\nurl = "ledger.example"\n[[peers]]'), "http.url is 'ledger.example'; write a URL"),
        (("[[peers]]", '[http]\nmetrics = "9100"\n[[peers]]'), "http.metrics: '9100' is no address"),
        (("[[peers]]", "[http]\nmetrics = 9100\n[[peers]]"), "http.metrics is 9100; it must be of type str"),
        (("[[peers]]", '[http]\nmetrics = "127.0.0.1:7001"\n[[peers]]'), "http.metrics is 127.0.0.1:7001, and so is"),
        (("[[peers]]", '[http]\ntls = "c"\n[[peers]]'), "http.tls is not known"),
        (("[[peers]]", "[checkpoints]\nblocks = 0\n[[peers]]"), "checkpoints.blocks is 0"),
        (("[[peers]]", '[checkpoints]\nblocks = "many"\n[[peers]]'), "checkpoints.blocks is 'many'; .* type int"),
        (("[[peers]]", "[history]\nkeep_blocks = -1\n[[peers]]"), "history.keep_blocks is -1; write how many to keep"),
        (("[[peers]]", "[history]\nkeep_blocks = true\n[[peers]]"), "history.keep_blocks is True; .* type int"),
        (("[[peers]]", "[history]\nstart_from_snapshot = 1\n[[peers]]"), "history.start_from_snapshot is 1; .* bool"),
        (("[[peers]]", "[history]\nkeep = 1\n[[peers]]"), "history.keep is not known"),
        (("[[peers]]", '[log]\nformat = "xml"\n[[peers]]'), "log.format is 'xml'; write one of text, json"),
        (("[[peers]]", "[log]\nlevel = 3\n[[peers]]"), "log.level is 3; it must be of type str"),
        (("[[peers]]", "log = 3\n[[peers]]"), "log is 3; it must be of type dict"),
        (("[[peers]]", "data =\n[[peers]]"), "cannot be read"),
    ],
)
def test_complaints_name_the_key(tmp_path: Path, change: tuple[str, str], complaint: str) -> None:
    with pytest.raises(LocalError, match=complaint):
        load(tmp_path, GOOD.replace(*change, 1))


def test_http_and_rates_are_read(tmp_path: Path) -> None:
    http = '[http]\ncertificate = "c.pem"\nkey = "/etc/k.pem"\nmetrics = "[::1]:9100"\n'
    rate = '[rate]\nrequests_per_s = 5\nexempt = ["10.0.0.0/8"]\n'
    config = load(tmp_path, GOOD + http + rate)
    assert config.http == HttpOptions(tmp_path / "c.pem", Path("/etc/k.pem"), "", Address("::1", 9100))
    assert config.rate == RateLimit(requests_per_s=5, exempt=(ip_network("10.0.0.0/8"),))
    assert config.url == "https://127.0.0.1:7001"
    assert load(tmp_path, GOOD).url == "http://127.0.0.1:7001"
    assert load(tmp_path, GOOD + '[http]\nurl = "https://ledger.example/api/"').url == "https://ledger.example/api"


def uncommented(text: str) -> str:
    """With every default written out."""
    return re.sub(r"(?m)^# (?=\w+ = )", "", text)


def test_every_key_is_in_the_example_with_what_it_means() -> None:
    """ "One TOML file with every key documented": each field of each dataclass is a key, below its words."""
    text = example()
    lines = text.splitlines()
    config = load_config_text(text)
    tables: dict[str, tuple[type, Any]] = {"": (ReplicaConfig, config), "[[peers]]": (Peer, config.peers[0])}
    for item in fields(config):
        if is_table(getattr(config, item.name)):
            tables[f"[{item.name}]"] = (type(getattr(config, item.name)), getattr(config, item.name))
    assert {"[limits]", "[checkpoints]", "[history]", "[log]", "[disk]", "[http]", "[rate]"} <= tables.keys()
    for heading, (kind, value) in tables.items():
        start = lines.index(heading) if heading else 0
        for item in fields(value):
            if item.name in NOT_IN_FILE or item.name == "peers" or is_table(getattr(value, item.name)):
                continue
            place = next(i for i in range(start, len(lines)) if re.match(rf"(# )?{item.name} = ", lines[i]))
            words = field_texts(kind).get(item.name, "")
            assert len(words) > 10, f"{kind.__name__}.{item.name} says nothing beneath its field"
            assert lines[place - 1].startswith("## "), f"{heading} {item.name}"
            assert lines[place - 1].split()[-1] == words.replace("`", "").split()[-1]


def load_config_text(text: str) -> ReplicaConfig:
    with TemporaryDirectory() as home:
        return load(Path(home), text)


def test_the_example_is_a_configuration_and_so_is_it_with_all_defaults_written_out(tmp_path: Path) -> None:
    as_it_is, written_out = load(tmp_path, example()), uncommented(example())
    assert not re.search(r"(?m)^# \w+ =", written_out)
    assert "database_url" not in tomllib.loads(example())
    (tmp_path / "replica.toml").chmod(0o600)
    found = load(tmp_path, written_out)
    assert found.http.metrics == Address("127.0.0.1", 9100)
    assert replace(found, database_url="", machine="", http=HttpOptions()) == replace(as_it_is, database_url="")


def test_the_example_in_the_repository_is_that_of_this_release() -> None:
    """`layer1 config > packaging/replica.toml` after a key was added."""
    assert (Path(__file__).parents[2] / "packaging/replica.toml").read_text() == example()


def test_the_command_prints_the_example_and_checks_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert invoke(capfd, "config")[:2] == (0, example())
    assert json.loads(invoke(capfd, "config", "--json")[1]) == {"example": example()}
    load(tmp_path, GOOD)
    code, out, _ = invoke(capfd, "config", tmp_path)
    assert (code, "is sound: 1 peers" in out) == (0, True)
    (tmp_path / "replica.toml").write_text(GOOD + "\n[limits]\nbytes = 0\n")
    code, _, err = invoke(capfd, "config", tmp_path)
    assert (code, "limits.bytes is 0" in err) == (1, True)


def test_a_key_without_words_would_be_noticed() -> None:
    """A mutant of the dataclasses."""

    @dataclass(frozen=True)
    class Mutant:
        told: int = 1
        """In words."""
        silent: int = 2

    assert field_texts(Mutant) == {"told": "In words."}


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="layer1 init"):
        load_config(tmp_path)


def test_a_database_password_stays_out_of_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets have `repr=False`, and may come from the environment instead of the file."""
    monkeypatch.setenv(DATABASE_VARIABLE, "postgresql://ledger:secret@db/ledger")
    config = load(tmp_path, GOOD)
    assert config.database_url.endswith("secret@db/ledger")
    assert "secret" not in repr(config)


def test_a_file_with_a_database_password_is_private(tmp_path: Path) -> None:
    """Whoever reads it could change what this replica shows to others."""
    text = 'database_url = "postgresql://ledger:secret@db/ledger"\n' + GOOD
    (tmp_path / "replica.toml").touch(0o644)
    with pytest.raises(LocalError, match=r"mode 0644, others may read it.*chmod 600") as caught:
        load(tmp_path, text)
    assert "secret" not in str(caught.value)
    (tmp_path / "replica.toml").chmod(0o600)
    assert load(tmp_path, text).database_url.endswith("secret@db/ledger")
    (tmp_path / "replica.toml").chmod(0o644)
    load(tmp_path, 'database_url = "postgresql://ledger@/ledger?host=/run/postgresql"\n' + GOOD)


def test_a_wrong_kind_of_url_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="database_url is something else; it must be of type str") as caught:
        load(tmp_path, 'database_url = ["postgresql://ledger:secret@db/ledger"]\n' + GOOD)
    assert "secret" not in str(caught.value)


def test_a_key_file_is_private(tmp_path: Path) -> None:
    key, path = SigningKey.generate(), tmp_path / "key"
    write_key(path, key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path).public == key.public
    with pytest.raises(FileExistsError):
        write_key(path, key)
    path.chmod(0o640)
    with pytest.raises(LocalError, match="chmod 600"):
        read_key(path)


@pytest.mark.parametrize("text", ["", "zz", "00" * 31])
def test_a_damaged_key_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(LocalError, match="32 bytes"):
        read_key(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot be read"):
        read_key(tmp_path / "key")
    with pytest.raises(LocalError, match="not the genesis"):
        read_genesis(tmp_path / "genesis.json")
