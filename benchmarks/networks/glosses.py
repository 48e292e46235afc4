"""Dictionary definitions as queries: which of 32 words does a definition belong to?

The words' embeddings come from the float network and lie in the labels (the right one first, then the 31 that the
float network finds nearest to the definition), so that the score needs nothing but the candidate's embedding of
the definition.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks.bundle import Array

NOUNS = Path("debian/wordnet-base/usr/share/wordnet/data.noun")
TOKENIZER = Path("minilm_l6/tokenizer.json")
LENGTH, WIDTH, CHOICES, BATCH = 64, 384, 32, 50
Embed = Callable[[Array, Array], Array]


def reciprocal_rank(outputs: Mapping[str, Array], labels: Array) -> NDArray[np.float64]:
    """1 / (rank of the right word) for each definition.

    ``outputs`` holds an embedding [n, 384] among its arrays; ``labels`` is [n, 32, 384], the right word first.
    """
    query = next(o for o in outputs.values() if o.dtype.kind == "f" and o.ndim == 2 and o.shape[1] == WIDTH)
    near = np.einsum("nd,nkd->nk", query.astype(np.float64), np.asarray(labels, np.float64))
    rank: NDArray[np.float64] = 1.0 / (near >= near[:, :1]).sum(1)
    return rank


def definitions(packages: Path, count: int, seed: int) -> list[tuple[str, str]]:
    """(word, definition) of ``count`` nouns with different words, definitions of four words or more."""
    found: dict[str, str] = {}
    for line in (packages / NOUNS).read_text("latin1").splitlines():
        if not line.startswith("  "):
            fields, gloss = line.split(" | ", 1)
            word, text = fields.split()[4].replace("_", " "), gloss.strip().split(";")[0]
            if len(text.split()) >= 4:
                found.setdefault(word, text)
    pairs = sorted(found.items())
    random.Random(seed).shuffle(pairs)
    return pairs[:count]


def tokens(packages: Path, texts: list[str]) -> tuple[Array, Array]:
    """int64 ids and mask [n, 64], padded with 0."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(packages / TOKENIZER))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    encoded = tokenizer.encode_batch(texts)
    return np.array([e.ids for e in encoded], np.int64), np.array([e.attention_mask for e in encoded], np.int64)


def embeddings(embed: Embed, ids: Array, mask: Array) -> Array:
    """Unit embeddings [n, 384] of all rows; rows of like length go together, without the padding that none needs."""
    order = np.argsort(mask.sum(1), kind="stable")
    rows = np.empty((len(ids), WIDTH), np.float32)
    for start in range(0, len(ids), BATCH):
        part = order[start : start + BATCH]
        longest = int(mask[part].sum(1).max())
        rows[part] = embed(ids[part, :longest], mask[part, :longest])
    unit: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def samples(packages: Path, embed: Embed, *, count: int = 3000, seed: int = 1) -> dict[str, Array]:
    """Definitions as inputs; each label is 32 unit embeddings, the right word's first."""
    pairs = definitions(packages, count, seed)
    ids, mask = tokens(packages, [text for _, text in pairs])
    words = embeddings(embed, *tokens(packages, [word for word, _ in pairs]))
    near = embeddings(embed, ids, mask) @ words.T
    np.fill_diagonal(near, -np.inf)
    others = np.argsort(-near, axis=1, kind="stable")[:, : CHOICES - 1]
    chosen = np.concatenate([np.arange(count)[:, None], others], axis=1)
    return {"input_ids": ids, "attention_mask": mask, "labels": words[chosen].astype(np.float32)}
