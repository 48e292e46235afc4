"""How much accuracy may be spent: ``1%`` (absolute points), ``rel:99%`` (of the baseline), ``agree:99%``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hasten.errors import UsageError

EXAMPLES = "write 1% (one point), 0.5%, rel:99% (of the baseline's score) or agree:99% (of its answers)"
_FORM = re.compile(r"(?:(rel|agree):)?(\d+(?:\.\d+)?)(%|pt)?")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """``limit`` is a fraction: the drop allowed (absolute), the share of the score kept (rel) or of answers (agree)."""

    kind: Literal["absolute", "relative", "agree"] = "absolute"
    limit: float = 0.01
    confidence: float = 0.95

    @property
    def alpha(self) -> float:
        """The chance that we accept of calling a candidate inside the budget when it is not."""
        return 1 - self.confidence

    @property
    def max_drop(self) -> float:
        """The allowed drop as a fraction; for ``rel`` it is a fraction of the baseline's score."""
        return self.limit if self.kind == "absolute" else 1 - self.limit

    def __str__(self) -> str:
        prefix = {"absolute": "", "relative": "rel:", "agree": "agree:"}[self.kind]
        return f"{prefix}{self.limit * 100:.6g}%"


def parse_budget(text: str | Budget, confidence: float = 0.95) -> Budget:
    """Read a budget as a person writes it.

    >>> parse_budget("1%").max_drop, str(parse_budget("rel:99%")), str(parse_budget("0.01"))
    (0.01, 'rel:99%', '1%')

    Raises:
        UsageError: it is not one of the forms, lies outside its range, or could be read in two ways ("1").
    """
    if isinstance(text, Budget):
        return text
    if not 0.5 <= confidence < 1:
        raise UsageError(f"confidence {confidence} is not in [0.5, 1)", help="write --confidence 0.95")
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"cannot read the budget {text!r}", help=EXAMPLES)
    prefix, number, unit = match.groups()
    value = float(number)
    if unit is None and value >= 1:
        raise UsageError(f"the budget {text!r} could mean {value:g} % or {value:g} as a fraction", help=EXAMPLES)
    fraction = value / 100 if unit else value
    if not 0 < fraction < 1:
        raise UsageError(f"the budget {text!r} is outside 0 to 100 %", help=EXAMPLES)
    kind: Literal["absolute", "relative", "agree"]
    kind = {None: "absolute", "rel": "relative", "agree": "agree"}[prefix]  # type: ignore[assignment]
    return Budget(kind=kind, limit=fraction, confidence=confidence)
