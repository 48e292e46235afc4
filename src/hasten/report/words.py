"""Numbers and names as people read them, on the page and on the console; "not measured" where there is no number."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any

NOT_MEASURED = "not measured"
LONGEST = 2_000  # characters kept of any one string: a crash may quote a whole stack
# in the unit of the output, and no shares of one
_RAW_METRICS = {"mae", "mse", "rmse", "quantile_10", "quantile_50", "quantile_90"}


def known(value: float | None) -> bool:
    """True for a finite number."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 3) -> str:
    """``digits`` significant digits, at least every digit before the point, a true minus sign.

    >>> number(21.437), number(1234.5), number(-0.0456), number(float("nan"))
    ('21.4', '1,234', '−0.0456', 'not measured')
    """
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 9)}f}".replace("-", "−")


def times(value: float | None) -> str:
    """A speed-up.

    >>> times(3.0249), times(12.34), times(None)
    ('3.02×', '12.3×', 'not measured')
    """
    return f"{_ratio(value)}×" if value is not None and math.isfinite(value) else NOT_MEASURED


def _ratio(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else number(value)


def span(low: float | None, high: float | None) -> str:
    """An interval, empty where an end is unknown.

    >>> span(2.951, 3.09)
    '[2.95, 3.09]'
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f"[{_ratio(low)}, {_ratio(high)}]"


def scatter(low: float | None, high: float | None) -> str:
    """How far an interval about 1 reaches.

    >>> scatter(0.99, 1.025)
    '±2.5 %'
    """
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return NOT_MEASURED
    return f"±{max(abs(high - 1), abs(1 - low)) * 100:.1f} %"


def millis(value: float | None) -> str:
    """A latency given in milliseconds.

    >>> millis(7.123), millis(0.0421), millis(0.0)
    ('7.12 ms', '42.1 µs', 'under 1 µs')
    """
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if value == 0:
        return "under 1 µs"
    return f"{number(value * 1000)} µs" if 0 < value < 0.1 else f"{number(value)} ms"


def size(value: float | None) -> str:
    """Bytes in decimal units.

    >>> size(25_100_000), size(621), size(None)
    ('25.1 MB', '621 bytes', 'not measured')
    """
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{number(value / scale)} {unit}"
    return f"{value:.0f} bytes"


def duration(seconds: float | None) -> str:
    """Seconds, or minutes and seconds.

    >>> duration(4.21), duration(134)
    ('4.2 s', '2 min 14 s')
    """
    if seconds is None or not math.isfinite(seconds):
        return NOT_MEASURED
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def moment(text: str) -> str:
    """A date in ISO 8601 as a person reads it.

    >>> moment("2026-05-01T12:30:00+02:00")
    '2026-05-01 12:30 +02:00'
    """
    try:
        return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} {text[19:]}".strip()
    except ValueError:
        return text


def count(n: int, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> count(1, "candidate"), count(1200, "sample")
    ('1 candidate', '1,200 samples')
    """
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def clean(text: str, *, longest: int | None = LONGEST) -> str:
    """``text`` with all that is not printable made visible, so that no name can rewrite a page or a terminal.

    That is: control characters but line ends and tabs, direction and zero-width marks, line separators, surrogates.

    >>> clean("a\\x1b[31mb\\u202ec\\u2028")
    'a\\\\x1b[31mb\\\\u202ec\\\\u2028'
    """
    cut = text if longest is None else text[:longest]
    shown = "".join(c if c in "\n\t" or _seen(c) else _escape(c) for c in cut)
    return shown + ("…" if len(cut) < len(text) else "")


def one_line(text: str) -> str:
    """``clean``, with line ends and tabs made visible too.

    >>> one_line("a\\nerror: b")
    'a\\\\x0aerror: b'
    """
    return "".join(c if c not in "\n\t" else _escape(c) for c in clean(text))


def _seen(character: str) -> bool:
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def cleaned(value: Any) -> Any:
    """``clean`` on every string of a nested builtin value."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(k): cleaned(v) for k, v in value.items()}
    return [cleaned(v) for v in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Scale:
    """How scores of one metric are written: in percent and points, or as they are.

    Drops against a ``rel:`` budget are shares of the score, whatever the metric.
    """

    points: bool = True
    relative: bool = False

    @property
    def unit(self) -> str:
        """What a drop is counted in; empty for the metric's own unit."""
        return "% of the score" if self.relative else "points" if self.points else ""

    @classmethod
    def of(cls, metric: str, baseline: float | None) -> Scale:
        """Shares of one are written in percent; errors in the units of the output are left alone."""
        share = baseline is None or not math.isfinite(baseline) or abs(baseline) <= 1
        return cls(points=share and metric.lower() not in _RAW_METRICS)

    def score(self, value: float | None) -> str:
        """A score: ``76.12 %`` or ``0.0123``."""
        if value is None or not math.isfinite(value):
            return NOT_MEASURED
        return f"{value * 100:.2f} %".replace("-", "−") if self.points else number(value)

    def drop(self, value: float | None, *, unit: bool = True) -> str:
        """A drop: ``0.14 points`` or ``0.00021``; below zero the candidate scored better."""
        if value is None or not math.isfinite(value):
            return NOT_MEASURED
        if not self.unit:
            return number(value)
        text = f"{value * 100:.2f}".replace("-", "−")
        text = "0.00" if text == "−0.00" else text
        return f"{text} {self.unit}" if unit else text
