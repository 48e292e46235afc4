"""What functions of a search reply from another process: typed and bounded, for ``worker.once`` and ``field.study``.

A key that is not listed here does not arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import msgspec

from hasten.graph.regions import OUTSIDE, Region
from hasten.model import Origin, TensorSpec
from hasten.search.shrink import Knob
from hasten.trial import Scalar

Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Number = Annotated[float, msgspec.Meta(ge=0, lt=1e300)]
Text = Annotated[str, msgspec.Meta(max_length=100_000)]
Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64,128}$")]
Harm = Annotated[float, msgspec.Meta(ge=-1e300, lt=1e300)]


class Facts(TypedDict):
    """What an ONNX file holds (``build.inspect``)."""

    opset: int | None
    domains: dict[str, int]
    ir_version: int
    producer: Text
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    nodes: Count
    parameters: Count
    weight_bytes: Count
    weight_types: dict[str, Count]
    macs: Count | None
    ops: dict[str, Count]
    quantized: list[Text]
    control_flow: list[Text]
    custom_ops: list[Text]
    runtime_ops: list[Text]
    changed: list[Text]
    dynamic: list[Text]
    ideas: list[Text]


class Admitted(TypedDict):
    """An ONNX file that was checked and copied (``build.admit``)."""

    staged: Text
    graph: Text  # the same file, or what is computed in its place
    facts: Facts


class Converted(TypedDict):
    """A graph behind a front door (``frontends.door.convert``)."""

    onnx: Text
    told: list[Text]
    origin: Origin


class Probed(TypedDict):
    """An engine by its own account (``registry.probe``)."""

    name: Text
    version: Text | None
    formats: list[Text]
    missing: Text | None


class Built(TypedDict):
    """An artefact, or why there is none (``build.build``)."""

    artefact: NotRequired[Text]
    bytes: NotRequired[Count]
    digest: NotRequired[Digest]
    seconds: NotRequired[Number]
    history: NotRequired[list[Text]]
    not_applicable: NotRequired[Text]


class Begun(TypedDict):
    """Data at a path is recognised (``samples.reader.begin``)."""

    images: bool


class Advanced(TypedDict):
    """So many samples are written (``samples.reader.advance``)."""

    done: Count
    finished: bool


class Difference(TypedDict):
    """The first inner tensor that differs (``conversion.first_difference``)."""

    node: Text | None
    error: Number
    compared: Count


class Rounded(TypedDict):
    """The calibration with the least harm (``harm.choose_rounding``)."""

    options: NotRequired[dict[str, Scalar]]
    harm: NotRequired[dict[str, Harm]]
    attends: NotRequired[bool]
    not_applicable: NotRequired[Text]


class Surveyed(TypedDict):
    """The regions of a network, and the region of each operator and tensor (``harm.survey``)."""

    regions: list[Region]
    places: dict[str, int]


class Harms(TypedDict):
    """The harm of each region by format (``harm.measure``)."""

    harm: list[dict[str, Harm]]
    samples: Count
    seconds: Number


class Shrinkable(TypedDict):
    """What could be taken out of a network (``shrink.survey``)."""

    knobs: NotRequired[list[Knob]]
    work: NotRequired[Number]
    numbers: NotRequired[Number]
    not_applicable: NotRequired[Text]


def built_in(directory: Path) -> Callable[[Built], str]:
    """A check that an artefact lies below ``directory``, and that all of it is reported."""

    def wrong(made: Built) -> str:
        if "not_applicable" in made:
            return "an artefact that does not apply" if "artefact" in made else ""
        lacking = {"artefact", "bytes", "digest", "seconds", "history"} - made.keys()
        if lacking:
            return f"no {min(lacking)}"
        place = Path(made["artefact"])
        inside = place.exists() and place.resolve().is_relative_to(directory.resolve())
        return "" if inside else "an artefact that is not where it was to be"

    return wrong


def either(*names: str) -> Callable[[Mapping[str, object]], str]:
    """A check that either all of ``names`` are reported, or why they do not apply."""
    return lambda found: "" if ("not_applicable" in found) != (set(names) <= found.keys()) else "half an answer"


def placed(found: Surveyed) -> str:
    """What is wrong with a survey: places point at regions, and regions at each other."""
    count = len(found["regions"])
    reads = (source for region in found["regions"] for _, source, _ in region.reads)
    wrong = any(not OUTSIDE <= place < count for place in (*found["places"].values(), *reads))
    return "a region that is not there" if wrong or not all(r.linear for r in found["regions"]) else ""


def as_many(count: int) -> Callable[[Sequence[object]], str]:
    """A check for the length of a list."""
    return lambda found: "" if len(found) == count else f"{len(found)} answers to {count} questions"


def named(known: Collection[str]) -> Callable[[Mapping[str, object]], str]:
    """A check that only ``known`` names are reported."""
    return lambda found: "" if found.keys() <= set(known) else "a name that nobody asked for"
