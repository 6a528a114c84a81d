"""The scenes of the film in their order, one a file. Each is built for a size once, and paints itself from then on."""

from collections.abc import Callable

from daemon.demo.film.design import Size
from daemon.demo.film.scenes.aurora import aurora
from daemon.demo.film.scenes.autumn import autumn
from daemon.demo.film.scenes.balloons import balloons
from daemon.demo.film.scenes.city import city
from daemon.demo.film.scenes.dawn import dawn
from daemon.demo.film.scenes.ocean import ocean
from daemon.demo.film.scenes.scene import Scene

SCENES: tuple[tuple[str, Callable[[Size], Scene]], ...] = (
    ("Dawn", dawn),
    ("Balloons", balloons),
    ("Ocean", ocean),
    ("Autumn", autumn),
    ("City", city),
    ("Aurora", aurora),
)
