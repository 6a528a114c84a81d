"""A chart of bars as SVG, without any package."""

from collections.abc import Mapping
from html import escape

_WIDTH, _LABEL, _BAR, _GAP = 980, 430, 20, 6
_COLOURS = ("#76b900", "#3b6ea5", "#9aa5b1")


def chart(title: str, groups: Mapping[str, Mapping[str, float]], note: str = "") -> str:
    """One group of bars below the other, each to a scale of its own; the name of a bar says by its first word whose
    it is, which is its colour."""
    kinds = list(dict.fromkeys(_kind(name) for bars in groups.values() for name in bars))
    lines, y = [_text(10, 26, title, size=18)], 40
    for group, bars in groups.items():
        y += 26
        lines.append(_text(10, y, group, size=14))
        y += 8
        most = max(bars.values(), default=0.0) or 1.0
        for name, value in bars.items():
            long = (_WIDTH - _LABEL - 110) * value / most
            colour = _COLOURS[min(kinds.index(_kind(name)), len(_COLOURS) - 1)]
            lines.append(_text(_LABEL - 8, y + 15, name, anchor="end"))
            lines.append(f'<rect x="{_LABEL}" y="{y}" width="{long:.1f}" height="{_BAR}" fill="{colour}"/>')
            lines.append(_text(_LABEL + long + 6, y + 15, f"{value:,.1f}"))
            y += _BAR + _GAP
    if note:
        y += 24
        lines.append(_text(10, y, note))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y + 20}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#ffffff"/>', *lines, "</svg>"]) + "\n"


def _kind(name: str) -> str:
    return name.split()[0].rstrip(",")


def _text(x: float, y: float, said: str, *, size: int = 12, anchor: str = "start") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {place} fill="#20262d">{escape(said)}</text>'
