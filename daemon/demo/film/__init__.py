"""The sample film of the demo: one day, from dawn to the northern lights, drawn without any file from outside.

Every frame is painted right into the encoder's own planes (BT.709, 4:2:0): there is no colour conversion per
frame, a blend touches 1.5 bytes a pixel instead of 3, and a minute of 720p is ready in seconds. The landscapes are
height lines filled downwards, so they move by fractions of a pixel and are smooth at every size; whatever has a shape
of its own is drawn once with Pillow and kept as a `Sprite`. The clock and the frame number are large enough to be
read in a tile 160 pixels wide, so that anyone scrubbing sees whether a tile belongs to its time.

    design.py      sizes, colours, easing
    sprite.py      shapes, drawn once
    canvas.py      one frame, and what can be laid upon it
    lines.py       the edges of landscapes
    sky.py         sun and moon, birds, clouds
    scenes/        the six scenes, one a file
    lettering.py   names, clock, frame number
    reel.py        all of it in order
    encode.py      as an MP4
"""

from daemon.demo.film.encode import make_film

__all__ = ["make_film"]
