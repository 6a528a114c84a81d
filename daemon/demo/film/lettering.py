"""What is written in the picture: the scene's name, and a clock and frame number that can be read in a small tile."""

from fractions import Fraction

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from daemon.demo.film.canvas import Canvas
from daemon.demo.film.design import Size, yuv
from daemon.demo.film.sprite import Sprite, drawn

PLATE = (8, 10, 24, 150)


def lettering(text: str, height: int, weight: int) -> Image.Image:
    """White letters on nothing, as wide as they need and all of one height."""
    font = ImageFont.load_default(height)
    right = round(font.getbbox(text, stroke_width=weight)[2])
    bottom = round(font.getbbox("y", stroke_width=weight)[3])  # of every text, so that all stand on one line
    picture = Image.new("RGBA", (max(1, right), max(1, bottom + weight)), (255, 255, 255, 0))
    ImageDraw.Draw(picture).text((0, 0), text, "white", font, stroke_width=weight, stroke_fill="white")
    return picture


def title(text: str, size: Size) -> Sprite:
    """The name of a scene, with a soft shadow that keeps it legible before every sky."""
    letters, margin = lettering(text, size.px(76), size.px(1)), size.px(24)
    place = (margin, margin)
    shadow = Image.new("RGBA", (letters.width + 2 * margin, letters.height + 2 * margin))
    shadow.paste((8, 10, 30, 170), place, letters.getchannel("A"))
    shadow = shadow.filter(ImageFilter.GaussianBlur(size.px(7)))
    shadow.alpha_composite(letters, place)
    return Sprite(shadow)


class Counter:
    """The clock and the frame number on dark plates, and a line of progress at the foot.

    The plates are at the top, where no player lays its controls over them.
    """

    def __init__(self, size: Size, seconds: float) -> None:
        self.size, self.seconds = size, seconds
        self.tall, self.edge, self.line = size.even(112), size.px(26), size.px(8)
        self.signs = {sign: Sprite(self._key(sign)) for sign in "0123456789:.#"}
        self.ends = self._end(), self._end(mirrored=True)
        self.track, self.done = yuv("#20242c"), yuv("#ff5d73")

    def _key(self, sign: str) -> Image.Image:
        """A sign on its piece of the plate; digits are all of one width, so that nothing trembles in counting."""
        letters = lettering(sign, self.size.px(94), self.size.px(2))
        key = Image.new("RGBA", (self.size.even(28 if sign in ":." else 54), self.tall), PLATE)
        key.alpha_composite(letters, (max(0, (key.width - letters.width) // 2), 0))
        return key

    def _end(self, mirrored: bool = False) -> Sprite:
        """The rounded end of a plate."""
        wide = self.size.even(20)

        def paint(draw: ImageDraw.ImageDraw, fine: int) -> None:
            draw.rounded_rectangle((0, 0, 2 * wide * fine, self.tall * fine - 1), wide * fine, PLATE)

        end = drawn(wide, self.tall, paint)
        return Sprite(ImageOps.mirror(end) if mirrored else end)

    def draw(self, canvas: Canvas, time: Fraction, number: int) -> None:
        """Writes the time as minutes, seconds and milliseconds at the left, the frame's number at the right."""
        minutes, milliseconds = divmod(round(time * 1000), 60_000)
        clock, count = (
            Sprite.row([self.ends[0], *(self.signs[sign] for sign in text), self.ends[1]])
            for text in (f"{minutes:02}:{milliseconds // 1000:02}.{milliseconds % 1000:03}", f"#{number:04}")
        )
        canvas.blit(clock, self.edge, self.edge)
        canvas.blit(count, self.size.width - self.edge - count.width, self.edge)
        foot = self.size.height - self.line
        canvas.box(0, foot, self.size.width, self.line, self.track)
        canvas.box(0, foot, round(self.size.width * min(1.0, float(time) / self.seconds)), self.line, self.done)
