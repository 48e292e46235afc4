"""Sentence embeddings, six layers: safetensors to torch to ONNX with free batch and length."""

from __future__ import annotations

from pathlib import Path

from benchmarks.networks import bundle, glosses
from benchmarks.networks.bundle import Array, Bundle, Meta


def prepare(packages: Path, folder: Path) -> Bundle:
    """3,000 dictionary definitions, padded to 64 tokens."""
    import torch

    from benchmarks.networks import sentence_encoder
    from benchmarks.networks.torch_export import to_onnx

    encoder = sentence_encoder.load(packages / "minilm_l6/model.safetensors")

    def embed(ids: Array, mask: Array) -> Array:
        with torch.no_grad():
            rows: Array = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
        return rows

    example = (torch.ones(2, 12, dtype=torch.int64), torch.ones(2, 12, dtype=torch.int64))
    model = to_onnx(encoder, example, ["input_ids", "attention_mask"], "pooled", ("batch", "sequence"))
    meta = Meta(
        name="minilm_l6",
        metric="benchmarks.networks.glosses:reciprocal_rank",
        output="pooled",
        transformer=True,
        licence="Apache-2.0 (network), WordNet licence (text)",
        notes="3,000 definitions of 64 tokens (padded): rank of the right word of 32",
    )
    return bundle.write(folder, model, glosses.samples(packages, embed), meta)
