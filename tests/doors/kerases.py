"""Keras networks for tests: made in a process of their own, since a backend is chosen once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BODIES = {
    "cnn": """
x = inputs = keras.Input((16, 16, 3), name="image")
x = L.Conv2D(8, 3, padding="same", strides=2, activation="relu")(x)
x = L.BatchNormalization()(x)
x = L.SeparableConv2D(16, 3, padding="same", activation="relu6")(x)
x = L.Add()([x, L.Conv2D(16, 1)(x)])
x = L.MaxPooling2D()(x)
y = L.Dense(10, activation="softmax")(L.GlobalAveragePooling2D()(x))
""",
    "gelu": """
inputs = keras.Input((12,), dtype="int32", name="tokens")
x = L.Embedding(50, 32)(inputs)
for _ in range(2):
    x = L.LayerNormalization()(L.Add()([x, L.MultiHeadAttention(4, 8)(x, x)]))
    x = L.LayerNormalization()(L.Add()([x, L.Dense(32)(L.Dense(64, activation="gelu")(x))]))
y = L.Dense(5)(L.GlobalAveragePooling1D()(x))
""",
    "bilstm": """
inputs = keras.Input((10, 6), name="steps")
x = L.Bidirectional(L.LSTM(8, return_sequences=True))(inputs)
y = L.Dense(4)(L.GRU(8)(x))
""",
    "mlp": """
inputs = keras.Input((7,), name="row")
y = L.Dense(1, activation="sigmoid")(L.Dense(16, activation="relu")(inputs))
""",
    "two": """
a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
inputs = {"b": b, "a": a}
y = [L.Add()([a, b]), L.Dense(2)(a)]
""",
    "lambda": """
inputs = keras.Input((4,), name="x")
y = L.Lambda(lambda t: t * 2)(L.Dense(3)(inputs))
""",
}
HEAD = """
import sys
import numpy as np
import keras
from keras import layers as L
keras.utils.set_random_seed(0)
"""
TAIL = """
model = keras.Model(inputs, y)
for v in model.variables:
    v.assign(v.numpy() + 0.05 * np.random.default_rng(1).standard_normal(v.shape).astype("float32"))
path, answers, form = sys.argv[1:]
model.export(path) if form == "saved_model" else model.save(path)
rng = np.random.default_rng(0)
feeds = {t.name: (rng.integers(1, 40, (3, *t.shape[1:])).astype("int32") if "int" in t.dtype
                  else rng.standard_normal((3, *t.shape[1:])).astype("float32")) for t in model.inputs}
struct = model._inputs_struct
given = feeds if isinstance(struct, dict) else [feeds[t.name] for t in model.inputs]
out = keras.tree.flatten(model.predict_on_batch(given))
np.savez(answers, **feeds, **{f"wanted{k}": np.asarray(o) for k, o in enumerate(out)})
"""


def make(folder: Path, body: str, suffix: str = "keras", backend: str = "torch") -> Path:
    """Save the network ``body`` as ``folder/body.suffix``; beside it feeds and Keras' own answers, ``body.npz``."""
    path = folder / (body if suffix == "saved_model" else f"{body}.{suffix}")
    environment = {
        **os.environ, "KERAS_BACKEND": backend, "KERAS_HOME": str(folder / ".keras"), "TF_CPP_MIN_LOG_LEVEL": "3",
    }  # fmt: skip
    command = [sys.executable, "-W", "ignore", "-c", HEAD + BODIES[body] + TAIL, str(path), str(folder / body), suffix]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return path
