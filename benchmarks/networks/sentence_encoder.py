"""MiniLM-L6 (Wang et al., NeurIPS 2020) in plain torch: BERT with 6 layers of width 384, mean pooling, unit length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

LAYERS, WIDTH, HEADS, VOCABULARY, POSITIONS, EPSILON = 6, 384, 12, 30522, 512, 1e-12
MASKED = -1e4
# our name -> name in the published file
EMBEDDINGS = {
    "words.weight": "word_embeddings.weight",
    "positions.weight": "position_embeddings.weight",
    "types.weight": "token_type_embeddings.weight",
    "norm.weight": "LayerNorm.weight",
    "norm.bias": "LayerNorm.bias",
}
LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "widen": "intermediate.dense",
    "narrow": "output.dense",
    "norm2": "output.LayerNorm",
}


class Layer(nn.Module):  # type: ignore[misc]
    """Self-attention and a two-layer perceptron, each normalised after its shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.attended, self.norm1 = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH, EPSILON)
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, EPSILON)

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (HEADS, WIDTH // HEADS)).transpose(1, 2)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        query, key, value = self.heads(self.query(x)), self.heads(self.key(x)), self.heads(self.value(x))
        weights = torch.softmax(query @ key.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5 + bias, -1)
        x = self.norm1(x + self.attended((weights @ value).transpose(1, 2).flatten(2)))
        return self.norm2(x + self.narrow(functional.gelu(self.widen(x))))


class Encoder(nn.Module):  # type: ignore[misc]
    """int64 ``input_ids`` and ``attention_mask`` [n, length] to float32 embeddings [n, 384] of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.positions = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(POSITIONS, WIDTH)
        self.types, self.norm = nn.Embedding(2, WIDTH), nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        place = torch.arange(input_ids.shape[1])[None]
        x = self.norm(self.words(input_ids) + self.positions(place) + self.types.weight[0])
        bias = (1 - attention_mask[:, None, None].float()) * MASKED
        for layer in self.layers:
            x = layer(x, bias)
        mask = attention_mask[..., None].float()
        return functional.normalize((x * mask).sum(1) / mask.sum(1), dim=-1)


def load(path: Path) -> Any:
    """The encoder with the weights of a safetensors file."""
    stored = load_file(path)
    state = {ours: stored[f"embeddings.{theirs}"] for ours, theirs in EMBEDDINGS.items()}
    for index in range(LAYERS):
        for ours, theirs in LAYER.items():
            for part in ("weight", "bias"):
                state[f"layers.{index}.{ours}.{part}"] = stored[f"encoder.layer.{index}.{theirs}.{part}"]
    encoder = Encoder()
    encoder.load_state_dict(state)
    return encoder.eval()
