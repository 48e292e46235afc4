"""How much accuracy may be spent: ``1%`` (absolute points), ``rel:99%`` (of the baseline), ``agree:99%``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from numbers import Real
from typing import Literal, cast

from hasten.errors import UsageError, did_you_mean

EXAMPLES = "write 1% (one point), 0.5%, rel:99% (of the baseline's score) or agree:99% (of its answers)"
LEAST_KEPT = 0.5  # of the score or the answers; a smaller share is a budget written the other way round
_NUMBER = r"\d+\.?\d*|\.\d+"
_UNIT = r"%|percent|per cent|pt|pp|pts|points?|percentage points?"
_FORM = re.compile(rf"(?:(rel|agree)\s*:)?\s*({_NUMBER})\s*({_UNIT})?", re.IGNORECASE)
_COMMA = re.compile(r"(\d),(\d)")
_KINDS = {"": "absolute", "rel": "relative", "agree": "agree"}
Kind = Literal["absolute", "relative", "agree"]
Grade = Literal["guaranteed", "statistical"]
GRADES: tuple[Grade, ...] = ("statistical", "guaranteed")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """``limit`` is a fraction: the drop allowed (absolute), the share of the score kept (rel) or of answers (agree)."""

    kind: Kind = "absolute"
    limit: float = 0.01
    confidence: float = 0.95
    certificate: Grade = "statistical"  # the weakest grade that counts

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


def parse_budget(given: str | float | Budget, confidence: float = 0.95, certificate: str | None = None) -> Budget:
    """Read a budget as a person writes it: text, or in Python a fraction below 1.

    ``certificate`` is the weakest grade that counts: that of a ``Budget``, else ``statistical``, where it is None.

    >>> parse_budget("1%").max_drop, str(parse_budget("rel:99%")), str(parse_budget("0.01"))
    (0.01, 'rel:99%', '1%')
    >>> parse_budget(0.01) == parse_budget("1 %") == parse_budget("1 point")
    True

    Raises:
        UsageError: it is not one of the forms, lies outside its range, or has two readings ("1"); or no grade is
            called ``certificate``.
    """
    if certificate is not None:
        return replace(parse_budget(given, confidence), certificate=_grade(certificate))
    if isinstance(given, Budget):
        return _checked(given, str(given))
    if not 0.5 <= confidence < 1:
        percent = 50 <= confidence < 100
        right = f"{confidence / 100:g}" if percent else "0.95"
        raise UsageError(f"confidence {confidence} is not in [0.5, 1)", help=f"write --confidence {right}")
    value: object = given
    if not isinstance(value, bool) and isinstance(value, Real):
        number = float(f"{float(value):.7g}")  # float32's 0.01 is meant as 0.01
        return _checked(Budget(limit=_fraction(number), confidence=confidence), f"{number:g}")
    if not isinstance(given, str):
        raise UsageError(f"a budget cannot be a {type(given).__name__}", help=EXAMPLES)
    match = _FORM.fullmatch(given.strip().replace("\u00a0", " ").replace("\u202f", " "))
    if match is None:
        with_point = _COMMA.sub(r"\1.\2", given.strip())
        comma = with_point != given.strip() and _FORM.fullmatch(with_point)
        cause = "a comma is no decimal point here" if comma else ""
        raise UsageError(
            f"cannot read the budget {given!r}", cause=cause, help=f"write {with_point}" if comma else EXAMPLES
        )
    prefix, digits, unit = match.groups()
    fraction = float(digits) / 100 if unit else _fraction(float(digits), given)
    kind = cast(Kind, _KINDS[(prefix or "").lower()])
    return _checked(Budget(kind=kind, limit=fraction, confidence=confidence), given)


def _grade(name: str) -> Grade:
    for grade in GRADES:
        if name == grade:
            return grade
    raise UsageError(f"no certificate is called {name!r}", help=did_you_mean(name, GRADES))


def _fraction(value: float, given: str = "") -> float:
    """A number without a unit is a fraction; 1 and more may as well be percent."""
    if value >= 1:
        told = given or f"{value:g}"
        right = f'write "{value:g}%" or {value / 100:g}' if not given and value < 100 else EXAMPLES
        raise UsageError(f"the budget {told!r} could mean {value:g} % or {value:g} as a fraction", help=right)
    return value


def _checked(budget: Budget, given: str) -> Budget:
    if not 0 < budget.limit < 1:
        raise UsageError(f"the budget {given!r} is outside 0 to 100 %", help=EXAMPLES)
    if budget.kind != "absolute" and budget.limit < LEAST_KEPT:
        prefix, share = str(budget).split(":")
        kept = f"{prefix}:{(1 - budget.limit) * 100:.6g}%"
        raise UsageError(
            f"the budget {given!r} keeps only {share} of the {'score' if prefix == 'rel' else 'answers'}",
            help=f"to lose no more than {share}, write {kept}",
        )
    return budget
