"""Accelerate a trained network, with proof."""
