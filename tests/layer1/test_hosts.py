"""One folder for each host: what is in it, what is not, and what is refused before anything is made."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from layer1.cli import app
from layer1.config import Address, load_config, read_genesis, read_key
from layer1.crypto import SigningKey
from layer1.errors import Refused
from layer1.hosts import parse_host
from tests.guide import HOSTS_GUIDE, listed, steps
from tests.test_packaging import options_of

KEY, OTHER = (SigningKey(bytes([i]) * 32).public.hex() for i in (1, 2))
THREE = ["--host", "ada=10.0.0.1", "--host", "bob=[FD00:0::2]:8000", "--host", "cleo=Cleo.Example.org.:8000:443"]


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "240"})
    return result.exit_code, result.output


def answer(*arguments: str | Path) -> dict[str, Any]:
    code, text = run(*arguments, "--json")
    assert code == 0, text
    found: dict[str, Any] = json.loads(text)
    return found


def test_each_folder_is_the_whole_home_of_one_host(tmp_path: Path) -> None:
    told = answer("init", tmp_path / "l", *THREE, "--name", "town")
    genesis = read_genesis(tmp_path / "l/genesis.json")
    assert [row["name"] for row in told["hosts"]] == ["ada", "bob", "cleo"]
    assert told["homes"] == [str(tmp_path / "l" / name) for name in ("ada", "bob", "cleo")]
    assert (genesis.name, genesis.chain_id.hex()) == ("town", told["chain_id"])
    places = {"ada": ("10.0.0.1:7000", "10.0.0.1:7001"), "bob": ("[fd00::2]:8000", "[fd00::2]:8001"),
              "cleo": ("cleo.example.org:8000", "cleo.example.org:443")}  # fmt: skip
    for row in told["hosts"]:
        config = load_config(tmp_path / "l" / row["name"])
        assert read_key(config.key).public.hex() == row["key"] == genesis.replicas[row["replica"]].hex()
        assert read_genesis(config.genesis) == genesis
        assert (str(config.link), str(config.api)) == places[row["name"]] == (row["link"], row["api"])
        peers = {(peer.key.hex(), str(peer.link), peer.api) for peer in config.peers}
        others = [other for other in told["hosts"] if other is not row]
        assert peers == {(other["key"], other["link"], f"http://{other['api']}") for other in others}
        readme = (config.home / "README.txt").read_text()
        assert len(readme.splitlines()) == 3
        assert row["name"] in readme and row["key"] in readme and told["chain_id"] in readme


def test_no_folder_holds_another_hosts_secret_and_nobody_else_may_look(tmp_path: Path) -> None:
    told = answer("init", tmp_path / "l", *THREE)
    seeds = {row["name"]: read_key(tmp_path / "l" / row["name"] / "key").seed() for row in told["hosts"]}
    assert len(set(seeds.values())) == 3
    found = set()
    for path in (tmp_path / "l").rglob("*"):
        folder = path.relative_to(tmp_path / "l").parts[0]
        if folder in seeds:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path
        content = path.read_bytes() if path.is_file() else b""
        found |= {(folder, owner) for owner, seed in seeds.items() if seed in content or seed.hex().encode() in content}
    assert found == {(name, name) for name in seeds}


def test_whoever_makes_the_ledger_need_see_no_secret(tmp_path: Path) -> None:
    """`layer1 key` at each operator, and only public keys at the founder, by option or in the file."""
    keys = {name: answer("key", tmp_path / name)["key"] for name in ("ada", "bob")}
    hosts = tmp_path / "hosts.txt"
    hosts.write_text(f"# ours\n\nada=10.0.0.1 {keys['ada'].upper()}  # in the cellar\nbob=10.0.0.2\n")
    told = answer("init", tmp_path / "l", "--hosts", hosts, "--key", f"bob={keys['bob']}", "--host", "cleo=10.0.0.3")
    assert {row["name"]: row["has_secret"] for row in told["hosts"]} == {"ada": False, "bob": False, "cleo": True}
    for name, key in keys.items():
        home = tmp_path / "l" / name
        assert not (home / "key").exists()
        (tmp_path / name).rename(home / "key")
        assert answer("inspect", home)["key"] == {"public": key, "in_genesis": True}


def test_a_key_is_made_once_and_shown_again(tmp_path: Path) -> None:
    made = answer("key", tmp_path / "k")
    assert (tmp_path / "k").stat().st_mode & 0o777 == 0o600
    assert answer("key", tmp_path / "k") == {**made, "made": False}
    code, text = run("key", tmp_path / "k")
    assert code == 0 and made["key"] in text
    assert (tmp_path / "k").read_text().strip() not in text
    code, text = run("key", tmp_path / "nowhere/k")
    assert code == 1 and "cannot write" in text


def test_people_are_shown_a_table_and_what_to_do_next(tmp_path: Path) -> None:
    code, text = run("init", tmp_path / "l", *THREE, "--key", f"bob={KEY}")
    assert code == 0
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert "[fd00::2]:8000" in rows["bob"] and KEY in rows["bob"] and "on the host" in rows["bob"]
    assert str(tmp_path / "l/ada/key") in rows["ada"]
    assert "docs/hosts.md" in text and "layer1 start" in text


REFUSED = {
    "no address": (["ada"], "ada"),
    "nothing": (["ada="], "ada"),
    "no name": (["=10.0.0.1"], "no name"),
    "a path for a name": (["../ada=10.0.0.1"], "../ada"),
    "an option for a name": (["-ada=10.0.0.1"], "-ada"),
    "no address at all": (["ada=10.0.0.300"], "10.0.0.300"),
    "a URL": (["ada=http://10.0.0.1"], "ada=http"),
    "quotes": (['ada=x".org'], "ada"),
    "a line feed": (["ada=x.org\n"], "ada"),
    "bare IPv6": (["ada=fd00::1"], "brackets"),
    "a zone": (["ada=[fe80::1%eth0]"], "ada"),
    "all addresses": (["ada=0.0.0.0"], "ada"),
    "many addresses": (["ada=[ff02::1]"], "ada"),
    "no such port": (["ada=10.0.0.1:65536"], "65536"),
    "port 0": (["ada=10.0.0.1:0"], "port 0"),
    "no port behind it": (["ada=10.0.0.1:65535"], "65536"),
    "one name": (["ada=10.0.0.1", "ada=10.0.0.2"], "ada and ada"),
    "one name on some disks": (["ada=10.0.0.1", "Ada=10.0.0.2"], "ada and Ada"),
    "one address": (["ada=10.0.0.1", "bob=10.0.0.1"], "ada for links and by bob for links"),
    "one address, written otherwise": (["ada=[fd00::1]", "bob=[FD00:0::1]"], "ada for links and by bob for links"),
    "one name of the DNS": (["ada=a.org", "bob=A.org."], "ada for links and by bob for links"),
    "a link at another's API": (["ada=10.0.0.1", "bob=10.0.0.1:7001"], "ada for the API and by bob for links"),
    "both at one port": (["ada=10.0.0.1:7000:7000"], "ada for links and by ada for the API"),
    "out of reach": (["ada=10.0.0.1", "bob=127.0.0.1"], "bob"),
}


@pytest.mark.parametrize(("hosts", "told"), REFUSED.values(), ids=REFUSED.keys())
def test_bad_and_double_hosts_are_refused_by_name(tmp_path: Path, hosts: list[str], told: str) -> None:
    options = [word for host in [*hosts, "zoe=10.9.9.9"] for word in ("--host", host)]
    code, text = run("init", tmp_path / "l", *options, "--json")
    error = json.loads(text)["error"]
    assert code == 1 and error["code"] in {"bad_host", "host_twice"}
    assert told in error["message"]
    assert not (tmp_path / "l").exists()


BAD_KEYS = {
    "no host": ([f"zoe={KEY}"], "zoe"),
    "no name": ([KEY], "NAME=PUBLICKEY"),
    "no key": (["ada=12"], "ada: '12'"),
    "two keys": ([f"ada={KEY}", f"ada={OTHER}"], "ada is given two keys"),
    "one key for two": ([f"ada={KEY}", f"bob={KEY.upper()}"], "ada and bob have one key"),
}


@pytest.mark.parametrize(("keys", "told"), BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_bad_and_double_keys_are_refused_by_name(tmp_path: Path, keys: list[str], told: str) -> None:
    code, text = run("init", tmp_path / "l", *THREE, *(word for key in keys for word in ("--key", key)), "--json")
    error = json.loads(text)["error"]
    assert code == 1 and error["code"] in {"bad_key", "key_twice"}
    assert told in error["message"]
    assert not (tmp_path / "l").exists()


FILES = {
    "a bad line": ("ada=10.0.0.1\n\nbob\n", "line 3: 'bob'"),
    "a bad key": ("ada=10.0.0.1 12\n", "line 1: '12'"),
    "too many words": (f"ada=10.0.0.1 {KEY} {OTHER}\n", "line 1 has 3 words"),
    "nothing": ("# ada=10.0.0.1\n", "names no host"),
    "too many hosts": ("".join(f"h{i}=10.0.{i}.1\n" for i in range(101)), "101 hosts"),
    "no text": ("\udcff", "cannot be read"),
}


@pytest.mark.parametrize(("content", "told"), FILES.values(), ids=FILES.keys())
def test_a_bad_file_of_hosts_is_refused_by_its_line(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "f").write_bytes(content.encode("utf-8", "surrogateescape"))
    code, text = run("init", tmp_path / "l", "--hosts", tmp_path / "f", "--json")
    assert code == 1
    assert told in json.loads(text)["error"]["message"]
    assert not (tmp_path / "l").exists()


def test_as_many_replicas_as_hosts(tmp_path: Path) -> None:
    code, text = run("init", tmp_path / "l", *THREE, "--replicas", "4")
    assert code == 1 and "--replicas 4" in text and "3 hosts" in text
    assert not (tmp_path / "l").exists()
    assert len(answer("init", tmp_path / "l", *THREE, "--replicas", "3", "--fault-model", "omission")["hosts"]) == 3


def test_nothing_that_is_there_is_touched(tmp_path: Path) -> None:
    (tmp_path / "l/bob").mkdir(parents=True)
    code, text = run("init", tmp_path / "l", *THREE)
    assert code == 1 and "l/bob is there already" in text
    assert [path.name for path in (tmp_path / "l").iterdir()] == ["bob"]
    answer("init", tmp_path / "m", *THREE)
    code, text = run("init", tmp_path / "m", "--host", "dan=10.0.0.1")
    assert code == 1 and "genesis.json is there already" in text


def test_one_address_alone_is_for_all_replicas_of_one_machine(tmp_path: Path) -> None:
    answer("init", tmp_path / "l", "--host", "10.0.0.9")
    assert load_config(tmp_path / "l/replica-3").link == Address("10.0.0.9", 7006)


def test_hosts_may_have_names_of_the_dns_and_ports_of_their_own() -> None:
    assert parse_host("a_B-1=localhost:1:2", 7000).api == Address("localhost", 2)
    with pytest.raises(Refused, match="is no host"):
        parse_host("ada=10.0.0.1:1:2:3", 7000)


# ----------------------------------------------------------------------------------------------------------- the guide


def test_the_guide_turns_on_https(tmp_path: Path) -> None:
    """Its own commands, on a folder that init made: tables that nobody looks for would change nothing."""
    answer("init", tmp_path / "ada-home", "--host", "ada=10.0.0.1", "--host", "bob=10.0.0.2", "--base-port", "7000")
    home = tmp_path / "ada-home/ada"
    (script,) = [commands for where, commands in steps() if where.endswith("for HTTPS")]
    edit = script.partition("\nlayer1")[0].replace("/var/lib/layer1/ada", str(home))
    subprocess.run(["sh", "-ec", edit], check=True)
    config = load_config(home)
    assert (config.http.certificate, config.http.key, config.key) == (home / "api.pem", home / "api.key", home / "key")
    assert config.url == "https://10.0.0.1:7001"
    assert [peer.api for peer in config.peers] == ["https://10.0.0.2:7001"]


def test_every_step_of_the_guide_says_where_it_is_done() -> None:
    places = [where for where, _ in steps()]
    known = {
        "on each host",
        "on each host, here ada",
        "at the founder",
        "anywhere",
        "on each host, here ada, for HTTPS",
    }
    assert set(places) == known
    assert HOSTS_GUIDE.read_text().count("```") == 2 * (len(places) + 1), "no block escapes the tests"
    assert len(listed()) == 7


def test_every_option_and_file_that_the_guide_names_exists() -> None:
    text = HOSTS_GUIDE.read_text()
    named = re.findall(r"layer1 (init|key|start|status|inspect|config|version)\b([^\n`|]*)", text)
    assert {verb for verb, _ in named} >= {"init", "key", "status", "inspect", "config", "version"}
    for verb, rest in named:
        assert set(re.findall(r"--[a-z-]+", rest)) <= {*options_of(verb), "--help"}, (verb, rest)
    assert all((HOSTS_GUIDE.parent / link).exists() for link in re.findall(r"\]\(([\w/.@-]+)\)", text))
