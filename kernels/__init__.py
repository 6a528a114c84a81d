"""From a decoded picture to a small RGB picture: the mathematics, once, for every device.

weights.py    antialiased resampling: for each target sample, where its window starts and its taps
colour.py     YUV to RGB: matrix and offsets per standard, range and bit depth; the rule for untagged sources
reference.py  the whole conversion in plain NumPy: the oracle for the CUDA kernel and for libswscale

Nothing here knows of `daemon`, and nothing but NumPy is needed to import it.
"""
