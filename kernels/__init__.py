"""From a decoded picture to a small RGB picture: the mathematics, once, for every device.

weights.py      antialiased resampling: for each target sample, where its window starts and its taps
colour.py       YUV to RGB: matrix and offsets per standard, range and bit depth; the rule for untagged sources
hdr.py          HDR and other primaries to sRGB
reference.py    the whole conversion in plain NumPy: the oracle for the CUDA kernel and for libswscale
orientation.py  the eight ways in which a picture may lie
resize.cu       the CUDA kernel: surfaces as NVDEC writes them to finished pictures, a batch in one launch
job.py          what is asked of it
records.py      that as the kernel reads it
tables.py       weights and tables that stay on the device
resize.py       its launcher
dali.py         the same call with DALI's resampling; only colours are the kernel's
cubin.py        compiles it for any GPU without having one, and reads what it needs
traffic.py      counts the bytes that it moves

Nothing here knows of `daemon`, and nothing but NumPy is needed to import it: CuPy when a picture is to be made, and
NVRTC when `cubin` compiles. `tests/test_kernel.py` runs the kernel's text on a CPU, and on a GPU with `pytest -m gpu`.
"""
