"""Fit a network: the loop, and the functions that fill its holes. Read `loop` first."""

from striate.train.evaluate import predict
from striate.train.loop import Step, fit, steps
from striate.train.metrics import Score, score

__all__ = ["Score", "Step", "fit", "predict", "score", "steps"]
