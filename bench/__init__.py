"""Measurements, as ratios within one run. `python -m bench NAME`:

cpu       thumbd from drop to report beside ffmpeg, ffmpegthumbnailer and a bare loop over the same libraries
scalers   libswscale's ways to shrink a frame, held against the NumPy reference
"""
