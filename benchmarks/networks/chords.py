"""Synthesised chords with their exact notes, for basic-pitch (Bittner et al., ICASSP 2022): audio to 88 keys."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.networks.bundle import Array

RATE, SAMPLES, FRAMES, HOP, LOWEST = 22050, 43844, 172, 256, 21  # the network's own; MIDI note 21 is the first key
THRESHOLD = 0.35  # of a frame
SURE, SHORTEST, NEAR = 0.5, 11, 4  # of a note: how sure of onset and frames; frames that it lasts; 50 ms in frames


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


def clips(count: int, first: int = 0) -> tuple[Array, Array]:
    """``count`` clips and their notes, stacked."""
    sounds, notes = zip(*map(clip, range(first, first + count)), strict=True)
    return np.stack(sounds), np.stack(notes)


def note_f1(outputs: Mapping[str, Array], labels: Array) -> Array:
    """F1 of the frames in which a note sounds, a score a clip."""
    found, true = _output(outputs, "note", 1) > THRESHOLD, labels > 0
    both = (found & true).sum((1, 2))
    scores: Array = 2 * both / np.maximum(found.sum((1, 2)) + true.sum((1, 2)), 1)
    return scores


def _output(outputs: Mapping[str, Array], name: str, number: int) -> Array:
    """The output ``name``, which in the ONNX file only has a ``number``."""
    return next(a for key, a in outputs.items() if key == name or key.endswith(f":{number}"))


def whole_note_f1(outputs: Mapping[str, Array], labels: Array) -> Array:
    """F1 of whole notes, a score a clip: one is found when its key and, within 50 ms, its onset are right."""
    onsets, frames = _output(outputs, "onset", 2), _output(outputs, "note", 1)
    return np.array([_f1(_decoded(o, n), t > 0) for o, n, t in zip(onsets, frames, labels, strict=True)])


def _f1(found: list[tuple[int, int]], sounds: Array) -> float:
    """Each true note (a key has one at most) is found once; all others that were found are wrong."""
    true = {int(key): int(sounds[:, key].argmax()) for key in np.flatnonzero(sounds.any(0))}
    right = {key for start, key in found if key in true and abs(start - true[key]) <= NEAR}
    return 2 * len(right) / max(len(found) + len(true), 1)


def _decoded(onsets: Array, frames: Array) -> list[tuple[int, int]]:
    """(frame, key) of the notes in [172, 88] of each: from a peak of the onsets, for as long as the key sounds.

    As basic-pitch decodes: a note lasts more than 11 frames and ends after as many in which it does not sound.
    """
    peaks = onsets >= SURE
    peaks[1:] &= onsets[1:] > onsets[:-1]
    peaks[:-1] &= onsets[:-1] >= onsets[1:]
    notes = []
    for key in np.flatnonzero(peaks.any(0)):
        end = 0
        for start in map(int, np.flatnonzero(peaks[:, key])):
            if start < end:
                continue
            sounding = np.append(np.flatnonzero(frames[start:, key] >= SURE), FRAMES + SHORTEST)
            first_gap = int((np.diff(sounding, prepend=-1) > SHORTEST).argmax())
            length = int(sounding[first_gap - 1]) + 1 if first_gap else 0
            if length > SHORTEST:
                notes.append((start, int(key)))
                end = start + length
    return notes
