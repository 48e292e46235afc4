"""One sentence on what an engine really ran: ``"int8: 52 of 53 convolutions, 1 of 1 matrix products"``."""

from __future__ import annotations

from collections import Counter

ORDER = ("int4", "int8", "bf16", "f16")
PLURAL_TO_ONE = {
    "convolutions": "convolution",
    "matrix products": "matrix product",
    "recurrent layers": "recurrent layer",
}


def describe(counts: Counter[tuple[str, str]]) -> str:
    """Narrow formats first, each as a share of its kind; plain ``f32`` when nothing narrow ran.

    ``counts`` maps (kind, precision) to how many layers ran so; the empty kind is ignored.

    >>> describe(Counter({("convolutions", "int8"): 52, ("convolutions", "f32"): 1}))
    'int8: 52 of 53 convolutions'
    """
    totals: Counter[str] = Counter()
    for (kind, _), count in counts.items():
        totals[kind] += count
    narrow = []
    for precision in ORDER:
        shares = [
            f"{counts[kind, precision]} of {totals[kind]} {kind if totals[kind] != 1 else PLURAL_TO_ONE[kind]}"
            for kind in PLURAL_TO_ONE
            if counts[kind, precision]
        ]
        narrow += [f"{precision}: {', '.join(shares)}"] if shares else []
    return "; ".join(narrow) or "f32"
