"""Voice activity, frame by frame, with an LSTM state. Labels: where studio recordings are loud, exactly known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.networks import bundle
from benchmarks.networks.bundle import Array, Bundle, Meta

PROMPTS = Path("debian/asterisk-core-sounds-en-g722/usr/share/asterisk/sounds/en_US_f_Allison")
RATE, FRAME, CONTEXT, FRAMES = 16_000, 512, 64, 64
SHORTEST, LONGEST, LARGEST_GAP = 16_000, 160_000, 32_000  # samples of a prompt, and of the silence before it
LOUD = 1e-3  # of a prompt's largest power over 50 ms
NOISE_DB = (20.0, 10.0, 5.0)
UNSURE = -100  # the label that the metrics of hasten leave out, too


def decode(path: Path) -> Array:
    """float32 mono at 16 kHz of a G.722 file."""
    import av

    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(path), format="g722") as audio:
        pieces = [part.to_ndarray()[0] for frame in audio.decode(audio=0) for part in resampler.resample(frame)]
    return np.concatenate(pieces).astype(np.float32) / 32768


def track(packages: Path, rng: np.random.Generator) -> tuple[Array, Array]:
    """All prompts with silence between them, and for every sample whether somebody speaks."""
    sound: list[Array] = []
    speech: list[Array] = []
    for path in sorted((packages / PROMPTS).rglob("*.g722")):
        if path.parent.name in {"silence", "tones"} or "beep" in path.name:
            continue
        voice = decode(path)
        if SHORTEST < len(voice) < LONGEST:
            power = np.convolve(voice * voice, np.ones(800) / 800, "same")
            gap = int(rng.integers(LARGEST_GAP // 4, LARGEST_GAP))
            sound += [np.zeros(gap, np.float32), voice]
            speech += [np.zeros(gap, bool), power > max(power.max() * LOUD, 1e-7)]
    return np.concatenate(sound), np.concatenate(speech)


def sequences(sound: Array, speech: Array, rng: np.random.Generator) -> Iterator[tuple[Array, Array]]:
    """(float32 [FRAMES, 576], int64 [FRAMES]): each frame is preceded by the last 64 samples of the one before."""
    level = float((sound[speech] ** 2).mean())
    for start in range(0, len(sound) - FRAMES * FRAME, FRAMES * FRAME):
        piece = sound[start : start + FRAMES * FRAME]
        power = level / 10 ** (rng.choice(NOISE_DB) / 10)
        noisy = piece + rng.standard_normal(len(piece)).astype(np.float32) * np.float32(np.sqrt(power))
        frames = noisy.reshape(FRAMES, FRAME)
        before = np.concatenate([np.zeros((1, CONTEXT), np.float32), frames[:-1, -CONTEXT:]])
        share = speech[start : start + FRAMES * FRAME].reshape(FRAMES, FRAME).mean(1)
        labels = np.where(share > 0.9, 1, np.where(share < 0.1, 0, UNSURE))
        yield np.concatenate([before, frames], axis=1), labels


def prepare(packages: Path, folder: Path, *, seed: int = 0) -> Bundle:
    """All spoken prompts in sequences of 64 frames (two seconds) with white noise at 20, 10 or 5 dB."""
    rng = np.random.default_rng(seed)
    pairs = list(sequences(*track(packages, rng), rng))
    samples: dict[str, Array] = {
        "input": np.stack([frames for frames, _ in pairs]),
        "sr": np.array(RATE, np.int64),
        "labels": np.stack([labels for _, labels in pairs]).astype(np.int64),
    }
    meta = Meta(
        name="silero_vad",
        metric="top1",
        output="output",
        state={"state": "stateN"},
        licence="MIT (network), CC-BY-SA-3.0 (speech)",
        notes=f"{len(pairs)} sequences of {FRAMES} frames, state [2, 1, 128] starts at zero",
    )
    return bundle.write(folder, packages / "silero_vad/silero_vad_16k_op15.onnx", samples, meta)
