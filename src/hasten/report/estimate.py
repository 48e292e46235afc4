"""What has no certificate and is handed over as an estimate, in the words of the page and the console."""

from __future__ import annotations

from hasten.report.story import quality, scale
from hasten.report.words import count, known, times
from hasten.trial import Estimated, Quality, Result

FOLDER = "estimated"
SMALLEST = 2  # samples: of a single one only the divergence is reported


def speed(found: Estimated) -> str:
    """``3.41×``."""
    return times(found.trial.timing.speedup if found.trial.timing else None)


def drop(result: Result, found: Estimated) -> str:
    """``0.30 points [−0.90, 1.50]``; the divergence where one sample was compared."""
    seen = _measured(found)
    if seen is None:
        moved = found.trial.harm
        return "not estimated" if moved is None else f"not estimated; the answers diverge by {moved:.3g}"
    marks = scale(result)
    if not known(seen.lower) or not known(seen.upper):
        return marks.drop(seen.drop)
    return f"{marks.drop(seen.drop)} [{marks.drop(seen.lower, unit=False)}, {marks.drop(seen.upper, unit=False)}]"


def cost(result: Result, found: Estimated) -> str:
    """What it may cost, in a few words: ``it may lose up to 1.50 points``."""
    seen = _measured(found)
    if seen is None or not known(seen.upper):
        return "how much it may lose is unknown"
    return f"it may lose up to {scale(result).drop(seen.upper)}"


def basis(found: Estimated) -> str:
    """``120 samples that the search did not see``."""
    seen = quality(found.trial)
    if seen is None:
        return "no samples"
    return f"{count(seen.n, 'sample')} {'unseen by' if seen.split == 'confirm' else 'of'} the search"


def chance(found: Estimated) -> str:
    """``82 %``."""
    return f"{found.chance * 100:.0f} %" if _measured(found) else "unknown"


def settled(found: Estimated) -> str:
    """``about 420 more labelled samples``."""
    if found.needed_samples is None or _measured(found) is None:
        return f"more {found.needed} samples"
    return f"about {found.needed_samples:,} more {found.needed} samples"


def _measured(found: Estimated) -> Quality | None:
    seen = quality(found.trial)
    return seen if seen is not None and seen.n >= SMALLEST and known(seen.drop) else None
