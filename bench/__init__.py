"""Measurements, as ratios within one run. `python -m bench NAME`:

api       the HTTP doors: from a request to its picture, and how many answers a second one core gives
cpu       thumbd from drop to report beside ffmpeg, ffmpegthumbnailer and a bare loop over the same libraries
gpu       thumbd on a GPU: are its pictures right, then how many a second, beside the CPU, ffmpeg and other decoders
kernel    what the CUDA kernel needs of a GPU, and the bytes that it moves, counted without one
scalers   libswscale's ways to shrink a frame, held against the NumPy reference
"""
