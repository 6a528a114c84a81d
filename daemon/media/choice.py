"""What to decode and shape with, as the settings say it and as one word of a worker's command line."""

from dataclasses import dataclass
from typing import Literal, get_args

Resize = Literal["kernel", "dali"]
_WORDS = get_args(Resize)


@dataclass(frozen=True, slots=True)
class Choice:
    """`device`: `auto`, `cpu`, `cuda` or `cuda:N`. The rest is for cards. `resize`: what shrinks pictures there.
    `jpeg_pixels`: from how many pixels on the card makes the JPEG, too; 0: never."""

    device: str = "auto"
    resize: Resize = "kernel"
    jpeg_pixels: int = 0

    def __str__(self) -> str:
        """Such as `cpu`, or `cuda:0/dali/921600`."""
        plain = self == Choice(self.device)
        return self.device if plain else f"{self.device}/{self.resize}/{self.jpeg_pixels}"

    @classmethod
    def of(cls, said: str) -> "Choice":
        """The inverse of `str`. Raises ValueError."""
        device, *rest = said.split("/")
        if not rest:
            return cls(device)
        resize, pixels = rest
        return cls(device, _WORDS[_WORDS.index(resize)], int(pixels))

    @property
    def card(self) -> int:
        """The number of the card; the first one where none is named."""
        return int(self.device.partition(":")[2] or 0)
