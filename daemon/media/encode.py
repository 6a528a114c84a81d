"""R'G'B' pictures to WebP, JPEG, PNG and AVIF, with Pillow."""

import io

from PIL import AvifImagePlugin, Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin, features

from daemon.errors import BadJob
from daemon.fields import AnimationFormat, Format
from daemon.media.device import Pixels
from daemon.media.geometry import Size

# Named here, so that they are imported now: a worker opens no file after its start.
PLUGINS = (AvifImagePlugin, JpegImagePlugin, PngImagePlugin, WebPImagePlugin)

DEFAULT_QUALITY: dict[Format, int] = {"webp": 80, "jpeg": 85, "png": 100, "avif": 65}
WITH_ALPHA: frozenset[Format] = frozenset({"webp", "png", "avif"})
MAX_SIDE: dict[Format | AnimationFormat, int] = {
    "webp": 16_383,
    "jpeg": 65_500,
    "png": 65_535,
    "avif": 65_535,
    "gif": 65_535,
}


def encode(picture: Pixels, format: Format, quality: int | None) -> bytes:
    """Encodes uint8 (height, width, 3), or 4 with alpha but for JPEG. `quality` 1 to 100, None for the format's
    default; PNG is always lossless.
    Raises BadJob where the format cannot hold so large a picture."""
    check_side((picture.shape[1], picture.shape[0]), format)
    chosen = DEFAULT_QUALITY[format] if quality is None else quality
    out = io.BytesIO()
    image = Image.fromarray(picture)
    match format:
        case "webp":
            image.save(out, "WEBP", quality=chosen, method=4)
        case "jpeg":
            image.save(out, "JPEG", quality=chosen)
        case "png":
            image.save(out, "PNG")
        case "avif":
            # One thread: the worker's threads are busy with pictures of their own.
            image.save(out, "AVIF", quality=chosen, speed=8, max_threads=1)
    return out.getvalue()


def check_side(size: Size, format: Format | AnimationFormat) -> None:
    """Raises BadJob where the format cannot hold so large a picture."""
    if max(size) > MAX_SIDE[format]:
        raise BadJob(
            f"{format} pictures have at most {MAX_SIDE[format]} pixels a side, not {max(size)}: give a smaller size"
        )


def encoders() -> dict[Format, str | None]:
    """The version of the library behind each format, None where this Pillow lacks it."""
    return {
        "webp": features.version("webp"),
        "jpeg": features.version("jpg"),
        "png": features.version("zlib"),
        "avif": features.version("avif"),
    }
