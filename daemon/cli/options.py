"""The options that say which pictures are wanted, once for all commands that take them."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, get_type_hints

import typer


class Outputs:
    """What may be said of a job's outputs: names, types, defaults and help of the options."""

    at: Annotated[
        list[str] | None, typer.Option(help='Time of a picture: 12s, 15%, 1:02.5, "middle", "best". Repeatable.')
    ] = None
    every: Annotated[str | None, typer.Option(help="A series: time between pictures.")] = None
    count: Annotated[int | None, typer.Option(help="A series: how many pictures.")] = None
    sprite: Annotated[bool, typer.Option("--sprite", help="The series as sheets of tiles and a WebVTT.")] = False
    clip: Annotated[bool, typer.Option("--clip", help="A stretch as MP4: from --start, --duration long.")] = False
    animation: Annotated[bool, typer.Option("--animation", help="A stretch as a loop: webp, gif or avif.")] = False
    start: Annotated[str | None, typer.Option(help="A series, clip or animation: from here.")] = None
    end: Annotated[str | None, typer.Option(help="A series: to here.")] = None
    pick: Annotated[str | None, typer.Option(help='A series: "best" takes the best keyframe of each interval.')] = None
    duration: Annotated[str | None, typer.Option(help="A clip or animation: how long.")] = None
    fps: Annotated[str | None, typer.Option(help="A clip or animation: frames a second.")] = None
    width: Annotated[int | None, typer.Option(help="Pixels; one side alone keeps the aspect.")] = None
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None
    short_side: Annotated[int | None, typer.Option(help="Pixels of the smaller side.")] = None
    fit: Annotated[str | None, typer.Option(help="inside, cover, pad or stretch.")] = None
    upscale: Annotated[bool, typer.Option("--upscale", help="May be larger than the source.")] = False
    format: Annotated[str | None, typer.Option(help="webp, jpeg, png or avif; of an animation webp, gif or avif.")] = (
        None
    )
    quality: Annotated[int | None, typer.Option(help="1 to 100.")] = None
    accuracy: Annotated[str | None, typer.Option(help="exact, keyframe or nearest.")] = None
    name: Annotated[str | None, typer.Option(help="Stem of the file names.")] = None


_OPTIONS = [
    Parameter(name, Parameter.KEYWORD_ONLY, default=getattr(Outputs, name), annotation=kind)
    for name, kind in get_type_hints(Outputs, include_extras=True).items()
]


def with_outputs(command: Callable[..., None]) -> Callable[..., None]:
    """The command with these options besides its own: it gets those that were said as `options`, by their names in a
    job."""

    @wraps(command)
    def called(**given: Any) -> None:
        asked = {option.name: given.pop(option.name) for option in _OPTIONS}
        said = {name: value for name, value in asked.items() if value not in (None, []) and value is not False}
        command(**given, options=said)

    own = [each for each in signature(command).parameters.values() if each.name != "options"]
    parameters = [*(each.replace(kind=Parameter.KEYWORD_ONLY) for each in own), *_OPTIONS]
    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {each.name: each.annotation for each in parameters}
    return called
