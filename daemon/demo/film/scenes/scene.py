"""What a scene is."""

from collections.abc import Callable

from daemon.demo.film.canvas import Canvas

Scene = Callable[[Canvas, float, float], None]
"""Paints itself on a canvas, given how far it has come (0 to 1, a little outside while fading) and the seconds."""
