"""What the CUDA kernel costs, as far as that can be counted without a GPU: what it needs of a multiprocessor on every
architecture, and how many bytes it has to move (`kernels/traffic.py`). `python -m bench kernel`."""

from __future__ import annotations

from kernels.cubin import ARCHITECTURES, NvrtcMissing, needs
from kernels.job import Format
from kernels.traffic import traffic

# Bytes a second of memory [NVIDIA's data sheets].
MEMORY = {"H100 SXM": 3.35e12, "L4": 300e9}


CASES: tuple[tuple[str, tuple[int, int], tuple[int, int], Format], ...] = (
    ("1080p NV12 to 320x180", (1920, 1080), (320, 180), "nv12"),
    ("1080p NV12 to 160x90", (1920, 1080), (160, 90), "nv12"),
    ("1080p NV12 to 1280x720", (1920, 1080), (1280, 720), "nv12"),
    ("2160p P016 to 320x180", (3840, 2160), (320, 180), "p016"),
)


def main() -> None:
    print("What a thread needs (registers, bytes spilled), and a block (bytes of shared memory)")
    try:
        for architecture in ARCHITECTURES:
            for kernel, need in needs(architecture).items():
                print(f"  {architecture:8} {kernel:13} {need.registers:3} {need.spilled:3} {need.shared:6}")
    except NvrtcMissing as error:
        print(f"  {error}")
    print("\nBytes of a picture, counted; and the least time that memory allows, which is no measurement")
    for name, source, size, format in CASES:
        for filter in ("lanczos3", "area"):
            found = traffic(source, size, filter, format)
            floors = ", ".join(f"{gpu} {found.moved / rate * 1e6:.2f} us" for gpu, rate in MEMORY.items())
            print(
                f"  {name:24} {filter:9} read {found.reached:>10,} written {found.written:>9,}; "
                f"through L2 {found.through_l2 / found.reached:.2f} times, through L1 "
                f"{found.loads / found.reached:.2f} times; {floors}"
            )


if __name__ == "__main__":
    main()
