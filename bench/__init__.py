"""Measurements, each a module that runs by itself: `python -m bench.NAME`."""
