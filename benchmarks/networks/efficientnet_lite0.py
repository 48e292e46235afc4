"""ImageNet classes of photographs. No labels for most: the score is agreement with the network as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.networks import bundle, photographs
from benchmarks.networks.bundle import Array, Bundle, Meta

SMALLEST = 96  # pixels on the shorter side
MOST = 2000  # images; the whole folder would give twice as many


def unlabelled(packages: Path) -> tuple[Array, Array]:
    """Distinct images float32 [n, 3, 224, 224] and, for each, the number of the file that it was cut from."""
    rows, names = [], []
    for name, image, side in photographs.sources(packages):
        if min(image.size) < SMALLEST:
            continue
        for view in [image, *photographs.cells(image)]:
            row = photographs.pixels(view, side)
            if row.std() > 0.05:  # an empty corner of a page says nothing
                rows.append(row)
                names.append(name)
    kept = bundle.distinct([row.tobytes() for row in rows])
    groups = np.unique([names[i] for i in kept], return_inverse=True)[1].astype(np.int64)
    order = np.random.default_rng(0).permutation(len(kept))[:MOST]
    return np.stack([rows[kept[i]] for i in order]), groups[order]


def exported(packages: Path) -> bytes:
    """The network as ONNX, with a free batch."""
    import torch

    from benchmarks.networks import imagenet_cnn
    from benchmarks.networks.torch_export import to_onnx

    network = imagenet_cnn.load(packages / "efficientnet_lite0/efficientnet-lite0-57934424.pth")
    return to_onnx(network, (torch.zeros(2, 3, 224, 224),), ["x"], "logits", ("batch",))


def prepare(packages: Path, folder: Path) -> Bundle:
    """All photographs whole and in regions; ``labelled.npz`` beside them holds the few with an ImageNet label."""
    model = exported(packages)
    images, groups = unlabelled(packages)
    meta = Meta(
        name="efficientnet_lite0",
        metric="agreement",
        budget="agree:99%",
        groups="groups",
        licence="Apache-2.0 (network); images for research use",
        notes=f"{len(images)} distinct images from {len(set(groups.tolist()))} files, unlabelled",
    )
    prepared = bundle.write(folder, model, {"x": images, "groups": groups}, meta)
    known = list(photographs.labelled(packages))
    labels = np.array([label for _, label in known], np.int64)
    np.savez(folder / "labelled.npz", x=np.stack([row for row, _ in known]), labels=labels)
    return prepared
