"""The command `layer1`: make a ledger, run its replicas, look at them.

Every verb has ``--json``. Exit codes: 0 done, 1 refused or failed (the text says what to do), 2 the command line is
wrong, 3 no replica answers, 4 the ledger is under attack (`layer1 light`), 130 interrupted.

Source: docs/design/architecture.md, "CLI".
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from layer1 import logs
from layer1.cli_evidence import evidence_app
from layer1.cli_faults import SMALLEST, FaultModelOption, ReplicasOption, tolerance, warning
from layer1.cli_hosts import HostsFileOption, HostsOption, KeysOption, init_hosts, several_hosts
from layer1.cli_hosts import register as register_hosts
from layer1.cli_light import light_app
from layer1.cli_operating import register as register_operating
from layer1.cli_replica import register as register_replica
from layer1.cli_snapshot import snapshot_app
from layer1.cli_status import register as register_status
from layer1.config import ReplicaConfig, load_config, name_of, secrets_of
from layer1.console import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    JSON_FLAG,
    JsonOption,
    cells,
    guarded,
    print_error,
    print_json,
    run_guarded,
)
from layer1.crypto import parse_address
from layer1.descriptors import raise_limit
from layer1.devnet import Devnet, Plan, home_of, initialize
from layer1.errors import Refused, StartAgain, WedgeError
from layer1.ledger.genesis import Allocation, Currency, Parameters

if TYPE_CHECKING:
    from layer1.replica.driver import Replica

app = typer.Typer(
    name="layer1",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Make a replicated ledger, run its replicas, and look at them.",
)

app.add_typer(evidence_app, name="evidence")
app.add_typer(light_app, name="light")
app.add_typer(snapshot_app, name="snapshot")
register_hosts(app)
register_operating(app)
register_replica(app)
register_status(app)

CurrencyOption = Annotated[str, typer.Option("--currency", help="Symbol, 2 to 8 capital letters.")]
DecimalsOption = Annotated[int, typer.Option("--decimals", min=0, max=8, help="Digits behind the point.")]
AllocateOption = Annotated[
    list[str] | None,
    typer.Option("--allocate", metavar="ADDRESS=UNITS", help="First balance of an account, minor units. Repeatable."),
]
HeartbeatOption = Annotated[int, typer.Option("--heartbeat-ms", min=1, help="An idle ledger makes a block this often.")]
MachineOption = Annotated[
    str,
    typer.Option("--machine", metavar="MODULE:ATTRIBUTE", help="A state machine of your own, for a new ledger to run."),
]
HostOption = Annotated[str, typer.Option("--host", help="Address to listen on.")]


@app.command(
    epilog="Example: layer1 init ledger --replicas 4 --base-port 7000 --allocate wedge1...=100000, "
    "then for each i: layer1 start --home ledger/replica-i. On a machine each: layer1 init ledger --host ada=10.0.0.1 "
    "--host bob=10.0.0.2 ..., and docs/hosts.md. Three machines in one's own racks, of which one may crash: "
    "layer1 init ledger --fault-model omission --replicas 3"
)
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New directory of the ledger.")],
    *,
    replicas: ReplicasOption = None,
    fault_model: FaultModelOption = "byzantine",
    name: Annotated[str, typer.Option("--name", help="The ledger's name.")] = "devnet",
    currency: CurrencyOption = "WDG",
    decimals: DecimalsOption = 2,
    allocate: AllocateOption = None,
    heartbeat_ms: HeartbeatOption = 10_000,
    min_challenge_ms: Annotated[int, typer.Option(help="Shortest challenge period of a group.")] = 1_000,
    host: HostsOption = None,
    hosts: HostsFileOption = None,
    key: KeysOption = None,
    base_port: Annotated[
        int, typer.Option(help="First of 2n ports in a row; with hosts, that of links on each.", max=65_000)
    ] = 7_000,
    machine: MachineOption = "",
    json: JsonOption = False,
) -> None:
    """Make keys, genesis and configurations for a new ledger, on this machine or with a folder for each host."""
    listen, several = guarded(lambda: several_hosts(host, hosts, key, replicas, base_port), json=json)
    parameters = _parameters(heartbeat_ms, min_challenge_ms)
    plan = Plan(
        replicas or SMALLEST[fault_model],
        name,
        Currency(currency, decimals),
        _allocations(allocate),
        parameters,
        fault_model,
        listen,
        base_port,
        machine,
    )
    if several:
        init_hosts(directory, plan, several, json=json)
        return
    genesis = guarded(lambda: initialize(directory, plan), json=json)
    if json:
        homes = [str(home_of(directory, i).resolve()) for i in range(plan.replicas)]
        print_json({"chain_id": genesis.chain_id.hex(), "genesis": str(directory / "genesis.json"), "homes": homes})
        return
    print(f"A ledger of {tolerance(plan.replicas, genesis.replica_set.faults, fault_model)} is in {directory}.")
    print(warning(fault_model), end="")
    print(f"Chain {genesis.chain_id.hex()}. Each home holds a secret key: give every operator only their own.")
    print(f"Next: layer1 start --home {home_of(directory, 0)}")


@app.command(epilog="Example: layer1 start --home ledger/replica-0")
def start(
    home: Annotated[Path, typer.Option("--home", help="The replica's home, made by `layer1 init`.")],
    rebuild: Annotated[
        bool,
        typer.Option("--rebuild", help="Pass over the checkpoint: execute all blocks anew, fetch what is missing."),
    ] = False,
    rejoin: Annotated[
        bool,
        typer.Option("--rejoin", help="The journal is lost, damaged or an old copy: ask the peers, begin a new one."),
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Log every refused peer and message: log.level = debug.")
    ] = False,
    under_devnet: Annotated[bool, typer.Option("--under-devnet", hidden=True)] = False,
    *,
    json: JsonOption = False,
) -> None:
    """Run one replica until it is interrupted."""
    config = guarded(lambda: load_config(home, reuse_port=under_devnet), json=json)
    logs.set_up(
        replace(config.log, level="debug") if verbose else config.log, secrets_of(config), replica=name_of(config)
    )
    run_guarded(_start(config, under_devnet, json, rebuild=rebuild, rejoin=rejoin), json=json)


@app.command(
    epilog="Example: layer1 devnet ledger --allocate wedge1...=100000 --ready-file ledger/ready.json. Interrupt it to "
    "stop all replicas; run it again to go on. With three replicas of which one may crash: layer1 devnet ledger "
    "--fault-model omission"
)
def devnet(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory of the ledger; made if it is not there.")],
    *,
    replicas: ReplicasOption = None,
    fault_model: FaultModelOption = "byzantine",
    currency: CurrencyOption = "WDG",
    decimals: DecimalsOption = 2,
    allocate: AllocateOption = None,
    heartbeat_ms: HeartbeatOption = 10_000,
    min_challenge_ms: Annotated[int, typer.Option(help="Shortest challenge period of a group.")] = 1_000,
    host: HostOption = "127.0.0.1",
    machine: MachineOption = "",
    ready_file: Annotated[Path | None, typer.Option(help="Write endpoints as JSON here once all answer.")] = None,
    json: JsonOption = False,
) -> None:
    """Run all replicas of a ledger on this machine, on free ports, until interrupted."""
    if not (directory / "genesis.json").exists():
        parameters = _parameters(heartbeat_ms, min_challenge_ms)
        money, allocations = Currency(currency, decimals), _allocations(allocate)
        count = replicas or SMALLEST[fault_model]
        plan = Plan(count, "devnet", money, allocations, parameters, fault_model, host, machine=machine)
        guarded(lambda: initialize(directory, plan), json=json)
    run_guarded(_devnet(directory, ready_file, json), json=json)


# --------------------------------------------------------------------------------------------------------------- start


async def _start(config: ReplicaConfig, under_devnet: bool, json: bool, *, rebuild: bool, rejoin: bool) -> None:
    from layer1.replica.driver import Replica  # noqa: PLC0415 - the other verbs start faster without it

    raise_limit()
    stopping = _stop_signals()
    if under_devnet:
        _stop_at_end_of_input(stopping)
    replica = Replica(config, rebuild=rebuild, rejoin=rejoin)
    while await _run(replica, stopping, json):
        replica = Replica(replica.config)  # which may have been loaded again


async def _run(replica: Replica, stopping: asyncio.Event, json: bool) -> bool:
    """Until it is stopped; True if it stopped by itself, to start again from what is on the disk now."""
    if replica.config.http.certificate is not None or not sys.stdin.isatty():  # of a terminal it says: stop
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, replica.reload)
    working = asyncio.create_task(_work(replica, json))
    waits = [working, asyncio.create_task(stopping.wait())]
    try:
        done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except StartAgain:
        return not stopping.is_set()
    finally:
        for task in waits:
            task.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        await replica.stop()
    return False


async def _work(replica: Replica, json: bool) -> None:
    """Start, which may take as long as peers take to answer, and run until it fails."""
    await replica.start()
    if json:
        print_json({"index": replica.index, "api": replica.api_port, "link": replica.link_port, "pid": os.getpid()})
    await replica.wait()


def _stop_signals() -> asyncio.Event:
    """An event that SIGINT and SIGTERM set."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _stop_at_end_of_input(stopping: asyncio.Event) -> None:
    """Stop when standard input closes: then the devnet that started us is gone."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            loop.remove_reader(sys.stdin.fileno())
            stopping.set()

    loop.add_reader(sys.stdin.fileno(), readable)


# -------------------------------------------------------------------------------------------------------------- devnet


async def _devnet(directory: Path, ready_file: Path | None, json: bool) -> None:
    def ended(index: int, exit_status: int) -> None:
        how = f"signal {-exit_status}" if exit_status < 0 else f"status {exit_status}"
        print(f"replica {index} ended with {how}; the others go on. See {net.log_path(index)}", file=sys.stderr)

    stopping = _stop_signals()
    net = Devnet(directory, ended)
    starting = asyncio.create_task(net.start())
    try:
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            if ready_file is not None:
                net.write_ready(ready_file)
            _show_devnet(net, json)
            await stop
    finally:
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError, WedgeError):
            await starting
        await net.stop()


def _show_devnet(net: Devnet, json: bool) -> None:
    described = net.describe()
    if json:
        print_json(described)
        return
    print(f"Chain {described['chain_id']}, genesis {described['genesis']}")
    model = net.genesis.fault_model
    print(f"{tolerance(len(net.children), net.genesis.replica_set.faults, model)}.")
    print(warning(model), end="")
    table = Table("replica", "pid", "API", "link", box=None)
    for row in described["replicas"]:
        table.add_row(*cells(row[name] for name in ("index", "pid", "api", "link")))
    Console().print(table)
    print("All replicas answer. Interrupt to stop them.", flush=True)


# --------------------------------------------------------------------------------------------------------------- small


def _parameters(heartbeat_ms: int, min_challenge_ms: int) -> Parameters:
    default = Parameters()
    return Parameters(
        heartbeat_ms=heartbeat_ms,
        min_challenge_ms=min_challenge_ms,
        max_step_ms=max(default.max_step_ms, 2 * heartbeat_ms + 100 * default.view_timeout_ms),
    )


def _allocations(texts: list[str] | None) -> tuple[Allocation, ...]:
    return tuple(_allocation(text) for text in texts or ())


def _allocation(text: str) -> Allocation:
    address, equals, units = text.partition("=")
    if not equals or not units.isascii() or not units.isdigit():
        raise typer.BadParameter(f"{text[:120]!r}: write ADDRESS=UNITS, such as wedge1...=100000 (minor units)")
    try:
        return Allocation(parse_address(address), int(units))
    except Refused as refusal:
        raise typer.BadParameter(refusal.message) from None


def main() -> None:
    """The command's entry point."""
    if JSON_FLAG not in sys.argv[1:]:
        app()  # which ends here, and tells people what is wrong with a command line
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        print_error("bad_usage", error.format_message() or "which verb? See --help")
        code = EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
