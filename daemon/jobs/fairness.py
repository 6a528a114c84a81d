"""Whose job is next. Pure.

Jobs are ranked inside their organisation; the lowest rank plus what already runs there comes first. So an organisation
with one job waits for one job of each other organisation, however long their queues are.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Candidate:
    """A queued job, `order` being its place by (priority, run_at, key)."""

    key: str
    org: str
    order: tuple[int, float, str]


def in_turn(
    candidates: Sequence[Candidate], running: Mapping[str, int], caps: Mapping[str, int], most: int
) -> list[Candidate]:
    """Up to `most` candidates, fairly: at most `caps[org]` (absent: any number) of an organisation run at once."""
    queues: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        queues[candidate.org].append(candidate)
    ranked: list[tuple[int, tuple[int, float, str], Candidate]] = []
    for org, queue in queues.items():
        room = caps.get(org, most + running.get(org, 0)) - running.get(org, 0)
        for rank, candidate in enumerate(sorted(queue, key=lambda c: c.order)[: max(0, room)]):
            ranked.append((rank + running.get(org, 0), candidate.order, candidate))
    return [candidate for _, _, candidate in sorted(ranked, key=lambda entry: entry[:2])[:most]]


def room_for(org: str, running: Counter[str], caps: Mapping[str, int], most: int) -> int:
    """How many more jobs of `org` may be claimed, at most `most`."""
    return max(0, min(most, caps[org] - running[org])) if org in caps else most
