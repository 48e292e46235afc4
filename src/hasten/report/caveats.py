"""What a test took, and what it does not say, in plain words."""

from __future__ import annotations

import json

from hasten.measure.sequential import worn_alpha
from hasten.report.story import quality
from hasten.report.words import count, known
from hasten.trial import Result

UNTESTED = (
    "Nothing is certified: there were too few samples, or none, to keep some that the search does not see. "
    "What is returned changes no arithmetic, and its answers were compared."
)

ESTIMATED = (
    "An estimate is no certificate: the network in estimated/ was chosen among many for its speed and its estimate, "
    "which flatters both. Test it on samples of your own before you rely on it."
)

_SIZES = (
    "It is compiled for inputs of the sizes that all your samples have ({sizes}). Inputs of other sizes get the same "
    "network compiled for any, which is slower."
)


def look(result: Result) -> str:
    """``look 2 at the confirm samples: each bound at 99.24 %, so that all looks together keep 95 % confidence``."""
    level = 1 - worn_alpha(1 - result.confidence, result.looks)
    return (
        f"look {result.looks} at the confirm samples: each bound at {level * 100:.4g} %, "
        f"so that all looks together keep {result.confidence * 100:g} % confidence"
    )


def _elsewhere(result: Result) -> list[str]:
    """Where the speed holds."""
    sizes = result.winner.candidate.settings.get("sizes")
    return [
        *([_SIZES.format(sizes=_spelt(str(sizes)))] if sizes else []),
        "The speed holds on this machine, with these versions and settings; on another, run hasten verify first.",
        "Latency is one request after another in a warm process; a server under load may behave differently.",
    ]


def _spelt(sizes: str) -> str:
    """``x 1x3x224x224``: sizes of inputs as a person writes them."""
    try:
        return ", ".join(f"{name} {'x'.join(map(str, size))}" for name, size in json.loads(sizes).items())
    except ValueError:  # cut, because it is long
        return sizes


def _better(result: Result) -> list[str]:
    """A score that rises by more than chance is either luck of rounding or samples that know each other."""
    seen = result.winner.confirm
    if seen is None or not known(seen.upper) or seen.upper >= 0:
        return []
    return [
        "The score rose by more than chance explains. Coarser arithmetic can do that by accident; so can samples that "
        "the splits share under other names. Look for near-copies, and give them one value of --groups."
    ]


def share_tested(result: Result) -> str:
    """How many of the confirm samples the test took, where it was not all of them; else empty."""
    seen = result.winner.confirm or next((t.confirm for t in result.trials if t.confirm), None)
    if seen is None or seen.split != "confirm" or not 0 < seen.n < result.provable.n_confirm:
        return ""
    return (
        f"The test took {seen.n:,} of the {result.provable.n_confirm:,}, drawn at random: the sizes of its looks were "
        "fixed beforehand, each look has a part of the level, and this one was enough."
    )


def limits(result: Result) -> list[str]:
    """What the test does not say, in plain words."""
    warned = [ESTIMATED] if result.estimated else []
    if not result.provable.n_confirm:
        return [UNTESTED, *warned, *_elsewhere(result)]
    wrong = 1 - result.confidence
    one_in = f"1 time in {round(1 / wrong)}" if 0 < wrong < 1 else "never"
    lines = [
        *_better(result),
        *warned,
        "The accuracy holds for data like yours: samples drawn as the confirm split was. "
        "If what you serve drifts away from it, measure again.",
        f"If the winner really lost more than the budget, a test like this one would still pass it at most {one_in}.",
        *_elsewhere(result),
    ]
    if result.looks > 1:
        lines.append(
            f"These samples have now answered {count(result.looks, 'question')}; each one more is tested harder, "
            "so that nobody is told yes by luck in the end. Fresh samples start again."
        )
    seen = quality(result.winner)
    if seen is not None and seen.metric == "agreement":
        lines.append(
            "There were no labels: agreement with the original network says nothing about who of the two is right."
        )
    return lines
