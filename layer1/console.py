"""What the verbs of `layer1` share: how they print, fail, and find the other replicas.

Exit codes: 0 done, 1 refused or failed (the text says what to do), 2 the command line is wrong, 3 no replica answers,
4 the ledger is under attack (`layer1 light`), 130 interrupted.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import aiohttp
import msgspec
import typer
from rich.markup import escape

from layer1.certificates import trusting
from layer1.errors import Refused, WedgeError
from layer1.failover import LedgerUnreachable
from layer1.light import LedgerAttacked
from layer1.loop import run

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_ATTACKED = 4
EXIT_INTERRUPTED = 130
ANSWER_TIMEOUT_S = 3.0
UNTRUSTED = "its certificate is not to be trusted"
"""How the word for a replica begins that answers, and cannot be asked from here."""
DEFAULT_API = "http://127.0.0.1:7001"
"""Who is asked when nobody says otherwise: replica 0 of `layer1 init --base-port 7000`."""

JSON_FLAG = "--json"
JsonOption = Annotated[bool, typer.Option(JSON_FLAG, help="Print JSON instead of text.")]
ApiOption = Annotated[
    list[str] | None, typer.Option("--api", help=f"API of a replica, if it is not {DEFAULT_API}. Repeatable.")
]

CaOption = Annotated[
    Path | None,
    typer.Option(help="For https: PEM file of the authorities to trust, instead of this system's.", envvar="LAYER1_CA"),
]


def print_json(value: object) -> None:
    """For programs, on standard output."""
    write_out(msgspec.json.format(msgspec.json.encode(value)).decode() + "\n")


def write_out(text: str) -> None:
    """Write all of it to standard output, at once.

    With ``PYTHONUNBUFFERED`` Python makes one system call for a text, and what the pipe did not take then is lost
    without a word: long answers ended in the middle.
    """
    sys.stdout.flush()
    stream = sys.stdout.buffer
    if isinstance(stream, io.RawIOBase):
        buffered = io.BufferedWriter(stream)
        buffered.write(text.encode())
        buffered.flush()
        buffered.detach()
    else:
        stream.write(text.encode())
        stream.flush()


def print_error(code: str, message: str) -> None:
    """Why there is no answer, for programs."""
    print_json({"error": {"code": code, "message": message}})


def run_guarded(main: Coroutine[Any, Any, Any], *, json: bool) -> Any:
    """As :func:`guarded`, in an event loop."""
    return guarded(lambda: run(main), json=json)


def guarded(work: Callable[[], Any], *, json: bool) -> Any:
    """Do it; errors that we raise on purpose become a text and an exit code."""
    try:
        return work()
    except WedgeError as error:
        _fail(error, json)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _fail(error: WedgeError, json: bool) -> NoReturn:
    code = error.code if isinstance(error, Refused) else "failed"
    if isinstance(error, LedgerAttacked):
        code = "ledger_attacked"
    if json:
        print_error(code, str(error))
    else:
        print(f"layer1: {error}", file=sys.stderr)
    raise typer.Exit(_exit_of(error)) from None


def _exit_of(error: WedgeError) -> int:
    if isinstance(error, LedgerAttacked):
        return EXIT_ATTACKED
    return EXIT_UNREACHABLE if isinstance(error, LedgerUnreachable) else EXIT_FAILED


def open_session(ca: Path | None) -> aiohttp.ClientSession:
    """A session that waits for an answer for :data:`ANSWER_TIMEOUT_S`. Needs the running loop.

    Raises:
        Refused: ``bad_ca``.
    """
    connector = aiohttp.TCPConnector(ssl=trusting(ca))
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S))


async def get_json(http: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    """What a replica says, or under ``error`` why there is nothing."""
    try:
        async with http.get(url) as answer:
            found: dict[str, Any] = msgspec.json.decode(await answer.read(), type=dict[str, Any])
            return found
    except aiohttp.ClientConnectorCertificateError as error:
        return {"error": f"{UNTRUSTED}: {error.certificate_error}; see --ca"}
    except (aiohttp.ClientConnectionError, TimeoutError):
        return {"error": "no answer"}
    except (aiohttp.ClientError, OSError, ValueError, RecursionError) as error:
        return {"error": str(error) or type(error).__name__}


def listed(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The items of a list, as far as they are what they should be: a broken replica says anything."""
    items = found.get("items")
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


async def find_replicas(http: aiohttp.ClientSession, apis: list[str]) -> list[str]:
    """The APIs of these replicas, and of all that they know."""
    asked = {api.rstrip("/") for api in apis}
    for found in await asyncio.gather(*(get_json(http, f"{api}/replicas") for api in sorted(asked))):
        asked.update(str(item["api"]).rstrip("/") for item in listed(found) if item.get("api"))
    return sorted(asked)


def cells(shown: Iterable[object]) -> list[str]:
    """A row of a table as it is: an address such as ``[fd00::1]`` is no style, nor is what a replica says of itself."""
    return ["-" if item is None else escape(str(item)) for item in shown]
