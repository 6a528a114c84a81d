"""Compiles `resize.cu` for GPUs that need not be there, by NVRTC (`pip install nvidia-cuda-nvrtc`, or CUDA's own), and
reads what the code needs of a multiprocessor. `python -m kernels.cubin` prints it."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kernels.resize import options, source

# Turing (T4), Ampere (A100; A10), Ada (L4, L40S), Hopper (H100, H200), Blackwell (B200; RTX 50).
ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")

_LIBRARIES = ("libnvrtc.so.13", "libnvrtc.so.12")


class NvrtcMissing(RuntimeError):
    """There is no NVRTC to compile with."""


class NotCompiled(RuntimeError):
    """What the compiler said."""


class Needs(NamedTuple):
    """Of a thread: registers, and bytes that found no place in them. Of a block: bytes of shared memory."""

    registers: int
    stack: int
    spilled: int
    shared: int


def needs(architecture: str) -> dict[str, Needs]:
    """What the kernels' code needs on one architecture, by their names. Raises NvrtcMissing, NotCompiled."""
    nvrtc = _nvrtc()
    said = (*options(), f"--gpu-architecture={architecture}", "--ptxas-options=-v")
    program = ctypes.c_void_p()
    _insist(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source().encode(), b"resize.cu", 0, None, None))
    try:
        arguments = (ctypes.c_char_p * len(said))(*(option.encode() for option in said))
        failed = nvrtc.nvrtcCompileProgram(program, len(said), arguments)
        size = ctypes.c_size_t()
        _insist(nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size)))
        log = ctypes.create_string_buffer(size.value)
        _insist(nvrtc.nvrtcGetProgramLog(program, log))
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    if failed:
        raise NotCompiled(text)
    parts = re.split(r"Compiling entry function '(\w+)'", text)[1:]
    return {name: _read(said) for name, said in zip(parts[::2], parts[1::2], strict=True)}


def _read(log: str) -> Needs:
    """From what ptxas says, such as "0 bytes stack frame, 4 bytes spill stores" and "Used 64 registers"."""

    def number(pattern: str) -> int:
        found = re.search(pattern, log)
        if found is None:
            raise NotCompiled(f"the compiler does not tell {pattern!r}: {log}")
        return int(found[1])

    return Needs(
        registers=number(r"Used (\d+) registers"),
        stack=number(r"(\d+) bytes stack frame"),
        spilled=number(r"(\d+) bytes spill stores"),
        shared=number(r"(\d+) bytes smem") if "bytes smem" in log else 0,
    )


def _nvrtc() -> ctypes.CDLL:
    for path in _places():
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            continue
    raise NvrtcMissing("there is no NVRTC: pip install nvidia-cuda-nvrtc")


def _places() -> Iterator[Path | str]:
    found = importlib.util.find_spec("nvidia")
    for folder in (found.submodule_search_locations or ()) if found else ():
        for library in _LIBRARIES:
            yield from sorted(Path(folder).glob(f"*/lib/{library}"))
    yield from _LIBRARIES


def _insist(failed: int) -> None:
    if failed:
        raise NotCompiled(f"NVRTC failed with {failed}")


def main() -> None:
    for architecture in ARCHITECTURES:
        for kernel, (registers, stack, spilled, shared) in needs(architecture).items():
            used = f"{registers:3} registers, {spilled} bytes spilled, {stack} of stack, {shared} shared"
            print(f"{architecture:8} {kernel:13} {used}")


if __name__ == "__main__":
    main()
