"""What a measurement is asked for, and the row that it gives: what was done, by whom, how many a second each turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from bench.crew import CannotMeasure

Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """`times`: seconds of the wanted pictures, the same for all."""

    film: Path
    times: Sequence[float]
    turns: int
    gpu: int = 0


def row(what: str, who: str, count: int, turns: int, once: Callable[[], object], note: str = "") -> Row:
    """`once` does `count` of them; a first time to warm up."""
    once()
    found = []
    for _ in range(turns):
        begun = perf_counter()
        once()
        found.append(count / (perf_counter() - begun))
    rates = {"per second": round(median(found), 1), "all": [round(rate, 1) for rate in found]}
    return {"what": what, "who": who, **rates, **({"note": note} if note else {})}


def imported(name: str) -> Any:
    try:
        return import_module(name)
    except (ImportError, RuntimeError, OSError) as error:  # PyNvVideoCodec says RuntimeError where there is no driver
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise CannotMeasure(f"{name} cannot be imported: {said}") from None
