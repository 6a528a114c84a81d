"""The one place that chooses the device."""

from daemon.errors import DeviceMissing
from daemon.media.choice import Choice
from daemon.media.cpu import CpuDevice
from daemon.media.device import Hardware


def open_device(said: str) -> Hardware:
    """`said`: a `Choice` in a word, such as `auto`, `cpu` or `cuda:1`. `auto` is the first card where it is usable,
    else the CPU, and its `note` says why. Raises DeviceMissing where a named device is not to be had, or lacks what it
    is to work with."""
    choice = Choice.of(said)
    if choice.device == "cpu":
        if choice != Choice("cpu"):
            raise DeviceMissing(
                "device 'cpu': gpu.resize and gpu.jpeg_pixels are for a GPU: leave them out, or set device to cuda"
            )
        return CpuDevice()
    try:
        from daemon.media.cuda import open_cuda  # only where it is asked for: nothing else may need CUDA

        return open_cuda(choice)
    except DeviceMissing as missing:
        if choice.device == "auto":
            return CpuDevice(note=f"no GPU is used: {missing.message}")
        raise DeviceMissing(f"device {choice.device!r}: {missing.message}") from None
