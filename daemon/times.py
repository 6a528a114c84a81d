"""Ways to say a time, read exactly: `12`, `"12s"`, `"12000ms"`, `"1m2.5s"`, `"00:01:02.500"`, `"15%"`.

A `Time` is a fraction, either of seconds or of the video's duration, and becomes seconds only when the duration is
known. Decimal text is kept exact: 0.1 means one tenth, not the nearest binary float.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

_DECIMAL = r"\d{1,12}(?:\.\d{1,12})?"
_PERCENT = re.compile(rf"({_DECIMAL})\s*%")
_CLOCK = re.compile(r"(?:(\d{1,6}):)?([0-5]?\d):([0-5]?\d(?:\.\d{1,12})?)")
_UNITS = re.compile(rf"(?:({_DECIMAL})h)?\s*(?:({_DECIMAL})m)?\s*(?:({_DECIMAL})s)?\s*(?:({_DECIMAL})ms)?")
_SECONDS = re.compile(_DECIMAL)
_HOW = 'a number of seconds, or text such as "12s", "12000ms", "1m2.5s", "00:01:02.500" or "15%"'
_LIMIT = 10**9


@dataclass(frozen=True)
class Time:
    """A point in, or a length of, a video: `value` seconds, or `value` times the duration where `relative`."""

    value: Fraction
    relative: bool = False

    def seconds(self, duration: Fraction) -> Fraction:
        return self.value * duration if self.relative else self.value

    @classmethod
    def read(cls, said: object) -> "Time":
        """Reads a JSON number or text. Raises ValueError that says which ways there are."""
        if isinstance(said, Time):
            return said
        if isinstance(said, bool) or not isinstance(said, int | float | str):
            raise ValueError(f"a time is {_HOW}")
        time = cls._parse(said.strip()) if isinstance(said, str) else cls._number(said)
        if time.relative and time.value > 1:
            raise ValueError(f"a percentage lies between 0% and 100%, not {said!r}")
        if not 0 <= time.value <= _LIMIT:
            raise ValueError(f"a time lies between 0 and {_LIMIT} seconds, not {said!r}")
        return time

    @classmethod
    def _number(cls, said: float) -> "Time":
        number = Decimal(repr(said))
        if not number.is_finite():
            raise ValueError(f"a time lies between 0 and {_LIMIT} seconds, not {said!r}")
        return cls(Fraction(number))

    @classmethod
    def _parse(cls, text: str) -> "Time":
        if match := _PERCENT.fullmatch(text):
            return cls(Fraction(match[1]) / 100, relative=True)
        if _SECONDS.fullmatch(text):
            return cls(Fraction(text))
        if match := _CLOCK.fullmatch(text):
            hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
            return cls(hours * 3600 + minutes * 60 + seconds)
        if (match := _UNITS.fullmatch(text)) and any(match.groups()):
            h, m, s, ms = (Fraction(part or 0) for part in match.groups())
            return cls(h * 3600 + m * 60 + s + ms / 1000)
        raise ValueError(f"{text[:40]!r} is no time: write {_HOW}")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read, serialization=core_schema.plain_serializer_function_ser_schema(cls.said)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}], "description": _HOW}

    def said(self) -> str:
        """Text that reads back as the same time (to a billionth)."""
        value = self.value * 100 if self.relative else self.value
        text = f"{Decimal(value.numerator) / Decimal(value.denominator):.9f}".rstrip("0").rstrip(".")
        return text + ("%" if self.relative else "s")


def positive(time: Time) -> Time:
    """Raises ValueError where it is shorter than a length may be."""
    least = Fraction(1, 10**9 if time.relative else 1000)
    if time.value < least:
        raise ValueError("must be at least a millisecond")
    return time


Length = Annotated[Time, AfterValidator(positive)]
