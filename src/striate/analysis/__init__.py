"""What a trained network does: its calibration, its mistakes, its filters, its report.

Works on plain arrays and on any `nn.Module`; may import errors, spec and layers only. Importing
it costs numpy and Pillow; what needs torch is imported on first use.

    profiler      profile: shapes, parameters, connections, MACs, time of every layer
    receptive     receptive_fields: what every layer sees, measured
    aliasing      folding: what every stride folds, and whether kernels filter it away before
    equivariance  equivariance_error, shift_consistency: what a shift does to an answer
    diagram       Profile -> a picture of the network (SVG)
    calibration   temperature, softmax, reliability
    mistakes      confusion_pairs, worst
    draw          numbers -> charts (SVG text)
    pictures      pixels -> PNG bytes: samples, filters
    page          pieces of HTML
    report        Report -> one self-contained report.html
"""

from importlib import import_module
from typing import Any

from striate.analysis.calibration import Bin, fit_temperature, reliability, softmax
from striate.analysis.mistakes import confusion_pairs, worst
from striate.analysis.report import Mistake, Report, write_plots, write_report

__all__ = [
    "Bin",
    "Mistake",
    "Report",
    "confusion_pairs",
    "equivariance_error",
    "fit_temperature",
    "folding",
    "profile",
    "receptive_fields",
    "reliability",
    "shift_consistency",
    "softmax",
    "worst",
    "write_plots",
    "write_report",
]
# These import torch.
_LATE = {
    "equivariance_error": "equivariance",
    "folding": "aliasing",
    "profile": "profiler",
    "receptive_fields": "receptive",
    "shift_consistency": "equivariance",
}


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is first asked for."""
    if name in _LATE:
        return getattr(import_module(f"striate.analysis.{_LATE[name]}"), name)
    raise AttributeError(f"module 'striate.analysis' has no attribute {name!r}")
