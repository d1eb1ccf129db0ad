"""The whole path in one minute: a ledger, a channel, a killed leader, a close, and a stale report that fails.

Everything runs for real: four replica processes, wallets as commands of their own, real keys, synced disks. Each line
that starts with ``$`` is a command that you can type, and what follows is what it printed.

Run it: ``make demo``, or ``python -m examples.demo --keep`` to look at the files afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn

from rich.console import Console
from rich.table import Table

from wallet.life import Life

BIN = Path(sys.executable).parent
FUNDED = 1_000_00
"""Minor units that each wallet has from genesis: 1,000.00."""
PAYMENTS_EACH_WAY = 600
CHALLENGE_S = 8

out = Console(highlight=False, soft_wrap=True)


class Stage:
    """One run of the demo: its folder, its processes, and how it runs and prints a command."""

    def __init__(self, folder: Path, background: ExitStack) -> None:
        self.folder = folder
        self.background = background
        self.apis: list[str] = []
        """Arguments that name two replicas to ``layer1 status``, which finds the others through them."""
        self.replicas: list[Any] = []
        """What the ready file says of each."""
        self.environment = os.environ | {
            "WALLET_PASSPHRASE": secrets.token_urlsafe(16),
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "COLUMNS": str(max(80, out.width)),
            "NO_COLOR": "1",
        }

    def show(self, *command: str, home: str | None = None) -> str:
        """Run a command, print it and its output, and return that; stop the demo if it fails."""
        self._print(command, home)
        done = self._run(command, home, merge=True)
        out.print(done.stdout.rstrip(), markup=False)
        if done.returncode:
            fail(f"{shlex.join(command)} ended with {done.returncode}")
        return done.stdout

    def ask(self, *command: str, home: str | None = None) -> Any:
        """Run a command with ``--json`` and return what it says, without printing."""
        done = self._run((*command, "--json"), home, merge=False)
        if done.returncode:
            fail(f"{shlex.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def start(self, *command: str, home: str | None = None) -> subprocess.Popen[str]:
        """Start a command in the background; it is stopped at the end of the demo."""
        self._print((*command, "&"), home)
        log = self.background.enter_context((self.folder / f"{command[0]}-{home or 'ledger'}.log").open("w"))
        process = subprocess.Popen(
            command, env=self._environment(home), cwd=self.folder, stdout=log, stderr=subprocess.STDOUT, text=True
        )
        self.background.callback(stop, process)
        return process

    def _run(self, command: tuple[str, ...], home: str | None, *, merge: bool) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=self._environment(home),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )

    def _environment(self, home: str | None) -> dict[str, str]:
        return self.environment | ({"WALLET_HOME": home} if home else {})

    def _print(self, command: tuple[str, ...], home: str | None) -> None:
        prefix = f"WALLET_HOME={home} " if home else ""
        line = " ".join(part if part == "&" else shlex.quote(part) for part in command)
        out.print(f"\n$ {prefix}{line}", style="bold cyan", markup=False)


def say(text: str) -> None:
    """A line of explanation between commands."""
    out.print(f"\n# {text}", style="green", markup=False)


def fail(text: str) -> NoReturn:
    """End the demo with an explanation."""
    out.print(f"\nThe demo stopped: {text}", style="bold red", markup=False)
    raise SystemExit(1)


def stop(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and wait."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition: Any, what: str, timeout_s: float = 30) -> Any:
    """Poll until `condition()` gives something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    return fail(f"waited {timeout_s:.0f} s for {what}")


@contextmanager
def stage(keep: bool) -> Iterator[Stage]:
    """A fresh folder, and the end of all processes whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix="wedge-demo-"))
    try:
        with ExitStack() as background:
            yield Stage(folder, background)
    finally:
        if keep:
            out.print(f"\nKept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run the demo from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep the folder with all homes, journals and logs")
    arguments = parser.parse_args()
    began = time.monotonic()
    with stage(arguments.keep) as act:
        addresses = make_wallets(act)
        start_ledger(act, addresses)
        contact = serve_wallets(act)
        pay_through_a_channel(act, contact)
        fail_with_a_stale_report(act, contact)
        count_everything(act, addresses)
    out.print(f"\nAll of it took {time.monotonic() - began:.1f} s.")


def make_wallets(act: Stage) -> dict[str, str]:
    """Three wallets; returns the addresses of their spending accounts."""
    say("Three people make wallets. The phrase is shown once; it is all that is needed to make the keys again.")
    printed = act.show("wallet", "create", home="alice")
    made = {name: act.ask("wallet", "create", home=name) for name in ("bob", "mallory")}
    addresses = {name: str(view["address"]) for name, view in made.items()}
    return addresses | {"alice": printed.partition("spending")[2].split()[0]}


def start_ledger(act: Stage, addresses: dict[str, str]) -> None:
    """Four replica processes, and the wallets told of them."""
    say("A ledger of n = 4 replicas, each a process of its own; it forgives f = 1 of them anything.")
    allocations = [part for name in sorted(addresses) for part in ("--allocate", f"{addresses[name]}={FUNDED}")]
    act.start("layer1", "devnet", "ledger", "--replicas", "4", *allocations, "--ready-file", "ready.json")
    ready = act.folder / "ready.json"
    told = wait_for(lambda: ready.exists() and json.loads(ready.read_text()), "the ledger")
    act.replicas = told["replicas"]
    apis = [part for replica in act.replicas for part in ("--ledger", replica["api"])]
    for name in ("bob", "mallory"):
        act.ask("wallet", "connect", *apis, home=name)
    act.show("wallet", "connect", *apis, home="alice")
    act.apis = ["--api", act.replicas[-1]["api"], "--api", act.replicas[0]["api"]]
    act.show("layer1", "status", *act.apis)


def serve_wallets(act: Stage) -> str:
    """Alice and Bob listen, each behind a contact; returns Bob's."""
    say("Who wants to receive serves. Bob joins openings with up to 500.00 of his own, and signs nothing else unasked.")
    accept = ("--accept-deposit-up-to", "500.00", "--accept-bond-up-to", "50.00")
    act.start("wallet", "serve", *accept, "--min-challenge-period", f"{CHALLENGE_S}s", home="bob")
    act.start("wallet", "serve", home="alice")
    return [contact_of(act, name) for name in ("alice", "bob")][1]


def contact_of(act: Stage, name: str) -> str:
    """Where a serving wallet is reached, once it is."""
    view = wait_for(lambda: (found := act.ask("wallet", "show", home=name))["contact"] and found, f"{name} to serve")
    return str(view["contact"])


def pay_through_a_channel(act: Stage, contact: str) -> None:
    """Open, pay a thousand times both ways while the leader dies, close, and look at the proven balances."""
    say("Alice opens a channel to Bob with deposits from both: one transaction on layer 1 locks everything at once.")
    opening = ("--deposit", "200.00", "--peer-deposit", "100.00", "--bond", "10.00")
    act.show("wallet", "channel", "open", contact, *opening, "--challenge-period", f"{CHALLENGE_S}s", home="alice")
    channel: str = act.ask("wallet", "channel", "list", home="alice")["channels"][0]["id"]
    before = layer_1(act)
    say(f"{2 * PAYMENTS_EACH_WAY} payments both ways. Layer 1 is at height {before[0]}, with {before[1]} transactions.")
    count = ("--count", str(PAYMENTS_EACH_WAY))
    act.show("wallet", "pay", channel[:12], "0.25", *count, home="alice")
    say("In the middle, the replica that leads now is killed with SIGKILL. Nobody who pays will notice.")
    kill_leader(act)
    act.show("wallet", "pay", channel[:12], "0.10", *count, home="bob")
    after = layer_1(act)
    say(f"Layer 1 is at height {after[0]}, with {after[1]} transactions: no payment touched it.")
    if after[1] != before[1]:
        fail(f"layer 1 had {before[1]} transactions before the payments and has {after[1]} after them")
    act.show("wallet", "channel", "list", home="alice")
    say("They close together, with one replica dead: FINAL, signed by both, pays at once to both savings accounts.")
    act.show("wallet", "channel", "close", channel[:12], home="alice")
    for name in ("alice", "bob"):
        act.show("wallet", "show", home=name)


def kill_leader(act: Stage) -> None:
    """SIGKILL for the replica that leads the current view."""
    rows = act.ask("layer1", "status", *act.apis)["replicas"]
    leader = next(row["leader"] for row in rows if row["leader"] is not None)
    pid = act.replicas[leader]["pid"]
    out.print(f"\n$ kill -KILL {pid}   # replica {leader}", style="bold cyan", markup=False)
    os.kill(pid, signal.SIGKILL)
    act.show("layer1", "status", *act.apis)


def layer_1(act: Stage) -> tuple[int, int]:
    """Height of the most advanced replica, and how many transactions there are in all blocks up to it."""
    row = max(act.ask("layer1", "status", *act.apis)["replicas"], key=lambda row: int(row["height"] or 0))
    with urllib.request.urlopen(f"{row['api']}/blocks?limit=100") as answer:
        return row["height"], sum(item["transactions"] for item in json.load(answer)["items"])


def fail_with_a_stale_report(act: Stage, contact: str) -> None:
    """Mallory wedges with a copy of her wallet from before she paid."""
    say("Mallory opens a channel to Bob, and keeps a copy of her wallet from before she pays.")
    opening = ("--deposit", "150.00", "--bond", "25.00", "--challenge-period", f"{CHALLENGE_S}s")
    act.show("wallet", "channel", "open", contact, *opening, home="mallory")
    channel: str = act.ask("wallet", "channel", "list", home="mallory")["channels"][0]["id"]
    act.show("wallet", "pay", channel[:12], "1.00", home="mallory")
    out.print("\n$ cp -r mallory mallory-of-yesterday", style="bold cyan", markup=False)
    shutil.copytree(act.folder / "mallory", act.folder / "mallory-of-yesterday", ignore=_sockets)
    say("A copy knows that it is one, and would ask Bob before it claims anything: she forges its mark.")
    Life(act.folder / "mallory-of-yesterday").renew()
    act.show("wallet", "pay", channel[:12], "1.00", "--count", "120", home="mallory")
    say("She paid 121.00. Now the old copy claims that it was 1.00, and wedges the channel without asking Bob.")
    act.show("wallet", "channel", "close", channel[:12], "--force", home="mallory-of-yesterday")
    say("Bob does nothing. His wallet watches layer 1, reports the newer state, and layer 1 settles on that.")
    wait_for(lambda: state_of(act, "bob", channel) == "closed", "layer 1 to settle", CHALLENGE_S + 30)
    act.show("wallet", "channel", "show", channel[:12], home="bob")
    act.show("wallet", "history", "--limit", "4", home="bob")


def state_of(act: Stage, name: str, channel: str) -> str:
    """The state of one channel, as its wallet shows it."""
    return str(act.ask("wallet", "channel", "show", channel, home=name)["state"])


def _sockets(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if (Path(folder) / name).is_socket()}


def count_everything(act: Stage, addresses: dict[str, str]) -> None:
    """Every unit that genesis made is in somebody's proven account."""
    say("Every unit is accounted for: proven balances against what genesis made.")
    table = Table("wallet", "spending", "savings", "together")
    total = 0
    for name in sorted(addresses):
        view = act.ask("wallet", "show", home=name)
        spending, savings = int(view["spending"]["balance"]), int(view["savings"]["balance"])
        total += spending + savings
        table.add_row(name, money(spending), money(savings), money(spending + savings))
    supply = FUNDED * len(addresses)
    table.add_section()
    table.add_row("all", "", "", money(total))
    table.add_row("genesis", "", "", money(supply))
    out.print(table)
    if total != supply:
        fail(f"{money(total)} are proven, genesis made {money(supply)}")


def money(units: int) -> str:
    """Minor units with two decimals."""
    return f"{units // 100:,}.{units % 100:02}"


if __name__ == "__main__":
    main()
