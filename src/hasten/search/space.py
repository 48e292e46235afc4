"""What a search tries: literal lists of candidates. A search space is instances, not a language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from hasten import registry
from hasten.errors import EnvironmentFault
from hasten.trial import Candidate, Scalar, Step

READ_PACKED = ("onnxruntime", "openvino")  # engines with kernels for MatMulNBits
CLEAN = Step(name="clean")
FOR_INT8 = Step(name="clean", options={"for_": "int8"})


def as_given(engine: str) -> Candidate:
    """The network as it is, on the engine that serves it today, with that engine's stock settings."""
    settings = dict(registry.find("engines", engine).settings(1)[0])
    return Candidate(steps=(), engine=engine, settings=settings, lossless=True, label="as given")


def usable_engines(wanted: Sequence[str] | None) -> tuple[dict[str, Any], list[str]]:
    """Engines that can run here by name, and a sentence for each that cannot.

    Raises:
        EnvironmentFault: none of those asked for can be used.
    """
    found, absent = {}, []
    for name in wanted or registry.names("engines"):
        engine, reason = registry.engine(name)
        if reason:
            absent.append(f"{name}: {reason}")
        else:
            found[name] = engine
    if not found:
        raise EnvironmentFault("no engine can be used here", cause="; ".join(absent))
    return found, absent


def with_threads(settings: dict[str, Scalar], threads: int | None) -> dict[str, Scalar]:
    """The user's thread count wins over ours."""
    return {**settings, "threads": threads} if threads else settings


def choices(engine: Any, cores: int, threads: int | None, sizes: str) -> list[dict[str, Scalar]]:
    """The engine's settings that keep the arithmetic, the stock ones first.

    Where it can compile for ``sizes`` of inputs, the others only with them.
    """
    plain = [with_threads(s, threads) for s in engine.settings(cores) if not (threads and "threads" in s)]
    if not sizes or not getattr(engine, "fixes_sizes", False):
        return plain
    return [plain[0], *({**settings, "sizes": sizes} for settings in plain)]


def _tuned(settings: Mapping[str, Scalar]) -> str:
    """``", sizes fixed, 2 threads"``; empty where the engine decides."""
    return (", sizes fixed" if "sizes" in settings else "") + _threads(settings)


def _threads(settings: Mapping[str, Scalar]) -> str:
    """``", 2 threads"``; empty where the engine decides."""
    count = settings.get("threads")
    return "" if count is None else f", {count} thread" + ("" if count == 1 else "s")


def lossless(engines: dict[str, Any], cores: int, threads: int | None, sizes: str = "") -> list[Candidate]:
    """The cleaned network on every engine and setting whose arithmetic is float32."""
    found = []
    for name, engine in engines.items():
        for settings in choices(engine, cores, threads, sizes):
            label = f"{name} float32{_tuned(settings)}"
            found.append(Candidate(steps=(CLEAN,), engine=name, settings=settings, lossless=True, label=label))
    return found


def narrow_floats(
    engines: dict[str, Any], base: dict[str, dict[str, Scalar]], cores: int, threads: int | None, sizes: str = ""
) -> list[Candidate]:
    """The cleaned network in each narrower float that an engine has, with each of its settings.

    Where the fastest float32 settings (``base``) fix sizes or do not, so do these.
    """
    found = []
    for name, engine in engines.items():
        several = choices(engine, cores, threads, sizes)
        alike = [s for s in several if name not in base or ("sizes" in s) == ("sizes" in base[name])]
        for narrow in engine.lossy_settings(cores):
            for settings in alike:
                chosen = {**settings, **narrow}
                label = f"{name} {narrowed(narrow)}{_tuned(chosen)}"
                found.append(Candidate(steps=(CLEAN,), engine=name, settings=chosen, label=label))
    return found


def led(before: Sequence[Step]) -> tuple[Step, ...]:
    """The clean-up, unless the steps ``before`` begin with another, and those steps."""
    return (*before,) if before and before[0].name == CLEAN.name else (CLEAN, *before)


def dynamic(
    engines: dict[str, Any],
    base: dict[str, dict[str, Scalar]],
    *,
    per_tensor: bool = False,
    before: Sequence[Step] = (),
) -> list[Candidate]:
    """Dynamic int8: only ONNX Runtime has the fused kernels; elsewhere it runs as float32 with extra work."""
    if "onnxruntime" not in engines or "int8" not in engines["onnxruntime"].formats():
        return []
    return [
        Candidate(
            steps=(*led(before), Step(name="quantize_dynamic", options={"per_channel": False} if per_tensor else {})),
            engine="onnxruntime",
            settings=base.get("onnxruntime", {}),
            label="onnxruntime dynamic int8",
        )
    ]


def weight_only(
    engines: dict[str, Any], base: dict[str, dict[str, Scalar]], before: Sequence[Step] = ()
) -> list[Candidate]:
    """Products whose weights alone are in eight or four bits: for networks that wait for their weights."""
    return [
        Candidate(
            steps=(
                *led(before),
                Step(name="quantize_weights", options={"bits": bits, "block": 32, "method": "kquant"}),
            ),
            engine=name,
            settings=base.get(name, {}),
            label=f"{name} {bits}-bit weights",
        )
        for name in engines
        if name in READ_PACKED
        for bits in (8, 4)
    ]


def static(
    name: str, engine: Any, chosen: Sequence[Any], base: dict[str, Scalar], floats: Sequence[Mapping[str, Scalar]],
    before: Sequence[Step] = (),
) -> list[Candidate]:  # fmt: skip
    """Static int8 by the passes ``chosen``; each also with those narrow ``floats`` for the rest that pay here.

    The steps ``before`` prepare the network for it.
    """
    found = []
    for variant in chosen:
        steps = (*led(before), as_step("quantize", variant))
        label = f"{name} int8 ({', '.join([told(variant), *map(spoken, before)])}){_threads(base)}"
        found.append(Candidate(steps=steps, engine=name, settings=base, label=label))
        for narrow in (n for n in narrowings(engine) if n in floats):
            both = f"{label} + {narrowed(narrow)}"
            found.append(Candidate(steps=steps, engine=name, settings={**base, **narrow}, label=both))
    return found


def spoken(step: Step) -> str:
    """A step that prepares for narrowing, in words."""
    return "inputs standardised in float" if step.name == CLEAN.name else step.name


def narrowings(engine: Any) -> list[dict[str, Scalar]]:
    """The settings that narrow an engine's arithmetic, whatever they are called."""
    return [dict(settings) for settings in engine.lossy_settings(0)]


def narrowed(lossy: Mapping[str, Scalar]) -> str:
    """A lossy setting in words: its precision by that name, else all of it, such as ``"fast_math=True"``."""
    return str(lossy.get("precision") or " ".join(f"{name}={value}" for name, value in sorted(lossy.items())))


def first_variants(scheme: str, options: dict[str, Any], attends: bool = False) -> list[Any]:
    """Everything that engines of this scheme run well in int8, rounded in the best way found.

    Where the network ``attends``, with its products in float and in eight bits: which is faster only the clock tells.
    """
    from hasten.passes.quantize import variants

    best = replace(variants(scheme)[0], **options)
    return [best, replace(best, attention="int8")] if attends and scheme == "openvino" else [best]


def without(candidate: Candidate, names: Sequence[str]) -> tuple[Step, ...]:
    """The steps of a statically quantized candidate with the linear operators ``names`` left in float."""
    *before, quantize = candidate.steps
    return (*before, replace(quantize, options={**quantize.options, "exclude": list(names)}))


def as_step(name: str, variant: Any) -> Step:
    """A pass with its options as a recipe step; defaults are written out, so that a recipe outlives them."""
    options = {f.name: getattr(variant, f.name) for f in fields(variant)}
    return Step(name=name, options={k: list(v) if isinstance(v, tuple) else v for k, v in options.items()})


def told(variant: Any) -> str:
    """The options in which a variant differs from its class's defaults, in words: ``"mse, depthwise float"``."""
    parts = [str(variant.ranges)]
    for f in fields(variant):
        value = getattr(variant, f.name)
        if f.name not in ("scheme", "ranges", "bias") and value != f.default:
            parts.append(f"{f.name} {', '.join(value) if isinstance(value, tuple) else value}")
    return ", ".join(parts)
