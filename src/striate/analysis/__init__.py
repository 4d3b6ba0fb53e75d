"""What a trained network does: its calibration, its mistakes, its filters, its report.

Works on plain arrays; may import errors and spec only. Importing it costs numpy and Pillow.

    calibration   temperature, softmax, reliability
    mistakes      confusion_pairs, worst
    draw          numbers -> charts (SVG text)
    pictures      pixels -> PNG bytes: samples, filters
    page          pieces of HTML
    report        Report -> one self-contained report.html
"""

from striate.analysis.calibration import Bin, fit_temperature, reliability, softmax
from striate.analysis.mistakes import confusion_pairs, worst
from striate.analysis.report import Mistake, Report, write_plots, write_report

__all__ = [
    "Bin",
    "Mistake",
    "Report",
    "confusion_pairs",
    "fit_temperature",
    "reliability",
    "softmax",
    "worst",
    "write_plots",
    "write_report",
]
