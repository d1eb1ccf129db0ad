"""A CSV of payments replayed through a network: eight people, two hubs, and a table of what became of each payment.

    python examples/replay_csv.py payments.csv

The file has the columns ``time,from,to,amount,memo``; if it is not there, a small realistic one is written first. Each
name gets a wallet with a channel to one of two hubs, which have one with each other, so that a payment goes over one
hub, or over two. Rows are paid in order of their time. What cannot be paid says why, and costs nothing.

Also: ``python -m examples.replay_csv``
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console
from rich.table import Table

from examples.network import Network, network
from examples.stage import FUNDS, MONEY
from layer1.errors import Refused, check
from wallet.amounts import format_amount, parse_amount

COLUMNS = ("time", "from", "to", "amount", "memo")
HUBS = ("north", "south")
PEOPLE = ("ann", "ben", "cid", "dot", "eli", "fay", "gus", "hal")
GOODS = {"coffee": 3_50, "lunch": 12_90, "bus ticket": 2_80, "book": 18_00, "bicycle repair": 45_00, "phone": 180_00}
"""What people pay each other for, and about what it costs."""
RENT = 480_00
"""More than anybody's channel carries after a while."""
ROWS = 60
MOST_PEOPLE = 20
"""Wallets of one process: more would only take longer."""


@dataclass(frozen=True, slots=True)
class Row:
    """One payment of the file."""

    time: str
    payer: str
    payee: str
    amount: int
    """Minor units."""
    memo: str


@dataclass(frozen=True, slots=True)
class Result:
    """What became of it."""

    row: Row
    fee: int
    hops: int
    """Locks on the way of its longest part."""
    ms: float
    code: str
    """Of a failure; empty for what was paid."""


def generate(path: Path, seed: int = 7) -> None:
    """Write a week among neighbours: many small payments, a few large ones, and a rent that no channel carries."""
    chance, minute = random.Random(seed), 0
    with path.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(ROWS):
            minute += chance.randint(20, 300)
            payer, payee = chance.sample(PEOPLE, 2)
            (what,) = chance.choices(list(GOODS), weights=(30, 20, 20, 15, 8, 2))
            price = round(GOODS[what] * chance.uniform(0.8, 1.3))
            if number % 25 == 24:
                what, price = "rent", RENT
            day, clock = divmod(minute, 1_440)
            moment = f"2026-03-{2 + day:02} {clock // 60:02}:{clock % 60:02}"
            writer.writerow((moment, payer, payee, format_amount(price, MONEY), what))


def read(path: Path) -> list[Row]:
    """The rows, in order of their time.

    Raises:
        Refused: ``bad_csv``: which line, and what is wrong with it.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.DictReader(file)
        missing = set(COLUMNS) - set(lines.fieldnames or ())
        check(
            not missing, "bad_csv", f"{path} has no column {', '.join(sorted(missing))}: the first line names all five"
        )
        rows = [_row(line, lines.line_num) for line in lines]
    names = {name for row in rows for name in (row.payer, row.payee)}
    check(len(names) <= MOST_PEOPLE, "bad_csv", f"{path} names {len(names)} people; {MOST_PEOPLE} fit into one process")
    check(not names & set(HUBS), "bad_csv", f"{' and '.join(HUBS)} are the hubs: call people otherwise")
    return sorted(rows, key=lambda row: row.time)


def _row(line: dict[str, str | None], number: int) -> Row:
    moment, payer, payee, amount, memo = ((line[column] or "").strip() for column in COLUMNS)
    for name in (payer, payee):
        check(name.isidentifier(), "bad_csv", f"line {number}: {name!r} is no name; letters, digits and _ are")
    check(payer != payee, "bad_csv", f"line {number}: {payer} pays {payee}")
    try:
        return Row(moment, payer, payee, parse_amount(amount, MONEY), memo)
    except Refused as refusal:
        raise Refused("bad_csv", f"line {number}: {refusal.message}") from None


async def replay(town: Network, rows: Sequence[Row]) -> list[Result]:
    """Pay each row."""
    results = []
    for row in rows:
        began = time.perf_counter()
        fee, hops, code = 0, 0, ""
        try:
            payment = (await town.pay(row.payer, row.payee, row.amount, row.memo)).payment
        except Refused as refusal:
            code = refusal.code
            print(f"{row.time}  {row.payer} to {row.payee}, {row.memo}: {refusal.message}")
        else:
            fee, hops = payment.fee, max(len(attempt.path) for attempt in payment.attempts)
        results.append(Result(row, fee, hops, (time.perf_counter() - began) * 1_000, code))
    return results


async def audit(town: Network, results: Sequence[Result]) -> int:
    """Compare what each should have with what the ledger proves; the fees of all."""
    books = await town.books()
    expected = dict.fromkeys(books, FUNDS)
    for result in results:
        if not result.code:
            expected[result.row.payer] -= result.row.amount + result.fee
            expected[result.row.payee] += result.row.amount
    fees = sum(result.fee for result in results)
    for name, each in books.items():
        due = expected[name] + each.fees_earned
        assert each.total == due, f"{name} should have {due}, and the ledger proves {each.total}"
    earned = sum(books[hub].fees_earned for hub in HUBS)
    assert earned == fees, f"the hubs earned {earned}, {fees} were paid in fees"
    assert sum(each.total for each in books.values()) == len(books) * FUNDS, "no unit is made, and none is lost"
    return fees


def show(results: Sequence[Result], fees: int, seconds: float) -> None:
    """The table."""
    paid = [result for result in results if not result.code]
    table = Table("what became of it", "payments", "amount", "fees", "median time")
    for hops in sorted({result.hops for result in paid}):
        table.add_row(f"paid over {hops - 1} hub{'s' * (hops > 2)}", *_line([r for r in paid if r.hops == hops]))
    for code, _ in Counter(result.code for result in results if result.code).most_common():
        table.add_row(f"not paid: {code}", *_line([r for r in results if r.code == code]))
    for column in table.columns[1:]:
        column.justify = "right"
    Console().print(table)
    rate = len(results) / seconds
    print(f"{len(paid)} of {len(results)} paid in {seconds:.1f} s, {rate:.0f} a second, one after the other.")
    print(f"Fees of {format_amount(fees, MONEY)} went to the hubs. Every balance agrees with the ledger to the unit.")


def _line(results: Sequence[Result]) -> tuple[str, str, str, str]:
    amount, fee = (sum(each) for each in zip(*((r.row.amount, r.fee) for r in results), strict=True))
    ms = median(result.ms for result in results)
    return str(len(results)), format_amount(amount, MONEY), format_amount(fee, MONEY), f"{ms:.0f} ms"


async def run(rows: Sequence[Row]) -> list[Result]:
    """Build the network that the rows need, replay them, and audit it."""
    names = sorted({name for row in rows for name in (row.payer, row.payee)})
    spokes = {name: HUBS[number % 2] for number, name in enumerate(names)}
    print(f"{len(rows)} payments of {len(names)} people: starting a ledger and {len(names) + len(HUBS)} wallets…")
    async with network(spokes, {HUBS[0]: HUBS[1]}) as town:
        began = time.perf_counter()
        results = await replay(town, rows)
        seconds = time.perf_counter() - began
        show(results, await audit(town, results), seconds)
    return results


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", type=Path, nargs="?", default=Path("payments.csv"), help="default: payments.csv")
    path: Path = parser.parse_args().file
    try:
        if not path.exists():
            generate(path)
            print(f"{path} was not there: a week among neighbours is written into it.")
        rows = read(path)
        check(bool(rows), "bad_csv", f"{path} has no payments")
        asyncio.run(run(rows))
    except (Refused, OSError, UnicodeDecodeError) as error:
        sys.exit(f"replay_csv: {error}")


if __name__ == "__main__":
    main()
