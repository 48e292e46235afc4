"""Realistic results for the tests of what people see: one a verdict."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.trial import (
    Candidate,
    Estimated,
    Group,
    Machine,
    Mixed,
    Provable,
    Quality,
    Result,
    Scalar,
    Status,
    Step,
    Timing,
    Trial,
)

BASELINE_MS = 21.43
OV: dict[str, Scalar] = {"precision": "f32", "hint": "LATENCY"}


def timing(speedup: float, *, spread: float = 0.022, pairs: int = 40, seed: int = 0) -> Timing:
    """Pairs scattered around ``speedup``."""
    logs = np.random.default_rng(seed).normal(0, spread, pairs)
    logs += np.log(speedup) - np.median(logs)
    return Timing(
        speedup=speedup,
        low=speedup * (1 - spread * 0.6),
        high=speedup * (1 + spread * 0.6),
        pairs=pairs,
        median_ms=BASELINE_MS / speedup,
        baseline_ms=BASELINE_MS,
        log_ratios=tuple(float(x) for x in logs),
        load_seconds=0.05,
    )


def quality(drop: float, upper: float, *, n: int = 2800, confirm: bool = True, limit: float = 0.01) -> Quality:
    """A top-1 comparison with a baseline of 76.1 %."""
    return Quality(
        split="confirm" if confirm else "search",
        metric="top1",
        n=n,
        baseline=0.761,
        value=0.761 - drop,
        drop=drop,
        lower=2 * drop - upper,
        upper=upper,
        p_value=0.003 if upper < limit else 0.41,
        method="Tango score",
        met=upper < limit,
        flips=int(n * 0.021),
        certificate="guaranteed" if upper < limit else "none",
        guaranteed_upper=upper,
        guaranteed_method="Tango score",
        hidden_share=1 - 0.05 ** (1 / n),
        chance=0.97 if upper < limit else 0.6,
    )


def trial(
    label: str,
    engine: str,
    speedup: float | None = None,
    drop: float | None = None,
    *,
    status: Status = "ok",
    reason: str = "",
    steps: tuple[Step, ...] = (),
    confirm: float | None = None,
    settings: dict[str, Scalar] | None = None,
    executed: str = "",
    size: int | None = 97_800_000,
) -> Trial:
    """A trial as the search records it; ``confirm`` is the upper bound on fresh data."""
    lossless = not steps and drop is None
    return Trial(
        candidate=Candidate(steps=steps, engine=engine, settings=settings or {}, lossless=lossless, label=label),
        status=status,
        reason=reason,
        stage="1/3 lossless" if lossless else "2/3 lossy",
        search=None if drop is None else quality(drop, drop + 0.006, n=1900, confirm=False),
        confirm=None if confirm is None or drop is None else quality(drop, confirm),
        timing=None if speedup is None else timing(speedup, seed=len(label)),
        executed=executed,
        artefact=f"{label.replace(' ', '_')}/model.onnx" if status == "ok" else "",
        bytes=size,
        peak_bytes=144_000_000 if size and size > 5e7 else 61_000_000,
        seconds=6.2,
    )


def _quantize(**options: Scalar) -> tuple[Step, ...]:
    return (Step(name="clean"), Step(name="quantize", options=dict(options)))


def trials() -> list[Trial]:
    """A dozen and a half fates."""
    int8 = 25_100_000
    return [
        trial("as given", "onnxruntime", 1.0, executed="f32"),
        trial(
            "one thread",
            "onnxruntime",
            0.61,
            status="slower",
            reason="0.61×: slower than as given",
            settings={"threads": 1},
        ),
        trial("openvino float32", "openvino", 1.38, settings=OV, executed="f32"),
        trial(
            "openvino, one thread",
            "openvino",
            0.83,
            settings={**OV, "threads": 1},
            status="slower",
            reason="0.83×: slower than as given",
        ),
        trial(
            "int8 squared error",
            "openvino",
            3.02,
            0.0014,
            steps=_quantize(ranges="mse"),
            confirm=0.0060,
            settings=OV,
            size=int8,
            executed="int8: 52 of 53 convolutions",
        ),
        trial(
            "int8 percentile",
            "openvino",
            2.96,
            0.0031,
            steps=_quantize(ranges="percentile"),
            confirm=0.0079,
            settings=OV,
            size=int8,
            executed="int8: 52 of 53 convolutions",
        ),
        trial(
            "int8 all layers",
            "openvino",
            3.41,
            0.0129,
            steps=_quantize(ranges="minmax", first=True),
            confirm=0.0190,
            settings=OV,
            size=int8,
            status="rejected",
            reason="drop up to 1.90 points on fresh data, over the budget of 1.00",
            executed="int8: 53 of 53 convolutions",
        ),
        trial(
            "int8 entropy",
            "openvino",
            2.99,
            0.0208,
            steps=_quantize(ranges="entropy"),
            settings=OV,
            size=int8,
            status="rejected",
            reason="drop 2.08 points on the search split",
            executed="int8: 52 of 53 convolutions",
        ),
        trial(
            "int8 squared error, onnxruntime",
            "onnxruntime",
            1.92,
            0.0016,
            steps=_quantize(ranges="mse", target="ort"),
            size=int8,
            executed="int8: 53 of 53 convolutions",
        ),
        trial(
            "int8 min-max, onnxruntime",
            "onnxruntime",
            1.94,
            0.0061,
            steps=_quantize(ranges="minmax", target="ort"),
            size=int8,
            executed="int8: 53 of 53 convolutions",
        ),
        trial(
            "dynamic int8",
            "onnxruntime",
            0.72,
            0.0011,
            steps=(Step(name="quantize_dynamic"),),
            size=int8,
            status="slower",
            reason="0.72×: convolutions gain nothing from dynamic int8",
        ),
        trial(
            "bf16",
            "openvino",
            2.21,
            0.0002,
            settings={"precision": "bf16", "hint": "LATENCY"},
            executed="bf16: 53 of 53 convolutions",
            confirm=0.0031,
        ),
        trial(
            "int8 per-tensor",
            "onnxruntime",
            None,
            0.221,
            steps=_quantize(ranges="minmax", per_channel=False),
            size=int8,
            status="rejected",
            reason="drop 22.1 points on the first 200 search samples",
        ),
        trial(
            "f16",
            "openvino",
            None,
            None,
            steps=(Step(name="half"),),
            size=None,
            status="unsupported",
            reason="no native f16 arithmetic on this machine",
        ),
        trial(
            "int8 with fused sums",
            "onnxruntime",
            None,
            None,
            steps=_quantize(fuse=True),
            size=None,
            status="crashed",
            reason="killed by SIGSEGV in onnxruntime after 1.2 s; the search went on",
        ),
        trial(
            "int8 two streams",
            "openvino",
            None,
            None,
            steps=_quantize(ranges="mse", streams=2),
            size=None,
            status="timeout",
            reason="no answer within 30 s",
        ),
        trial(
            "int8 zero-point free",
            "openvino",
            None,
            None,
            steps=_quantize(symmetric=True),
            size=None,
            status="skipped",
            reason="the time budget ended",
        ),
    ]


def mixed(regions: int = 14) -> Mixed:
    """A plan in which the second region does most of the harm."""
    groups = tuple(
        Group(
            name=f"conv_{i}", kind="depthwise convolution 3x3" if i % 2 else "convolution 1x1", linear=1,
            ms={"f32": 0.1 + 0.05 * (i % 5), "int8": 0.04 + 0.03 * (i % 3)},
            harm={"f32": 0.0, "int8": 0.08 if i == 1 else 0.001 * (i % 4)},
            chosen="f32" if i == 1 else "int8",
            why="kept f32: 78% of the harm, 5% of the time" if i == 1 else "saves 2.0% of the time for 1.0% of it",
        )
        for i in range(regions)
    )  # fmt: skip
    return Mixed(
        engine="openvino", wide="f32", candidate="abc", groups=groups, samples=16, seconds=21.0,
        foretold_ms=(6.4, 3.6, 3.9), measured_ms=(6.5, 3.5, 4.0),
        summed_harm=(0.0, 0.1, 0.03), joint_harm=(0.0, 0.09, 0.02),
    )  # fmt: skip


def met() -> Result:
    """Three times faster, proven."""
    rows = trials()
    given, tuned, winner = rows[0], rows[2], rows[4]
    return Result(
        model="resnet50.onnx",
        model_sha256="9f" * 32,
        data_sha256="31" * 32,
        metric="top1",
        metric_kind="binary",
        budget="1%",
        confidence=0.95,
        verdict="met",
        sentence="3.02× faster; the drop is at most 0.60 points with 95 % confidence.",
        as_given=given,
        tuned=tuned,
        winner=winner,
        trials=tuple(rows),
        provable=Provable(
            n_calibrate=300,
            n_search=1900,
            n_confirm=2800,
            smallest_drop=0.007,
            budget_provable=True,
            sentence="2,800 confirm samples can certify a drop of 0.7 points or more where 2 % of the answers change; "
            "your budget of 1 point can be certified",
        ),
        machine=Machine(
            cpu="AMD Ryzen 7 7840U",
            cores=8,
            instruction_sets=("avx2", "avx512f", "avx512_vnni", "avx512_bf16"),
            memory_bytes=32_000_000_000,
            system="Linux 6.8 x86_64",
            versions={"python": "3.11.9", "hasten": "0.1.0", "onnxruntime": "1.32.0", "openvino": "2026.4.1"},
        ),
        noise=timing(1.0, spread=0.011, seed=7),
        seed=0,
        seconds=134.0,
        peak_bytes=812_000_000,
        plans=(mixed(),),
        warnings=("load average 2.4 on 8 cores while timing began",),
    )


def tested() -> Result:
    """Three times faster; the bound holds when unseen samples resemble these."""
    base = met()
    rows = {t.candidate.key: _statistical(t) for t in base.trials}
    return replace(base, trials=tuple(rows.values()), winner=rows[base.winner.candidate.key])


def _statistical(found: Trial) -> Trial:
    """The same trial where a rare total loss would break the bound."""
    if found.confirm is None or not found.confirm.met:
        return found
    weaker = replace(found.confirm, certificate="statistical", guaranteed_upper=0.031, guaranteed_method="Gaffke")
    return replace(found, confirm=weaker)


def nothing_faster() -> Result:
    """A network that was best left alone."""
    base = met()
    rows = (
        base.trials[0],
        *(t for t in base.trials if t.status not in ("ok",)),
    )
    sentence = "Nothing faster inside the budget: the network as given stays."
    given = base.as_given
    return replace(
        base, verdict="nothing_faster", sentence=sentence, tuned=given, winner=given, trials=rows, warnings=()
    )


def undecided() -> Result:
    """A promising candidate that too few samples can neither pass nor fail."""
    base = tested()
    shaky = replace(base.winner, confirm=quality(0.0014, 0.0171, n=310))
    rows = tuple(shaky if t is base.winner else t for t in base.trials)
    return replace(
        base,
        verdict="undecided",
        sentence="Undecided: about 1,100 more samples would settle it.",
        winner=shaky,
        trials=rows,
        needed_samples=1100,
        looks=3,
    )


def undecided_kept() -> Result:
    """As ``undecided``, with the network as given in place until the proof is there."""
    base = undecided()
    return replace(base, winner=base.as_given, tuned=base.as_given)


def estimated() -> Result:
    """Nothing has a certificate; int8 is three times as fast, and its estimate on 120 samples is inside the budget."""
    base = met()
    seen = replace(quality(0.003, 0.015, n=120), lower=-0.009, met=False, chance=0.82)
    timed = replace(timing(3.02), waking=(3.0, 2.9, 3.1))
    shaky = replace(base.winner, confirm=seen, timing=timed, reason="drop 0.30 points: no certificate inside 1%")
    rows = tuple(shaky if t is base.winner else replace(t, confirm=None) for t in base.trials)
    sentence = "int8 squared error is 3.02× faster [2.98, 3.06] and has no certificate; about 420 more labelled samples"
    found = Estimated(trial=shaky, chance=0.82, needed_samples=420, needed="labelled", sentence=sentence)
    return replace(
        base, verdict="undecided", sentence=sentence, winner=base.as_given, tuned=base.as_given, trials=rows,
        needed_samples=420, estimated=found,
    )  # fmt: skip


def met_and_estimated() -> Result:
    """int8 has a certificate; with all layers in it, it is 3.41 times as fast, and has none."""
    base = met()
    bold = next(t for t in base.trials if t.candidate.label == "int8 all layers")
    seen = replace(quality(0.004, 0.012), chance=0.9)
    bolder = replace(bold, status="ok", reason="", confirm=seen, search=None)
    rows = tuple(bolder if t is bold else t for t in base.trials)
    sentence = "int8 all layers is 3.41× faster and has no certificate"
    found = Estimated(trial=bolder, chance=0.9, needed_samples=None, needed="labelled", sentence=sentence)
    return replace(base, trials=rows, estimated=found)


def many(n: int = 500) -> Result:
    """As ``met`` with ``n`` candidates."""
    base, rng = met(), np.random.default_rng(1)
    statuses: tuple[Status, ...] = ("ok", "rejected", "slower", "crashed")
    extra = [
        trial(
            f"int8 plan {i}",
            "openvino",
            float(rng.uniform(0.6, 3.4)) if i % 4 != 3 else None,
            float(rng.gamma(1.2, 0.008)) if i % 4 != 3 else None,
            status=statuses[i % 4],
            reason="" if i % 4 == 0 else "over the budget of 1.00 points",
            steps=_quantize(ranges="mse", wide=i),
            settings=OV,
            size=30_000_000,
        )
        for i in range(n - len(base.trials))
    ]
    return replace(base, trials=(*base.trials, *extra))
