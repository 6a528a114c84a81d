"""The one place that chooses the device."""

from daemon.errors import DeviceMissing
from daemon.media.cpu import CpuDevice
from daemon.media.device import Hardware


def open_device(name: str) -> Hardware:
    """`auto`, `cpu`, `cuda` or `cuda:N`; `auto` is the first card where it is usable, else the CPU, and its `note` says
    why. Raises DeviceMissing where a named device is not to be had."""
    if name == "cpu":
        return CpuDevice()
    try:
        from daemon.media.cuda import open_cuda  # only where it is asked for: nothing else may need CUDA

        return open_cuda(int(name.partition(":")[2] or 0))
    except DeviceMissing as missing:
        if name == "auto":
            return CpuDevice(note=f"no GPU is used: {missing.message}")
        raise DeviceMissing(f"device {name!r}: {missing.message}") from None
