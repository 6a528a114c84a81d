"""Deliberate faults, one in each stage: a pytest plugin that makes one of them, named in DELIBERATE_FAULT.

`test_deliberate_faults.py` runs the suite with each and expects it to notice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from av.video.reformatter import Colorspace

from daemon import errors, net
from daemon.media import (
    av1,
    best,
    bitstream,
    clip,
    colour,
    cpu,
    cuda,
    deinterlace,
    geometry,
    measure,
    moving,
    nvdec,
    plan,
    reading,
    render,
    scale,
    sheet,
    sound,
    stills,
    studio,
    wanted,
)
from daemon.media.device import Unfit
from daemon.media.select import Stamp
from daemon.media.surface import Surface
from daemon.sources import blocks, http, ranges
from daemon.worker import answers
from kernels import hdr, job, records, resize
from kernels.orientation import UPRIGHT, Orientation

ENVIRONMENT = "DELIBERATE_FAULT"
PICTURES, FRAMES, MOVING = "tests/test_pictures.py", "tests/test_frames.py", "tests/test_moving.py"
REMOTE, ADDRESSES = "tests/test_remote.py", "tests/test_remote_addresses.py"
KERNEL, NVDEC, DISPOSABLE = "tests/test_kernel.py", "tests/test_nvdec.py", "tests/test_disposable.py"


@dataclass(frozen=True)
class Fault:
    """`make` breaks something; `noticed_by`: the part of the suite that must fail then."""

    name: str
    make: Callable[[], None]
    noticed_by: str = PICTURES


def _set(owner: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(owner, name, value)


def _around(owner: Any, name: str, change: Callable[..., Any]) -> Callable[[], None]:
    """`change(result, *arguments)` instead of the result of a function."""
    right = getattr(owner, name)
    return _set(owner, name, lambda *args, **kwargs: change(right(*args, **kwargs), *args))


def _in_kernel(right: str, wrong: str) -> Callable[[], None]:
    """In the text of the CUDA kernel, where it has to stand once."""

    def changed(text: str) -> str:
        assert text.count(right) == 1, right
        return text.replace(right, wrong)

    return _around(resize, "source", changed)


def _in_look(**fields: Any) -> Callable[[], None]:
    return _around(cpu.CpuDevice, "look", lambda look, *_: replace(look, **fields))


def _in_colour(**fields: Any) -> Callable[[], None]:
    return _around(cpu, "colour_of", lambda found, *_: replace(found, **fields))


def _later(found: list[int | None], stamps: Any, limits: Any) -> list[int | None]:
    """The frame after the one that is shown, where there is one."""
    order = sorted(range(len(stamps)), key=lambda n: stamps[n].pts)
    after = dict(zip(order, [*order[1:], order[-1]], strict=True))
    return [None if n is None else after[n] for n in found]


_OTHER_MATRICES = {**colour._MATRICES, 1: "bt601", 5: "bt709", 6: "bt709"}


def _swapped(picture: Any, *_: Any) -> Any:
    return picture[..., [2, 1, 0, *range(3, picture.shape[2])]]


def _scaled_down(luminance: Any, peak: float) -> Any:
    return luminance * hdr.SDR_WHITE / peak


def _as_it_is(image: Any, *_: Any, **__: Any) -> Any:
    return image.convert("RGB")


def _other_way(found: Orientation, _: Any) -> Orientation:
    return Orientation(True, not found.flip_x, not found.flip_y) if found.swapped else found


def _unflipped(found: Orientation, _: Any) -> Orientation:
    return UPRIGHT if found.flip_x != found.flip_y and not found.swapped else found


def _upside_down(look: Any, *_: Any) -> Any:
    return replace(look, sample_aspect=look.sample_aspect and 1 / look.sample_aspect)


def _opaque_mix(straight: Any, *_: Any) -> Any:
    if straight is None:
        return None
    mixed = straight.copy()
    mixed[..., 3] = 255
    return mixed


def _keyframe(rendering: Any, maker: Any, n: int) -> plan.Instant:
    return plan.Instant(rendering._facts.ticks(maker.ats[n]), "keyframe")


def _rounded_up(instant: Any) -> int:
    return -(-instant.ticks.numerator // instant.ticks.denominator)


def _without_last(made: Any, *_: Any) -> Any:
    return made[0][:-1] or made[0], made[1]


def _column_by_column(place: Any, grid: Any, _: int) -> Any:
    return place[0], place[2] * grid.tile[0] // grid.tile[1], place[1] * grid.tile[1] // grid.tile[0]


def _one_further(place: Any, grid: Any, _: int) -> Any:
    return place[0], place[1] + grid.tile[0], place[2]


def _unshifted(affine: Any, job: Any) -> Any:
    return affine[0] * 2 ** (16 - job.surface.depth), affine[1]


def _first_corner(sides: Any, _: Any) -> Any:
    return tuple((0, wanted) for _, wanted in sides)


def _frame_late(wanted: Any, *_: Any) -> Any:
    return replace(wanted, ats=[at + Fraction(1, 25) for at in wanted.ats])


def _every_other(made: Any, *_: Any) -> Any:
    return [made[min(2 * n, len(made) - 1)] for n in range(len(made))]


class _OtherColorspace:
    ITU709 = Colorspace.ITU601


def _late_sound(source: Any, start: Fraction, end: Fraction) -> Any:
    return sound.open_sound(source, start - Fraction(1, 10), end - Fraction(1, 10))


def _lend_any(pool: Any, kind: Any) -> Any:
    """Whatever waits, for sources of any kind."""
    return pool._idle.popitem()[1] if pool._idle else pool._make(kind)


def _around_time(right: Any) -> Callable[[], None]:
    return _set(nvdec.Session, "decode", lambda session, data, pts: right(session, data, pts + 1))


def _all_held(decoder: Any, until: Any) -> Any:
    while decoder._held:
        yield decoder._held.pop(0)[2]


def _kept_sessions(right: Any) -> Callable[[], None]:
    def decode(decoder: Any, packet: Any, *, needed: bool) -> Any:
        session = decoder._session
        try:
            return right(decoder, packet, needed=needed)
        except Unfit:
            if session is not None:
                decoder._pool.give_back(session)
            raise

    return _set(nvdec.NvdecDecoder, "decode", decode)


def _any_jpeg(device: Any, picture: Any, quality: int) -> Any:
    return device._jpeg.encoder.encode(picture, quality)


def _worst(found: Any, _: Any) -> Any:
    return replace(found, blank=False, value=round(1 - found.value, 4))


async def _once(attempt: Callable[[], Any], *_: Any) -> Any:
    return await attempt()


FAULTS = (
    # Colour
    Fault("matrix of the other standard", _set(colour, "_MATRICES", _OTHER_MATRICES)),
    Fault("BT.601 for all that is untagged", _set(colour, "untagged_matrix", lambda height: "bt601")),
    Fault("BT.709 for all that is untagged", _set(colour, "untagged_matrix", lambda height: "bt709")),
    Fault("full range for all", _set(colour, "_is_full", lambda *_: True)),
    Fault("limited range for all", _set(colour, "_is_full", lambda *_: False)),
    Fault("range of grey ignored", _set(scale, "_is_narrow", lambda _: False)),
    Fault("red and blue swapped", _around(cpu, "scale", _swapped)),
    Fault("YCgCo as if it were BT.709", _set(colour, "_MATRICES", {**colour._MATRICES, 8: "bt709"})),
    Fault("HDR shown as SDR", _in_colour(transfer="sdr", primaries="bt709")),
    Fault("HLG as if it were PQ", _set(colour, "_TRANSFERS", {16: "pq", 18: "pq"})),
    Fault("highlights clipped", _set(hdr, "tone_map", lambda luminance, peak: np.minimum(luminance, hdr.SDR_WHITE))),
    Fault("highlights scaled down with all else", _set(hdr, "tone_map", _scaled_down)),
    Fault("peak of the source ignored", _set(colour, "_peak", lambda _: hdr.NOMINAL_PEAK)),
    Fault("primaries ignored", _in_colour(primaries="bt709")),
    Fault("colour profiles ignored", _set(stills.ImageCms, "profileToProfile", _as_it_is)),
    # Shape
    Fault("rotation and flips ignored", _in_look(orientation=UPRIGHT)),
    Fault("turned the wrong way", _around(cpu, "orientation_of", _other_way)),
    Fault("flips ignored", _around(cpu, "orientation_of", _unflipped)),
    Fault("sample aspect ignored", _in_look(sample_aspect=None)),
    Fault("sample aspect upside down", _around(cpu.CpuDevice, "look", _upside_down)),
    Fault("EXIF ignored", _set(stills.ImageOps, "exif_transpose", lambda image: image)),
    Fault("one pixel less", _around(geometry, "_scaled", lambda size, *_: (max(1, size[0] - 1), size[1]))),
    # Fields, bits, alpha
    Fault("comb left in", _set(scale, "deinterlace", lambda frame: frame)),
    Fault("the other field", _set(deinterlace, "_HOW", "mode=frame:deint=all:parity=bff")),
    Fault("alpha ignored", _set(scale, "_may_be_transparent", lambda _: False)),
    Fault("colours mixed with hidden ones", _around(scale, "_transparent", _opaque_mix)),
    Fault("no background", _set(studio.Studio, "_over_background", lambda self, picture: picture[..., :3])),
    # Time
    Fault("one frame late", _around(reading, "pick", _later), FRAMES),
    Fault("the keyframe instead", _set(render.Rendering, "_instant", _keyframe)),
    Fault("times rounded up", _set(plan.Instant, "limit", property(_rounded_up)), FRAMES),
    Fault("time of the container", _around(measure, "_begin", lambda begun, _: (0, begun[1])), FRAMES),
    Fault("discarded frames shown", _set(reading, "Stamp", lambda pts, key, shown: Stamp(pts, key)), FRAMES),
    Fault("last picture missing", _around(wanted, "series", _without_last), "tests/test_series.py"),
    Fault("pictures of WebP all alike in length", _around(stills, "_webp_ticks", lambda ticks, _: [100] * len(ticks))),
    # Sheets and indexes
    Fault("tiles column by column", _around(sheet.Grid, "place", _column_by_column), "tests/test_sheet.py"),
    Fault("one tile further on", _around(sheet.Grid, "place", _one_further), "tests/test_sheet.py"),
    # What moves
    Fault("clip a frame late", _around(render, "stretch", _frame_late), MOVING),
    Fault("clip with the matrix of the other standard", _set(clip, "Colorspace", _OtherColorspace), MOVING),
    Fault("sound a tenth of a second late", _set(clip, "open_sound", _late_sound), MOVING),
    Fault("sound encoded where it could be copied", _set(sound, "Copied", sound.Encoded), MOVING),
    Fault("animation twice as fast", _around(moving, "Lazy", _every_other), MOVING),
    # The CUDA kernel and its launcher
    Fault("values cut instead of rounded", _in_kernel("255.0f) + 0.5f", "255.0f)"), KERNEL),
    Fault("words read across a row's end", _in_kernel("aligned && x + 4 <= plane.width", "aligned"), KERNEL),
    Fault("words read from anywhere", _in_kernel("inside >= 4 && begins_a_word<Word>(address)", "inside >= 4"), KERNEL),
    Fault("taps before a strip taken from it", _in_kernel("larger(0, -start / CHANNELS)", "0"), KERNEL),
    Fault("two rows of sums in one place", _in_kernel("strips + row * STRIP", "strips + row / 2 * STRIP"), KERNEL),
    Fault("beyond the peak the table's last", _in_kernel("brightest > most", "false"), KERNEL),
    Fault("bits of deep samples not where they are", _around(records, "_affine", _unshifted), KERNEL),
    Fault("windows from the first corner", _around(job, "lying_window", _first_corner), KERNEL),
    # Sources that are elsewhere
    Fault("addresses not vetted", _set(net.Reach, "check", lambda *_: None), ADDRESSES),
    Fault("any address is public", _set(net, "is_public", lambda _: True), ADDRESSES),
    Fault("a file may change", _set(http._Version, "is_of", lambda *_: True), REMOTE),
    Fault("queries shown", _set(errors, "shown", lambda source: source), REMOTE),
    Fault("broken pieces not gone on with", _set(ranges, "insist", _once), REMOTE),
    Fault("workers may ask for anything", _set(answers.Answers, "_wrong", lambda *_: None), REMOTE),
    Fault("waiting for the network is a stall", _set(answers.Answers, "pending", False), "tests/test_remote_films.py"),
    Fault("everybody reads on", _set(blocks, "_GAP", 1 << 40), "tests/test_remote_blocks.py"),
    Fault("nothing kept", _set(blocks.Blocks, "_put", lambda *_: None), "tests/test_remote_blocks.py"),
    # NVDEC, on the stand-in driver
    Fault("packets sent that nothing needs", _set(bitstream.Bitstream, "is_disposable", lambda *_: False), NVDEC),
    Fault("packets left out that others need", _set(bitstream.Bitstream, "is_disposable", lambda *_: True), NVDEC),
    Fault("sessions of any kind lent", _set(nvdec.Pool, "lend", _lend_any), NVDEC),
    Fault("times of packets shifted", _around_time(nvdec.Session.decode), NVDEC),
    Fault("times of surfaces shifted", _set(nvdec, "Surface", lambda pts, *rest: Surface(pts + 1, *rest)), NVDEC),
    Fault("surfaces as they come", _set(nvdec.NvdecDecoder, "_next", _all_held), NVDEC),
    Fault("sessions kept that have failed", _kept_sessions(nvdec.NvdecDecoder.decode), NVDEC),
    Fault("frames of AV1 left out that others need", _set(av1, "_refreshes_nothing", lambda *_: True), DISPOSABLE),
    Fault("chroma always left", _set(cuda, "siting_of", lambda frame: "left"), "tests/test_siting.py"),
    Fault("all JPEG by the card", _set(cuda.CudaDevice, "jpeg", _any_jpeg), "tests/test_nvimgcodec.py"),
    # The best
    Fault("blank pictures are as good", _around(best, "score", _worst), "tests/test_best.py"),
    Fault("no second look", _set(best.Search, "further", lambda self: range(0)), "tests/test_best.py"),
)


def pytest_configure() -> None:
    name = os.environ[ENVIRONMENT]
    next(fault for fault in FAULTS if fault.name == name).make()
