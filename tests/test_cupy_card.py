"""The card as CuPy gives it, from surface to picture, with CuPy on this CPU: what is launched, copied, waited for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import host_cupy
import numpy as np
import pytest
from host_cupy import HostCupy
from kernel_cases import compiled, compiler, need_dali

from daemon.errors import DeviceMissing
from daemon.media.choice import Choice, Resize
from daemon.media.colour import Colour
from daemon.media.cupy_card import CupyCard
from daemon.media.surface import Kind, Surface
from kernels import dali
from kernels.reference import quantise, resize_yuv

SDR = Colour(matrix="bt709", full_range=False)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not compiler():
        (pytest.fail if os.environ.get("REQUIRE_HOST_COMPILER") == "1" else pytest.skip)("there is no g++")
    return compiled(tmp_path_factory.mktemp("kernel"))


@pytest.fixture
def cupy(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostCupy]:
    with host_cupy.standing_in(library, monkeypatch) as cupy:
        yield cupy


def decoded(card: CupyCard, width: int, height: int, depth: int = 8) -> tuple[Surface, list[Any]]:
    """A surface of waves, copied as NVDEC's are; and its planes Y, U and V, right-aligned."""
    kind = Kind("hevc", 420, depth, (width, height), (width, height))
    most = 2**depth - 1
    planes = []
    for n, (w, h) in enumerate(((width, height), (width // 2, height // 2), (width // 2, height // 2))):
        y, x = np.mgrid[0:h, 0:w]
        planes.append((most * (0.5 + 0.3 * np.cos(x * 20 / w + n) * np.sin(y * 15 / h + n))).astype(np.uint16))
    chroma = np.stack(planes[1:], axis=-1).reshape(height // 2, -1)
    words = np.vstack((planes[0], chroma)) << (16 - depth if depth > 8 else 0)
    memory = np.ascontiguousarray(words.astype(np.uint16 if depth > 8 else np.uint8))
    assert memory.nbytes == kind.bytes
    lane = card.lane()
    return Surface(0, kind, lane, lane.copy(memory.ctypes.data, memory.nbytes)), planes


@pytest.mark.parametrize("depth", [8, 10])
@pytest.mark.parametrize("by", ["kernel", "dali"])
def test_pictures_are_those_of_the_reference(by: Resize, depth: int, cupy: HostCupy) -> None:
    if by == "dali":
        need_dali()
    card = CupyCard(0, by)
    surface, planes = decoded(card, 320, 180, depth)
    (picture,) = card.resize(surface, [(64, 36)], SDR)
    expected = quantise(resize_yuv(*planes, (64, 36), matrix="bt709", depth=depth, filter="lanczos3"))
    # At the edges DALI repeats samples where ours cut the window.
    inside = np.s_[4:-4, 4:-4] if by == "dali" else np.s_[:]
    assert np.abs(picture[inside].astype(int) - expected[inside]).max() <= 1


@pytest.mark.parametrize("by", ["kernel", "dali"])
def test_all_sizes_are_made_together_as_one_by_one(by: Resize, cupy: HostCupy) -> None:
    """By one launch, one copy to the host and one wait."""
    if by == "dali":
        need_dali()
    card = CupyCard(0, by)
    surface, _ = decoded(card, 320, 180)
    sizes = [(64, 36), (1, 1), (321, 77), (64, 36), (160, 90)]
    alone = [card.resize(surface, [size], SDR)[0] for size in sizes]
    cupy.pictures.clear()
    cupy.copies.clear()
    stream = surface.lane.stream  # type: ignore[attr-defined]
    waits = stream.waits
    together = card.resize(surface, sizes, SDR)
    assert cupy.pictures == [len(sizes)]
    assert cupy.copies == [(stream.ptr, sum(3 * width * height for width, height in sizes))]
    assert stream.waits == waits + (1 if by == "kernel" else 2), "DALI's own memory is waited for besides"
    for one, other, (width, height) in zip(alone, together, sizes, strict=True):
        assert one.shape == other.shape == (height, width, 3)
        assert (one == other).all()


def test_it_is_dali_that_shrinks_where_it_is_asked_for(cupy: HostCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    need_dali()
    asked: list[int] = []
    right = dali.resampled

    def noted(jobs: Any, view: Any) -> Any:
        asked.append(len(jobs))
        return right(jobs, view)

    monkeypatch.setattr(dali, "resampled", noted)
    for by, times in (("kernel", 0), ("dali", 2)):
        card = CupyCard(0, by)  # which makes a first picture
        card.resize(decoded(card, 64, 32)[0], [(16, 8)], SDR)
        assert len(asked) == times


def test_a_card_without_dali_is_not_begun_with(cupy: HostCupy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nvidia.dali.experimental.dynamic", None)
    with pytest.raises(DeviceMissing, match=r"not make pictures \(DALI cannot be imported .*install thumbd\[gpu\]"):
        CupyCard(0, "dali")


def test_a_card_that_is_not_there(cupy: HostCupy) -> None:
    with pytest.raises(DeviceMissing, match="there is no card 1: this machine has 1"):
        CupyCard(1)


# --- what it is told to work with -----------------------------------------------------------------------------------

CHOICES = {
    "cpu": Choice("cpu"),
    "auto": Choice(),
    "cuda:3": Choice("cuda:3"),
    "cuda:0/dali/0": Choice("cuda:0", "dali"),
    "cuda/kernel/921600": Choice("cuda", jpeg_pixels=921_600),
}


@pytest.mark.parametrize("word", CHOICES)
def test_a_choice_is_a_word(word: str) -> None:
    assert (str(CHOICES[word]), Choice.of(word)) == (word, CHOICES[word])


def test_the_number_of_the_card() -> None:
    assert [Choice(device).card for device in ("auto", "cuda", "cuda:3")] == [0, 0, 3]


@pytest.mark.parametrize("word", ["cuda/other/0", "cuda/dali", "cuda/dali/many"])
def test_no_choice(word: str) -> None:
    with pytest.raises(ValueError):
        Choice.of(word)
