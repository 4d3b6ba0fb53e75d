"""Run a network over a loader."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.data.loader import Loader

__all__ = ["count_views", "predict"]


def predict(
    model: nn.Module,
    loader: Loader,
    *,
    autocast: torch.dtype | None = None,
    shift: int = 0,
    mirror: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of every sample and its class; the model's mode is put back afterwards.

    Shape: -> (N, K) float64, (N,) int64

    Args:
        model: on the loader's device.
        loader: batches in order, y the classes.
        autocast: type of the forward pass; None is float32.
        shift: also average over views moved by this many samples along every axis.
        mirror: also average over views mirrored along the last axis.
    """
    training, logits, labels = model.training, [], []
    model.eval()
    try:
        with torch.inference_mode():
            for x, y in loader:
                with torch.autocast(x.device.type, autocast, enabled=autocast is not None):
                    views = [model(view).float() for view in _views(x, shift, mirror)]
                logits.append(torch.stack(views).mean(0).cpu())
                labels.append(y.cpu())
    finally:
        model.train(training)
    if not logits:
        return np.zeros((0, len(loader.spec.classes))), np.zeros(0, np.int64)
    return torch.cat(logits).double().numpy(), torch.cat(labels).numpy()


def count_views(shift: int, mirror: bool) -> int:
    """Return over how many views of a sample `predict` averages."""
    return (3 if shift else 1) * (2 if mirror else 1)


def _views(x: Tensor, shift: int, mirror: bool) -> list[Tensor]:
    """The sample itself, and moved both ways along all axes at once; each also mirrored."""
    views = [x]
    if shift:
        wide = F.pad(x, [shift] * (2 * (x.dim() - 2)), mode="replicate")
        for start in (0, 2 * shift):
            part = [slice(start, start + size) for size in x.shape[2:]]
            views.append(wide[(slice(None), slice(None), *part)])
    return views + [view.flip(-1) for view in views] * mirror
