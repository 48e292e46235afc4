"""Which digit is it? A VGG-style CNN far too large for that, trained here on real digits, every other one held out."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from benchmarks.networks import bundle
from benchmarks.networks.bundle import Array, Bundle, Meta

SIDE = 28
STAGES = ((48, 48), (96, 96), (192, 192))  # channels of each convolution; a pooling ends a stage
HIDDEN = 512
EPOCHS, BATCH, RATE, DECAY, SHIFT = 14, 64, 1e-3, 1e-2, 2


def digits(path: Path) -> tuple[Array, Array]:
    """Pictures float32 [5000, 1, 28, 28] in 0 to 1 and digits int64 [5000]."""
    with gzip.open(path, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    return table[:, :-1].reshape(-1, 1, SIDE, SIDE) / 255, table[:, -1].astype(np.int64)


def prepare(packages: Path, folder: Path, *, seed: int = 0) -> Bundle:
    """Half of the pictures train it, moved about by up to two pixels."""
    import torch
    from torch import nn

    from benchmarks.networks.torch_export import to_onnx

    images, labels = digits(packages / "data_mnist5k/mnist_5k.csv.gz")
    held = np.random.default_rng(seed).permutation(len(labels)) % 2 == 0
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    channels = 1
    for stage in STAGES:
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    flat = channels * (SIDE // 2 ** len(STAGES)) ** 2
    head = [nn.Flatten(), nn.Linear(flat, HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, 10)]
    network = nn.Sequential(*layers, *head)
    inputs, targets = torch.from_numpy(images[~held]), torch.from_numpy(labels[~held])
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(inputs)).split(BATCH):
            down, right = torch.randint(-SHIFT, SHIFT + 1, (2,)).tolist()
            moved = torch.roll(inputs[part], (down, right), (2, 3))
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(moved), targets[part]).backward()
            optimiser.step()
        plan.step()
    model = to_onnx(network, (inputs[:4],), ["x"], "logits", ("batch",))
    meta = Meta(
        name="vgg_digits",
        metric="top1",
        licence="BSD-3-Clause (package), CC-BY-SA-3.0 (digits)",
        notes=f"{int(held.sum())} held-out digits, VGG {'-'.join(str(w) for s in STAGES for w in s)}-{HIDDEN}",
    )
    return bundle.write(folder, model, {"x": images[held], "labels": labels[held]}, meta)
