"""Does a search return what is there, from 60 to 300 samples? ``python -m benchmarks.small_data [--draws 200]``.

No network runs: samples are drawn from the records of ``small_data_record``, split, screened on the pilot and tested as
a search does, with the rules as they are now (``finalists``, the looks of ``spending``, the fallback of ``looks``) and
as they were before (four tenths of the samples choose, candidates that look over the budget on them are out, a fixed
sequence ends at the first failure). A draw counts as won when a candidate is returned, certified or as an estimate,
that is 1.3 times as fast and truly (on all samples) loses less than half the budget, where there is one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hasten.budget import Budget
from hasten.looks import Look, Tried
from hasten.measure.quality import assess, judgeable, unjudged
from hasten.measure.sequential import worn_alpha
from hasten.measure.spending import plan
from hasten.metrics import resolve
from hasten.search import finalists
from hasten.search.field import Run
from hasten.splits import Splits
from hasten.trial import Candidate, Quality, Split, Step, Timing, Trial

RECORDS = Path(__file__).with_name("results") / "small_data"
RESULTS = Path(__file__).with_name("results") / "small_data.json"
SIZES, BUDGETS = (60, 150, 300), (0.01, 0.02, 0.05)
FAST, HALF = 1.3, 0.5
WEIGHED = 16
SPEEDS = {
    "bf16": 1.7, "dynamic": 1.5, "8-bit": 1.15, "4-bit": 1.3, "openvino int8": 2.6, "onnxruntime int8": 2.3,
}  # fmt: skip
OLD_LEVEL = 0.05 * 6 / np.pi**2


@dataclass(frozen=True)
class Record:
    """Scores of a network's candidates on all samples, and what they truly lose."""

    name: str
    metric: Any
    baseline: NDArray[np.float64]
    rows: NDArray[np.float64]
    harm: NDArray[np.float64]
    speed: NDArray[np.float64]
    labels: list[str]

    @property
    def drops(self) -> NDArray[np.float64]:
        """The drop of each candidate on all samples."""
        whole = self.metric.value(self.baseline)
        return np.array([whole - self.metric.value(rows) for rows in self.rows])


def read(path: Path) -> Record:
    """A stored record."""
    with np.load(path) as kept:
        whole = kept["baseline"].astype(np.float64), kept["candidates"].astype(np.float64)
        metric = resolve(str(kept["metric"]))
        labels = [str(label) for label in kept["labels"]]
        return Record(path.stem, metric, *whole, kept["harm"], np.array([nominal(x) for x in labels]), labels)


def nominal(label: str) -> float:
    """A speed-up by kind: what is replayed is the choice among candidates, and not the clock."""
    narrow = next(fast for kind, fast in SPEEDS.items() if kind in label)
    share = float(label.split(", ")[1].split("%")[0]) / 100 if "% float" in label else 0.0
    return 1 / (share + (1 - share) / narrow)


@dataclass(frozen=True)
class Drawn:
    """One draw of samples in an order that splits cut."""

    record: Record
    ids: NDArray[np.int64]
    budget: Budget

    def quality(self, k: int, ids: NDArray[np.int64], split: Split, alpha: float) -> Quality:
        """Candidate ``k`` on a part."""
        r = self.record
        if not len(ids) or not judgeable(r.metric, self.budget, r.baseline[ids]):
            return unjudged(r.metric, split)
        return assess(r.metric, self.budget, r.baseline[ids], r.rows[k][ids], split=split, alpha=alpha)


def now(drawn: Drawn, random: np.random.Generator) -> tuple[int | None, int | None]:
    """(the certified candidate, the estimated one) by today's rules."""
    n, r = len(drawn.ids), drawn.record
    share = n // (10 if n >= 300 else 8)
    pilot, tested = drawn.ids[:share], drawn.ids[(2 if n >= 300 else 1) * share :]
    harm = r.harm[:, random.permutation(r.harm.shape[1])[: min(WEIGHED, len(pilot))]].mean(axis=1)
    run, keys = stand_in(drawn, pilot, tested, harm)
    order = [keys.index(key) for key in finalists.finalists(run)]
    look, passed, seen = Look(""), list[int](), dict[int, Quality]()
    for k in order:
        if passed and r.speed[k] <= max(r.speed[passed]):
            continue
        share_of = look.share(str(k))
        for size, level in plan(len(tested), share_of * worn_alpha(0.05, 1)):
            seen[k] = drawn.quality(k, tested[:size], "confirm", level)
            if seen[k].met:
                passed.append(k)
                break
        look.tests[str(k)] = Tried(share_of, k in passed)
    certified = max(passed, key=lambda k: r.speed[k], default=None)
    return certified, estimated(drawn, run, keys, seen, certified)


def stand_in(
    drawn: Drawn, pilot: NDArray[np.int64], tested: NDArray[np.int64], harm: NDArray[np.float64]
) -> tuple[Run, list[str]]:
    """A run whose candidates are timed, weighed and screened, and their keys."""
    r = drawn.record
    calibrate = pilot if len(drawn.ids) < 300 else pilot + len(r.baseline)
    store = SimpleNamespace(sequential=False, groups=None)
    run = Run(
        folder=Path(), source=Path(), inputs=(), outputs=(), budget=drawn.budget, given="given",
        evaluator=cast(Any, SimpleNamespace(store=store, metric=r.metric)), work=cast(Any, None),
        splits=Splits(calibrate, pilot, tested), listen=lambda _: None,
    )  # fmt: skip
    keys = []
    for k, label in enumerate(r.labels):
        quality = drawn.quality(k, pilot, "search", 0.05)
        hopeless = quality.n > 0 and drawn.quality(k, pilot, "search", 0.01).lower > drawn.budget.max_drop
        candidate = Candidate(steps=(Step(name=label),), engine="onnxruntime", label=label)
        fast = float(r.speed[k])
        timed = Timing(speedup=fast, low=fast, high=fast, pairs=12, median_ms=1.0, baseline_ms=fast)
        keys.append(candidate.key)
        run.trials[candidate.key] = Trial(
            candidate=candidate, status="rejected" if hopeless else "ok", search=quality, timing=timed,
            harm=float(harm[k]),
        )  # fmt: skip
    return run, keys


def estimated(
    drawn: Drawn, run: Run, keys: Sequence[str], seen: dict[int, Quality], certified: int | None
) -> int | None:
    """The best candidate without a certificate whose estimate is inside, if clearly faster."""
    over = max(1.0, drawn.record.speed[certified] if certified is not None else 1.0)

    def worth(k: int) -> float:
        quality = seen.get(k) or run.trials[keys[k]].search
        fast = drawn.record.speed[k]
        able = quality is not None and run.trials[keys[k]].status == "ok" and quality.drop <= drawn.budget.max_drop
        return quality.chance * log(fast / over) if able and fast >= 1.1 * over and quality is not None else 0.0

    best = max((k for k in range(len(keys)) if k != certified), key=worth, default=None)
    return best if best is not None and worth(best) > 0 else None


def before(drawn: Drawn, _: np.random.Generator) -> tuple[int | None, int | None]:
    """The same by the rules before: nothing lossy below 60 samples, labelled pilot, fixed sequence, no estimates."""
    n, r, limit = len(drawn.ids), drawn.record, drawn.budget.max_drop
    calibrate = max(24, min(128, n // 8))
    search = int((n - calibrate) * 0.4)
    pilot, tested = drawn.ids[calibrate : calibrate + search], drawn.ids[calibrate + search :]
    looks = {k: drawn.quality(k, pilot, "search", 0.05) for k in range(len(r.labels))}
    able = sorted(
        (k for k, q in looks.items() if q.n and q.drop <= limit and r.speed[k] > 1.03), key=lambda k: -r.speed[k]
    )
    near = [k for k in able if r.speed[k] >= 0.75 * r.speed[able[0]]]
    harm = r.harm.mean(axis=1)
    chosen = {*near[:2], *near[-1:], *sorted(able, key=lambda k: (looks[k].upper, harm[k]))[:1]}
    passed = list[int]()
    for k in sorted(chosen, key=lambda k: (looks[k].upper > 0.7 * limit, harm[k])):
        if not drawn.quality(k, tested, "confirm", OLD_LEVEL).met:
            break
        passed.append(k)
    return max(passed, key=lambda k: r.speed[k], default=None), None


def replay(record: Record, n: int, limit: float, draws: int) -> dict[str, Any]:
    """Rates over draws of ``n`` samples, by both sets of rules."""
    random, budget = np.random.default_rng([n, int(limit * 1000)]), Budget(limit=limit)
    drops, found = record.drops, {"before": np.zeros(4), "now": np.zeros(4)}
    good = (record.speed >= FAST) & (drops < HALF * limit)
    for _ in range(draws):
        drawn = Drawn(record, random.permutation(len(record.baseline))[:n], budget)
        for name, rules in (("before", before), ("now", now)):
            certified, other = rules(drawn, random)
            returned = [k for k in (certified, other) if k is not None]
            found[name] += (
                certified is not None and drops[certified] >= limit,
                certified is not None,
                any(good[k] for k in returned),
                log(max([1.0, *(record.speed[k] for k in returned if drops[k] < limit)])),
            )
    return {
        "network": record.name, "n": n, "budget": limit, "there": bool(good.any()),
        **{name: {"false": v[0], "certified": v[1], "won": v[2], "gain": float(np.exp(v[3]))}
           for name, v in ((name, (counts / draws).tolist()) for name, counts in found.items())},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    rows = [replay(read(p), n, b, draws) for p in sorted(RECORDS.glob("*.npz")) for n in SIZES for b in BUDGETS]
    RESULTS.write_text(json.dumps({"draws": draws, "rows": rows}, indent=1) + "\n")
    head = "false  certified    won   gain"
    print(f"{'network':14}{'n':>5}{'budget':>8}   {'before: ' + head:40}{'now: ' + head}")
    for row in rows:
        told = "    ".join(line(row[name], there=row["there"]) for name in ("before", "now"))
        print(f"{row['network']:14}{row['n']:>5}{row['budget']:>8.0%}   {told}", flush=True)


def line(rates: dict[str, float], *, there: bool) -> str:
    """Rates of one set of rules."""
    won = f"{rates['won']:7.0%}" if there else f"{'-':>7}"
    return f"{rates['false']:12.1%}{rates['certified']:10.0%}{won}{rates['gain']:7.2f}"


if __name__ == "__main__":
    main()
