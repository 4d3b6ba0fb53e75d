"""Native CPU kernels: the compiled library, operators over it, who computes what, `accelerate`.

Import from here: `accelerate`, `level`, `peak`, `reason`.
"""

from striate.kernels.accelerated import accelerate
from striate.kernels.library import level, peak, reason

__all__ = ["accelerate", "level", "peak", "reason"]
