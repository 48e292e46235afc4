"""Sentence embeddings, three layers, as ONNX with four outputs of which one is the embedding."""

from __future__ import annotations

from pathlib import Path

from benchmarks.networks import bundle, glosses
from benchmarks.networks.bundle import Array, Bundle, Meta

EMBEDDING = "461"


def prepare(packages: Path, folder: Path) -> Bundle:
    """3,000 dictionary definitions, padded to 64 tokens."""
    import onnxruntime as ort

    path = packages / "minilm_l3_onnx/paraphrase-MiniLM-L3-v2.onnx"
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def embed(ids: Array, mask: Array) -> Array:
        rows: Array = session.run([EMBEDDING], {"input_ids": ids, "attention_mask": mask})[0]
        return rows

    meta = Meta(
        name="minilm_l3",
        metric="benchmarks.networks.glosses:reciprocal_rank",
        output=EMBEDDING,
        transformer=True,
        licence="Apache-2.0 (network), WordNet licence (text)",
        notes="3,000 definitions of 64 tokens (padded): rank of the right word of 32",
    )
    return bundle.write(folder, path, glosses.samples(packages, embed), meta)
