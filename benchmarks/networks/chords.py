"""Synthesised chords with their exact notes, for basic-pitch (Bittner et al., ICASSP 2022): audio to 88 keys."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.networks.bundle import Array

RATE, SAMPLES, FRAMES, HOP, LOWEST = 22050, 43844, 172, 256, 21  # the network's own; MIDI note 21 is the first key
THRESHOLD = 0.35


def clip(seed: int) -> tuple[Array, Array]:
    """Two seconds of one to three notes of six harmonics, float32[43844, 1]; where they sound, float32[172, 88]."""
    random, t = np.random.default_rng(seed), np.arange(SAMPLES) / RATE
    sound, notes = np.zeros(SAMPLES), np.zeros((FRAMES, 88), np.float32)
    frames = np.arange(FRAMES) * HOP / RATE
    for note in random.choice(np.arange(45, 80), random.integers(1, 4), replace=False):
        start, end = random.uniform(0.1, 0.5), random.uniform(1.2, 1.9)
        fade = np.clip((t - start) * 60, 0, 1) * np.clip((end - t) * 60, 0, 1) * np.exp(-(t - start).clip(0))
        pitch = 440 * 2 ** ((note - 69) / 12)
        sound += fade * sum(np.sin(2 * np.pi * k * pitch * t) / k for k in range(1, 7))
        notes[(frames >= start) & (frames < end), note - LOWEST] = 1
    return (0.6 * sound / np.abs(sound).max()).astype(np.float32)[:, None], notes


def clips(count: int) -> tuple[Array, Array]:
    """``count`` clips and their notes, stacked."""
    sounds, notes = zip(*map(clip, range(count)), strict=True)
    return np.stack(sounds), np.stack(notes)


def note_f1(outputs: Mapping[str, Array], labels: Array) -> Array:
    """F1 of the frames in which a note sounds, a score a clip. In the ONNX file the output ``note`` is number 1."""
    answer = next(a for name, a in outputs.items() if name == "note" or name.endswith(":1"))
    found, true = answer > THRESHOLD, labels > 0
    both = (found & true).sum((1, 2))
    scores: Array = 2 * both / np.maximum(found.sum((1, 2)) + true.sum((1, 2)), 1)
    return scores
