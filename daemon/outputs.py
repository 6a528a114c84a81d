"""What may be made of a video: five kinds of output, and all that can be said about each."""

from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from daemon.fields import (
    SUFFIX,
    Accuracy,
    AnimationFormat,
    At,
    BaseUrl,
    Fit,
    Flag,
    FolderLayout,
    Format,
    Index,
    Indexes,
    Keyframe,
    Lifetime,
    Model,
    Name,
    Pattern,
    Pick,
    Rate,
    Rotation,
    Side,
    Targets,
    Whole,
)
from daemon.times import Length, Time


class Look(Model):
    """What every output may say about how it looks, and what becomes of it: `rotate`, degrees clockwise, before it is
    sized; `ttl`, after which its files are removed; and where they are delivered to."""

    name: Name = ""
    width: Side | None = None
    height: Side | None = None
    short_side: Side | None = None
    fit: Fit = "inside"
    upscale: Flag = False
    rotate: Rotation = 0
    quality: Annotated[Whole, Field(ge=1, le=100)] | None = None
    tag: Annotated[str, Field(max_length=1000)] | None = None
    optional: Flag = False
    ttl: Lifetime | None = None
    deliver: Targets = ()

    @model_validator(mode="after")
    def _one_way_to_say_the_size(self) -> Self:
        if self.short_side is not None and (self.width is not None or self.height is not None):
            raise ValueError("short_side cannot go with width or height: give one or the other")
        if self.fit != "inside" and self.short_side is None and (self.width is None) != (self.height is None):
            raise ValueError(f"fit {self.fit!r} needs both width and height")
        return self


class Picture(Look):
    """What every output of stills may say besides."""

    format: Format = "webp"
    accuracy: Accuracy = "exact"


class Thumbnail(Picture):
    """One picture."""

    output: Literal["thumbnail"]
    at: At

    @property
    def file(self) -> str:
        return self.name + SUFFIX[self.format]


class _Series(Picture):
    """`pick`: of each interval its first picture, or the best of its keyframes."""

    every: Length | None = None
    count: Annotated[Whole, Field(ge=1, le=100_000)] | None = None
    start: Time | None = None
    end: Time | None = None
    pick: Pick = "first"
    base_url: BaseUrl | None = None

    @model_validator(mode="after")
    def _one_way_to_say_how_many(self) -> Self:
        if (self.every is None) == (self.count is None):
            raise ValueError("give either every (a time between pictures) or count (how many pictures)")
        return self


class Thumbnails(_Series):
    """A numbered series and its WebVTT."""

    output: Literal["thumbnails"]
    files: Pattern | None = None

    def file(self, number: int) -> str:
        """The file name of picture `number`, counted from 1."""
        stem = self.files.format(n=number) if self.files else f"{self.name}-{number:04}"
        return stem + SUFFIX[self.format]


class Sprite(_Series):
    """Sheets of tiles and their index files; with `layout`, as a media server wants to find them."""

    output: Literal["sprite"]
    width: Side | None = 320
    format: Format = "jpeg"
    columns: Annotated[Whole, Field(ge=1, le=100)] = 10
    rows: Annotated[Whole, Field(ge=1, le=100)] = 10
    indexes: Indexes = ("vtt",)
    layout: FolderLayout | None = None

    @model_validator(mode="before")
    @classmethod
    def _other_defaults(cls, said: Any) -> Any:
        if not isinstance(said, dict):
            return said
        defaults: dict[str, Any] = {}
        if any(said.get(key) is not None for key in ("height", "short_side")):
            defaults["width"] = None
        if (layout := said.get("layout")) is not None:
            defaults["indexes"] = () if layout == "jellyfin" else ("bif",)
            defaults["upscale"] = layout != "plex"  # its files are the only ones not named after their width
        return {**defaults, **said}

    @model_validator(mode="after")
    def _what_indexes_hold(self) -> Self:
        counted = [f'index "{index}"' for index in self.indexes if index in ("hls", "dash", "bif")]
        counted += [f'layout "{self.layout}"'] if self.layout else []
        for what in counted:
            if self.start is not None and self.start.value:
                raise ValueError(f"{what} counts its tiles from the video's begin: leave out start")
            allowed = ("jpeg",) if self.layout or what == 'index "bif"' else ("jpeg", "png")
            if self.format not in allowed:
                raise ValueError(f"{what} takes no {self.format} pictures: give format {' or '.join(allowed)}")
        return self

    @model_validator(mode="after")
    def _what_layouts_need(self) -> Self:
        if self.layout in ("emby", "plex") and self.indexes != ("bif",):
            raise ValueError(f'layout "{self.layout}" is one BIF and nothing else: leave out indexes')
        if self.layout in ("jellyfin", "emby"):
            if self.width is None or (self.height is not None and self.fit == "inside"):
                raise ValueError(f'layout "{self.layout}" names files after their width: give width alone')
            if not self.upscale:
                raise ValueError(f'layout "{self.layout}" names files after their width: leave out upscale')
        if self.layout == "emby" and (self.every is None or self.every.relative or self.every.value.denominator != 1):
            raise ValueError('layout "emby" names files after their interval: give every in whole seconds')
        return self

    @property
    def has_sheets(self) -> bool:
        return self.layout not in ("emby", "plex")

    @property
    def sheet_names(self) -> tuple[str, str, int]:
        """What stands before and after the number of a sheet, and with how many digits the number is written at
        least. A layout's sheets lie in folders of their own."""
        if self.layout == "jellyfin":
            return f"{self.name}.trickplay/{self.width} - {self.columns}x{self.rows}/", SUFFIX[self.format], 1
        return f"{self.name}-", SUFFIX[self.format], 3

    def file(self, number: int) -> str:
        """The file name of sheet `number`, counted from 0."""
        before, after, digits = self.sheet_names
        return f"{before}{number:0{digits}}{after}"

    def index_file(self, index: Index) -> str:
        """The file name of an index."""
        if self.layout == "emby" and self.every is not None:
            return f"{self.name}-{self.width}-{self.every.value}.bif"
        return "index-sd.bif" if self.layout == "plex" else self.name + SUFFIX[index]


class Moving(Look):
    """A stretch of the video that moves: one file, which may be too large to be held in memory."""

    start: Time = Time(Fraction(0))
    duration: Length | None = None


class Clip(Moving):
    """An MP4: H.264, and AAC where the source has sound. Without `fps` every frame of the source is in it, each at its
    own time. `keyframe`: the most frames (a whole number) or the longest time from one keyframe to the next."""

    output: Literal["clip"]
    format: Literal["mp4"] = "mp4"
    fps: Rate | None = None
    keyframe: Keyframe | None = None
    audio: Flag = True

    @property
    def file(self) -> str:
        return self.name + SUFFIX[self.format]


class Animation(Moving):
    """A silent loop, played for ever. At `start` + n / `fps` it shows what the video shows then. Without `duration` it
    is 3 seconds long, or as long as the video is from `start` on."""

    output: Literal["animation"]
    format: AnimationFormat = "webp"
    fps: Rate = Fraction(10)

    @model_validator(mode="after")
    def _slow_enough(self) -> Self:
        if self.format == "gif" and self.fps > 50:
            raise ValueError(f"a GIF has at most 50 frames a second, not {float(self.fps):g}")
        return self

    @property
    def file(self) -> str:
        return self.name + SUFFIX[self.format]


Output = Annotated[Thumbnail | Thumbnails | Sprite | Clip | Animation, Field(discriminator="output")]
