"""Torch networks for tests, and exported programs that somebody tampered with."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np


class Runs:
    """Unpickling one of these writes the file ``canary``."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.touch, (self.canary,)


def cnn(seed: int = 0) -> Any:
    """A small convolutional network with batch norm: x[N,3,16,16] -> y[N,10]."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    images = torch.randn(64, 3, 16, 16)
    with torch.no_grad():
        for _ in range(50):
            network(images)  # the statistics of batch norm
        network.eval()[-1].weight.mul_(20)
        network[-1].bias.sub_(network(images).mean(0))
    return network


def make() -> Any:
    """What ``--module tests.doors.programs:make`` names."""
    return cnn(seed=1)


def make_pair() -> Any:
    """As ``make``, with an example input."""
    return cnn(seed=1), (np.zeros((1, 3, 16, 16), np.float32),)


def save(path: Path, module: Any = None, example: Any = None) -> Path:
    """An exported program with a free batch."""
    import torch

    inputs = (torch.randn(2, 3, 16, 16),) if example is None else example
    free = tuple({0: torch.export.Dim("batch")} for _ in inputs)
    torch.export.save(torch.export.export(module or cnn(), inputs, dynamic_shapes=free), path)
    return path


def tampered(
    source: Path,
    target: Path,
    *,
    graph: Callable[[Any], None] | None = None,
    members: Mapping[str, bytes] | None = None,
    config: Callable[[Any], None] | None = None,
    words: Mapping[str, str] | None = None,
) -> Path:
    """``source`` with its graph or its constants' table edited, ``words`` replaced there, or entries added."""
    extra = dict(members or {})
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as out:
        root = archive.namelist()[0].partition("/")[0]
        for name in archive.namelist():
            short, data = name.partition("/")[2], archive.read(name)
            edit = {"models/model.json": graph, "data/constants/model_constants_config.json": config}.get(short)
            if edit is not None:
                value = json.loads(data)
                edit(value)
                text = json.dumps(value)
                for word, meant in (words or {}).items():
                    text = text.replace(word, meant)
                data = text.encode()
            out.writestr(name, extra.pop(short, data))
        for short, data in extra.items():
            out.writestr(f"{root}/{short}", data)
    return target


def pickled(value: Any) -> bytes:
    """What ``torch.save`` writes."""
    import torch

    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()
