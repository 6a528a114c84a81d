"""What pydantic found wrong, as thumbd says it: each complaint at its place, and no secret in any."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from daemon.errors import Complaint

_MOST_COMPLAINTS = 8
_TAG = 2  # in outputs[0].width pydantic puts the kind of output, which tells it apart, at this step
_SECRET = frozenset({"callback_url", "deliver", "key", "secret"})  # may hold credentials


def _without_secrets(said: Any) -> Any:
    if isinstance(said, dict):
        return {key: "…" if key in _SECRET else _without_secrets(value) for key, value in said.items()}
    return [_without_secrets(value) for value in said] if isinstance(said, list | tuple) else said


def complaints_of(errors: Sequence[Mapping[str, Any]]) -> list[Complaint]:
    """What is wrong, and where: at `outputs[0].width`, that it should be at most 4096. `errors` are pydantic's."""
    found = []
    for entry in errors[:_MOST_COMPLAINTS]:
        place = ""
        for position, step in enumerate(entry["loc"]):
            if isinstance(step, int):
                place += f"[{step}]"
            elif position != _TAG or entry["loc"][0] != "outputs":
                place += f".{step}"
        text = "unknown key" if entry["type"] == "extra_forbidden" else entry["msg"].removeprefix("Value error, ")
        told = entry["type"] != "missing" and _SECRET.isdisjoint(entry["loc"])
        value = _without_secrets(entry["input"]) if told else None
        found.append(Complaint(text[:300], place.lstrip(".")[:100], value))
    return found


def explain(error: ValidationError) -> str:
    """One line for all complaints: `outputs[0].width: Input should be less than or equal to 4096 (got 5000)`."""
    errors = error.errors(include_url=False)[:_MOST_COMPLAINTS]
    lines = []
    for entry, complaint in zip(errors, complaints_of(errors), strict=True):
        clear = entry["type"] in ("value_error", "missing", "json_invalid", "extra_forbidden")
        told = not clear and _SECRET.isdisjoint(entry["loc"])
        got = f" (got {str(complaint.value)[:60]!r})" if told else ""
        lines.append(f"{complaint.place or 'job'}: {complaint.message}{got}")
    return "; ".join(dict.fromkeys(lines))
