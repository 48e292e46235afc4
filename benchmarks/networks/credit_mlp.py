"""Will a credit-card holder default? An MLP trained here in seconds, 20,000 rows to train, 10,000 held out."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmarks.networks import bundle
from benchmarks.networks.bundle import Array, Bundle, Meta

TARGET = "default-payment-next-month"
WIDTHS = (512, 256, 128)
EPOCHS, BATCH, RATE, DECAY = 8, 256, 1e-3, 1e-3


def table(path: Path) -> tuple[Array, Array]:
    """Features float32 [30000, 32] and defaults int64 [30000]."""
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    values = np.array(rows, np.float64)
    target = header.index(TARGET)
    return np.delete(values, [0, target], 1).astype(np.float32), values[:, target].astype(np.int64)


def prepare(packages: Path, folder: Path, *, seed: int = 0) -> Bundle:
    """Every third row is held out; features are standardised by the others."""
    import torch
    from torch import nn

    from benchmarks.networks.torch_export import to_onnx

    features, labels = table(packages / "data_tabular/UCI_Credit_Card.csv")
    held = np.arange(len(labels)) % 3 == 0
    mean, deviation = features[~held].mean(0), features[~held].std(0)
    scaled = ((features - mean) / deviation).astype(np.float32)
    torch.manual_seed(seed)
    sizes = (scaled.shape[1], *WIDTHS)
    hidden = [
        part for pair in zip(sizes, WIDTHS, strict=False) for part in (nn.Linear(*pair), nn.ReLU(), nn.Dropout(0.3))
    ]
    network = nn.Sequential(*hidden, nn.Linear(WIDTHS[-1], 1), nn.Sigmoid(), nn.Flatten(0))
    inputs, targets = torch.from_numpy(scaled[~held]), torch.from_numpy(labels[~held].astype(np.float32))
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(inputs)).split(BATCH):
            optimiser.zero_grad()
            nn.functional.binary_cross_entropy(network(inputs[part]), targets[part]).backward()
            optimiser.step()
    model = to_onnx(network, (inputs[:4],), ["x"], "probability", ("batch",))
    meta = Meta(
        name="credit_mlp",
        metric="auc",
        batch=64,
        licence="CC-BY-4.0 (data)",
        notes=f"{int(held.sum())} held-out rows, MLP {'-'.join(map(str, WIDTHS))}",
    )
    return bundle.write(folder, model, {"x": scaled[held], "labels": labels[held]}, meta)
