"""The user's data: read once, checked against the network, spooled to disk, split in three."""

from hasten.samples.load import Samples, load_samples
from hasten.samples.store import SampleStore

__all__ = ["SampleStore", "Samples", "load_samples"]
