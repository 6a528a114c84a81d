"""The demo's page: what a job made, in one HTML file beside the pictures that needs no server and no network."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from importlib import resources
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any
from urllib.parse import quote

Output = dict[str, Any]

IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".avif"}
MOVING = {"clip", "animation"}


def write_page(report: dict[str, Any], folder: Path, *, video: str | None = None, title: str) -> Path:
    """Writes `index.html` into the folder that holds the job's files and returns its path.

    `video`: where a browser finds the film, seen from the folder; with it the player plays, without it only scrubs.
    """
    outputs: list[Output] = report.get("outputs") or []
    posters, series, sprites = (_of(outputs, kind) for kind in ("thumbnail", "thumbnails", "sprite"))
    cues = next((text for output in (*sprites, *series) if (text := _cues(folder, output))), "")
    source = report.get("source") or {}
    duration = float(source.get("duration") or 0) or 1.0
    sized = next(iter((*posters, *sprites, *series)), {})
    page = Template(resources.files("daemon.demo").joinpath("page.html").read_text(encoding="utf-8"))
    path = folder / "index.html"
    path.write_text(
        page.substitute(
            title=escape(title),
            facts=_facts(report, source),
            notes=_notes(report),
            shape=f"{int(sized.get('width') or 16)} / {int(sized.get('height') or 9)}",
            duration=f"{duration:.3f}",
            start=_clock(0),
            end=_clock(duration),
            poster=_stage(posters, video),
            gallery="".join(_gallery(output) for output in series),
            sheets="".join(_sheets(output) for output in sprites),
            moving=_moving(outputs),
            rows="".join(_row(output) for output in outputs),
            timings=_timings(report.get("timings") or {}),
            raw=escape(json.dumps(report, indent=2, ensure_ascii=False)),
            cues=escape(cues),
        ),
        encoding="utf-8",
    )
    return path


def _of(outputs: Iterable[Output], kind: str) -> list[Output]:
    return [output for output in outputs if output.get("output") == kind]


def _file(path: str) -> str:
    """Reports name files from the store's root downwards; here they are neighbours."""
    return PurePosixPath(path).name


def _files(output: Output) -> list[str]:
    """Every file of an output once, in order."""
    pictures = [picture.get("path") for picture in output.get("pictures") or []]
    paths = [output.get("path"), *pictures, *(output.get("files") or [])]
    return list(dict.fromkeys(_file(path) for path in paths if path))


def _cues(folder: Path, output: Output) -> str:
    index = folder / f"{_file(str(output.get('name')))}.vtt"
    return index.read_text(encoding="utf-8", errors="replace") if index.is_file() else ""


def _link(file: str) -> str:
    """A file as an attribute's value: no character of its name may end the attribute or mean a place elsewhere."""
    return escape(quote(file))


def _anchor(file: str) -> str:
    return f'<a href="{_link(file)}">{escape(file)}</a>'


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{f'{hours:02}:' if hours else ''}{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"


def _time(value: float | None) -> str:
    return "–" if value is None else _clock(float(value))


def _facts(report: dict[str, Any], source: dict[str, Any]) -> str:
    facts = [f'<li class="{escape(str(report.get("status")))}">{escape(str(report.get("status")))}</li>']
    texts = [f"job {report.get('id')}"]
    if source:
        rate = source.get("fps")
        texts += [
            _clock(float(source.get("duration") or 0)),
            f"{source.get('width')} × {source.get('height')}",
            str(source.get("codec")),
            *([f"{rate:g} frames a second"] if isinstance(rate, (int, float)) else []),
        ]
    return "".join([*facts, *(f"<li>{escape(text)}</li>" for text in texts)])


def _notes(report: dict[str, Any]) -> str:
    notes = [("note", str(warning)) for warning in report.get("warnings") or []]
    if error := report.get("error"):
        notes.append(("note error", f"{error.get('code')}: {error.get('message')}"))
    return "".join(f'<p class="{kind}">{escape(text)}</p>' for kind, text in notes)


def _stage(posters: list[Output], video: str | None) -> str:
    film = f'<video src="{escape(video)}" preload="metadata" playsinline></video>' if video else ""
    image = f'<img src="{_link(_file(posters[0]["path"]))}" alt="Poster of the film">' if posters else ""
    return image + film


def _gallery(output: Output) -> str:
    pictures = [picture for picture in output.get("pictures") or [] if picture.get("path")]
    figures = (_figure(picture, int(output["width"]), int(output["height"])) for picture in pictures)
    return f"{_heading(output, len(pictures), 'pictures')}<div class='gallery'>{''.join(figures)}</div>"


def _figure(picture: dict[str, Any], width: int, height: int) -> str:
    file, time = _file(picture["path"]), float(picture["time"])
    return (
        f'<figure><button type="button" data-time="{time:.3f}" class="view" aria-label="Show {_clock(time)} above">'
        f'<img src="{_link(file)}" width="{width}" height="{height}" loading="lazy" alt=""></button>'
        f"<figcaption><time>{_clock(time)}</time>{_anchor(file)}</figcaption></figure>"
    )


def _sheets(output: Output) -> str:
    files = [file for file in _files(output) if PurePosixPath(file).suffix in IMAGES]
    figures = (
        f'<figure><div class="sheet view"><img src="{_link(file)}" alt="Sprite sheet {escape(file)}"><div class="mark">'
        f"</div></div><figcaption>{_anchor(file)}</figcaption></figure>"
        for file in files
    )
    tiles = len(output.get("pictures") or [])
    return f"{_heading(output, tiles, 'tiles')}<div class='sheets'>{''.join(figures)}</div>"


def _moving(outputs: list[Output]) -> str:
    figures = "".join(
        _motion(_file(output["path"]), str(output["output"])) for output in outputs if output.get("output") in MOVING
    )
    return f"<h2>In motion</h2><div class='moving'>{figures}</div>" if figures else ""


def _motion(file: str, kind: str) -> str:
    film = f'<video src="{_link(file)}" muted loop autoplay playsinline></video>'
    picture = f'<img src="{_link(file)}" loading="lazy" alt="">'
    view = film if kind == "clip" else picture
    return f'<figure><div class="view">{view}</div><figcaption>{_anchor(file)}</figcaption></figure>'


def _heading(output: Output, count: int, things: str) -> str:
    return f"<h2>{escape(str(output.get('name')))}<small>{escape(str(output['output']))}, {count} {things}</small></h2>"


def _row(output: Output) -> str:
    files = _files(output)
    shown = [_anchor(file) for file in (files if len(files) < 5 else (files[0], files[-1]))]
    cells = (
        ("", f"{escape(str(output.get('name')))}<br><small>{escape(str(output.get('output')))}</small>"),
        ("files", " … ".join(shown) + (f" <small>({len(files)} files)</small>" if len(files) > len(shown) else "")),
        ("number", f"{escape(str(output.get('width')))} × {escape(str(output.get('height')))}"),
        ("", escape(str(output.get("format")))),
        ("number", f"{int(output.get('bytes') or 0):,}".replace(",", "\N{NO-BREAK SPACE}")),
        ("number", _time(output.get("at"))),
        ("number", _time(output.get("time"))),
    )
    return "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells) + "</tr>"


def _timings(timings: dict[str, float]) -> str:
    longest = max([*timings.values(), 1e-9])
    bars = "".join(
        f'<dt>{escape(name)}</dt><dd><i style="width:{100 * seconds / longest:.1f}%"></i></dd>'
        f'<dd class="number">{1000 * seconds:.0f} ms</dd>'
        for name, seconds in timings.items()
    )
    return f"<h2>Where the time went</h2><dl class='times'>{bars}</dl>" if bars else ""
