"""The little that our charts need of SVG: axes that choose round ticks, and marks that escape what they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from markupsafe import escape


@dataclass(frozen=True)
class Axis:
    """Data from ``low`` to ``high`` onto pixels from ``start`` to ``end``, linear or logarithmic, clipped."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        f: Callable[[float], float] = math.log if self.log else float
        share = (f(value) - f(self.low)) / ((f(self.high) - f(self.low)) or 1.0)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def ticks(self, about: int) -> list[float]:
        """Round values inside the axis, about as many as asked for.

        >>> Axis(0, 10, 0, 1).ticks(5), Axis(5, 25, 0, 1, log=True).ticks(5)
        ([0.0, 2.0, 4.0, 6.0, 8.0, 10.0], [5.0, 7.0, 10.0, 15.0, 20.0])
        """
        return _log_ticks(self.low, self.high, about) if self.log else _linear_ticks(self.low, self.high, about)


def _linear_ticks(low: float, high: float, about: int) -> list[float]:
    rough = (high - low) / max(1, about)
    if rough <= 0:
        return [low]
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1, 2, 2.5, 5) if m * power >= rough * 0.999), 10 * power)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float, about: int) -> list[float]:
    for steps in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)):
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        found = [round(m * 10.0**d, 12) for d in decades for m in steps]
        inside = [v for v in found if low * 0.999 <= v <= high * 1.001]
        if len(inside) >= min(about, 4):
            return inside
    linear = _linear_ticks(low, high, about)
    return [v for v in linear if v > 0]


def tag(name: str, body: str = "", **attributes: object) -> str:
    """One element. Numbers are cut to a tenth of a pixel, text is escaped, ``class_`` becomes ``class``."""
    written = "".join(f' {k.rstrip("_").replace("_", "-")}="{_value(v)}"' for k, v in attributes.items())
    return f"<{name}{written}>{body}</{name}>" if body else f"<{name}{written}/>"


def _value(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(escape(value))


def label(text: str, x: float, y: float, *, class_: str = "tick", anchor: str = "middle") -> str:
    """Text at a point."""
    return tag("text", str(escape(text)), x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A straight line."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def mark(shape: str, x: float, y: float, r: float) -> str:
    """A point; shapes differ as well as colours, so that no reader depends on colour.

    ``circle``, ``square``, ``triangle`` (over the budget), ``diamond`` (the winner), ``cross`` (no measurement).
    """
    if shape == "circle":
        return tag("circle", cx=x, cy=y, r=r)
    if shape == "square":
        return tag("rect", x=x - r, y=y - r, width=2 * r, height=2 * r)
    if shape == "cross":
        return tag(
            "path", d=f"M{x - r:.1f} {y - r:.1f}l{2 * r:.1f} {2 * r:.1f}m0 {-2 * r:.1f}l{-2 * r:.1f} {2 * r:.1f}"
        )
    if shape == "triangle":
        return tag("path", d=f"M{x - r:.1f} {y - 0.8 * r:.1f}h{2 * r:.1f}l{-r:.1f} {1.8 * r:.1f}z")
    return tag("path", d=f"M{x:.1f} {y - r:.1f}l{r:.1f} {r:.1f}l{-r:.1f} {r:.1f}l{-r:.1f} {-r:.1f}z")


def group(body: str, class_: str, title: str = "") -> str:
    """Marks that belong together, with the text that a pointer shows."""
    return f'<g class="{escape(class_)}">{f"<title>{escape(title)}</title>" if title else ""}{body}</g>'


def svg(body: str, width: float, height: float, *, id_: str, title: str, description: str, class_: str = "") -> str:
    """A chart with its text alternative."""
    id_ = str(escape(id_))
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" class="{escape(class_)}" role="img" '
        f'aria-labelledby="{id_}-t {id_}-d"><title id="{id_}-t">{escape(title)}</title>'
        f'<desc id="{id_}-d">{escape(description)}</desc>{body}</svg>'
    )
