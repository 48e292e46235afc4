"""Which digit is it? An MLP far wider than its task, trained here on real digits, every other one held out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.networks import bundle
from benchmarks.networks.bundle import Bundle, Meta
from benchmarks.networks.vgg_digits import digits

WIDTHS = (2048, 2048, 1024)
EPOCHS, BATCH, RATE, DECAY = 12, 64, 5e-4, 1e-2


def prepare(packages: Path, folder: Path, *, seed: int = 0) -> Bundle:
    """Half of the pictures train it, with a little noise."""
    import torch
    from torch import nn

    from benchmarks.networks.torch_export import to_onnx

    images, labels = digits(packages / "data_mnist5k/mnist_5k.csv.gz")
    rows = images.reshape(len(images), -1)
    held = np.random.default_rng(seed).permutation(len(labels)) % 2 == 0
    torch.manual_seed(seed)
    sizes = (rows.shape[1], *WIDTHS)
    hidden = [
        part for pair in zip(sizes, WIDTHS, strict=False) for part in (nn.Linear(*pair), nn.ReLU(), nn.Dropout(0.3))
    ]
    network = nn.Sequential(*hidden, nn.Linear(WIDTHS[-1], 10))
    inputs, targets = torch.from_numpy(rows[~held]), torch.from_numpy(labels[~held])
    optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    plan = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(inputs)).split(BATCH):
            noisy = inputs[part] + 0.1 * torch.randn_like(inputs[part])
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(noisy), targets[part]).backward()
            optimiser.step()
        plan.step()
    model = to_onnx(network, (inputs[:4],), ["x"], "logits", ("batch",))
    meta = Meta(
        name="wide_mlp",
        metric="top1",
        licence="BSD-3-Clause (package), CC-BY-SA-3.0 (digits)",
        notes=f"{int(held.sum())} held-out digits, MLP {'-'.join(map(str, WIDTHS))}",
    )
    return bundle.write(folder, model, {"x": rows[held], "labels": labels[held]}, meta)
