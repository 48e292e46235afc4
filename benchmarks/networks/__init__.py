"""The networks that hasten is measured on: name to the module that prepares it from fetched packages."""

from __future__ import annotations

NETWORKS = {
    "magika": "benchmarks.networks.magika",
    "ppocr_rec": "benchmarks.networks.ppocr_rec",
    "ppocr_cls": "benchmarks.networks.ppocr_cls",
    "ppocr_det": "benchmarks.networks.ppocr_det",
    "efficientnet_lite0": "benchmarks.networks.efficientnet_lite0",
    "efficientnet_views": "benchmarks.networks.efficientnet_views",
    "minilm_l6": "benchmarks.networks.minilm_l6",
    "minilm_l3": "benchmarks.networks.minilm_l3",
    "silero_vad": "benchmarks.networks.silero_vad",
    "credit_mlp": "benchmarks.networks.credit_mlp",
}
OVERSIZED = {  # trained too large on purpose: what structure is measured on, and nobody's contest
    "vgg_digits": "benchmarks.networks.vgg_digits",
    "wide_mlp": "benchmarks.networks.wide_mlp",
}
