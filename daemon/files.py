"""The names of the files that a job writes."""

import re
from dataclasses import dataclass

from daemon.fields import SUFFIX, AnyFormat
from daemon.outputs import Moving, Output, Sprite, Thumbnail

MANIFEST = "manifest.json"
_MOST_DIGITS = 9  # as many as a pattern may ask for


@dataclass(frozen=True)
class Files:
    """Files of one format that an output may write: `before` + `after`, with a number between them where `numbered`."""

    before: str
    after: str
    format: AnyFormat
    numbered: bool = False

    def holds(self, name: str) -> bool:
        if not self.numbered:
            return name == self.before + self.after
        number = name[len(self.before) : len(name) - len(self.after)]
        digits = number.isdecimal() and number.isascii() and len(number) <= _MOST_DIGITS
        return digits and name.startswith(self.before) and name.endswith(self.after)

    def meets(self, other: "Files") -> bool:
        """Whether both may write one name."""
        if not self.numbered or not other.numbered:
            one, many = (other, self) if self.numbered else (self, other)
            return many.holds(one.before + one.after)
        short, long = sorted((self.before, other.before), key=len)
        tail, longer_tail = sorted((self.after, other.after), key=len)
        return (
            long.startswith(short)
            and longer_tail.endswith(tail)
            and _only_digits(long[len(short) :])
            and _only_digits(longer_tail[: len(longer_tail) - len(tail)])
        )


def _only_digits(text: str) -> bool:
    return not text or (text.isascii() and text.isdecimal())


def files_of(output: Output) -> tuple[Files, ...]:
    """All that an output may write."""
    if isinstance(output, Thumbnail | Moving):
        return (Files(output.name, SUFFIX[output.format], output.format),)
    if isinstance(output, Sprite):
        before, after, _ = output.sheet_names
        sheets = (Files(before, after, output.format, numbered=True),) if output.has_sheets else ()
        return *sheets, *(Files(output.index_file(index), "", index) for index in output.indexes)
    before, after = re.split(r"\{n[^}]*\}", output.files) if output.files else (output.name + "-", "")
    pictures = Files(before, after + SUFFIX[output.format], output.format, numbered=True)
    return pictures, Files(output.name, ".vtt", "vtt")
