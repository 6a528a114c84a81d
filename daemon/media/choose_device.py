"""The one place that chooses the device."""

from daemon.errors import DeviceMissing
from daemon.media.cpu import CpuDevice
from daemon.media.device import Device


def open_device(name: str) -> Device:
    """`auto`, `cpu`, `cuda` or `cuda:N`. Raises DeviceMissing where a named device is not to be had."""
    if name in ("auto", "cpu"):
        return CpuDevice()
    raise DeviceMissing(f'device {name!r} is not supported by this version: set device = "auto" or "cpu"')
