"""Is there one order of all operations that explains what every client saw, and when?

A history is linearizable if all its operations can be put into one order in which every read returns what the
transfers before it make, and which keeps the order of operations of which one returned before the other was invoked.

Who reads a balance sees which transfers it holds (see `history`), so every transfer of an account stands on a known
side of every read of that account. These constraints and those of time are edges of a graph; an order that keeps them
all explains every read, and exists just if the graph has no cycle. So this is exact, without any search. A transfer of
unknown fate never returns; if nobody saw it, it may never have happened.

Reads may be allowed to be old: then a read need not know what returned at *other* clients less than `staleness_s`
before it began; everything that its own client saw or made it must know. 0 is linearizability; without bound it is
sequential consistency with writes in the order of time.

Source: Herlihy and Wing, Linearizability (1990); Wing and Gong, Testing and Verifying Concurrent Objects (1993), for
the search that the tests compare this with.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

from tests.chaos.history import History, Read, Write

Operation = Write | Read
Graph = dict[Hashable, set[Hashable]]
"""By node, what stands before it."""


def explain(history: History, staleness_s: float = 0.0) -> str | None:
    """Why no order explains the history; None if one does."""
    try:
        seen = {read: history.seen(read) for read in history.reads}
    except ValueError as error:
        return str(error)
    shown = frozenset[Write]().union(*seen.values())
    if ghosts := [write for write in shown if write.dead]:
        return f"a transfer that was said to be dead was seen: {ghosts[0]}"
    writes = [write for write in history.writes if not write.dead and (write in shown or write.returned < float("inf"))]
    graph: Graph = defaultdict(set)
    _order_by_sight(graph, writes, seen)
    _order_by_time(graph, [*writes, *history.reads], staleness_s)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle = [node for node in error.args[1] if isinstance(node, Write | Read)]
        return "no order explains these, each of which must stand before the next:\n" + "\n".join(map(str, cycle))
    return None


def _order_by_sight(graph: Graph, writes: Iterable[Write], seen: dict[Read, frozenset[Write]]) -> None:
    """What a read saw stands before it, what it did not see stands behind."""
    by_account: dict[int, list[Read]] = defaultdict(list)
    for read in seen:
        by_account[read.account].append(read)
    for write in writes:
        for account in (write.move.sender, write.move.recipient):
            for read in by_account[account]:
                if write in seen[read]:
                    graph[read].add(write)
                else:
                    graph[write].add(read)


def _order_by_time(graph: Graph, operations: Sequence[Operation], staleness_s: float) -> None:
    writes = [operation for operation in operations if isinstance(operation, Write)]
    reads = [operation for operation in operations if isinstance(operation, Read)]
    _follow(graph, "writes", operations, writes, 0.0)
    _follow(graph, "reads", operations, reads, staleness_s)
    for client in {read.client for read in reads}:
        own = [operation for operation in operations if operation.client == client]
        _follow(graph, client, own, [read for read in reads if read.client == client], 0.0)


def _follow(
    graph: Graph, name: Hashable, earlier: Sequence[Operation], later: Sequence[Operation], lag_s: float
) -> None:
    """What returned more than `lag_s` before another was invoked stands before it.

    A chain of nodes, one for each return in the order of time, says this with few edges.
    """
    returned = sorted((item for item in earlier if item.returned < float("inf")), key=lambda item: item.returned)
    for i, operation in enumerate(returned):
        graph[name, i].add(operation)
        if i:
            graph[name, i].add((name, i - 1))
    times = [operation.returned for operation in returned]
    for operation in later:
        if known := bisect_left(times, operation.invoked - lag_s):
            graph[operation].add((name, known - 1))
