"""What a network costs, layer by layer: shape, parameters, connections, multiplications, time."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from striate.analysis.receptive import Field, hides_parts, receptive_fields, units, watched
from striate.kernels.accelerated import as_torch, kernel_of
from striate.kernels.library import reason
from striate.spec import Spec

__all__ = ["Layer", "Profile", "profile"]

UNLINKED = re.compile("Norm|Embedding|PReLU")  # kinds whose parameters scale, shift or are read
REPEATS = 3  # timed runs; the shortest time of each layer counts


@dataclass(frozen=True)
class Layer:
    """One layer, each time it runs.

    Args:
        name: path in the model.
        kind: class.
        shape: (C, *S) of what one sample gives.
        parameters: its own, where it runs first; those of layers inside it count there.
        connections: weighted links into its outputs, biases among them.
        macs: multiplications with additions that one sample takes, as they were carried out,
            those of layers inside it left out, as in `seconds`.
        receptive_field: samples of the input that one position sees, an axis each; None: not asked,
            the model refuses the NaN by which it is measured, or its output has no axis for each.
        jump: distance of neighbouring fields, in samples, an axis each; None: cannot be told.
        kernel: what computes it, as `dispatch.NAMES`; None: no convolution, or nothing to choose
            from, for want of a CPU or of our kernels.
        seconds: for one sample.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    parameters: int
    connections: int
    macs: int
    receptive_field: tuple[int, ...] | None
    jump: tuple[float | None, ...] | None
    kernel: str | None
    seconds: float


@dataclass(frozen=True)
class Profile:
    """What a network costs for one sample.

    Args:
        model: class of the network.
        parameters: numbers that learning changes or a bundle stores as weights, those of layers
            among them that only training runs.
        connections: of all layers.
        macs: of all layers, and of what stands between them.
        layers: in the order in which they run.
    """

    model: str
    parameters: int
    connections: int
    macs: int
    layers: tuple[Layer, ...]

    def to_json(self) -> dict[str, Any]:
        """Return what `striate profile --json` prints."""
        return asdict(self)

    def uncounted(self) -> list[str]:
        """Return the layers that have weights, and of which nobody says what they connect."""
        return [
            layer.name
            for layer in self.layers
            if layer.parameters and not layer.connections and not UNLINKED.search(layer.kind)
        ]

    def narrowing(self) -> list[Layer]:
        """Return the layers that give fewer numbers than the layer before them."""
        counts = [prod(layer.shape) for layer in self.layers]
        return [
            layer
            for layer, before, after in zip(self.layers[1:], counts, counts[1:], strict=False)
            if after < before
        ]

    def __str__(self) -> str:
        """Return a table."""
        rows: list[tuple[str, ...]] = [
            ("layer", "kind", "shape", "parameters", "connections", "MACs", "field", "jump", "ms",
             "kernel")
        ]  # fmt: skip
        rows += [_row(layer) for layer in self.layers]
        total = (f"{self.parameters:,}", f"{self.connections:,}", f"{self.macs:,}")
        seconds = sum(layer.seconds for layer in self.layers)
        rows.append((self.model, "", "", *total, "", "", f"{1000 * seconds:.2f}", ""))
        if not any(layer.kernel for layer in self.layers):
            rows = [row[:-1] for row in rows]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        left = (0, 1, 2, 9)
        lines = [
            "  ".join(
                cell.ljust(width) if i in left else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        if silent := self.uncounted():
            lines.append(
                f"connections are not known, and counted as 0, of {', '.join(silent)}; a layer "
                "says its own by a method connections(x, y)"
            )
        return "\n".join(lines)


def _row(layer: Layer) -> tuple[str, ...]:
    field = "" if layer.receptive_field is None else _times(layer.receptive_field)
    jump = "" if layer.jump is None or set(layer.jump) == {0} else _times(layer.jump)
    counts = (f"{layer.parameters:,}", f"{layer.connections:,}", f"{layer.macs:,}")
    shape, milliseconds = _times(layer.shape), f"{1000 * layer.seconds:.2f}"
    return (
        layer.name, layer.kind, shape, *counts, field, jump, milliseconds, layer.kernel or "",
    )  # fmt: skip


def _times(numbers: tuple[float | None, ...]) -> str:
    """Return 3x32x32, ? in the place of what cannot be told."""
    return "x".join("?" if number is None else f"{number:g}" for number in numbers)


def profile(
    model: nn.Module,
    spec_or_shape: Spec | tuple[int, ...] | None = None,
    *,
    fields: bool = True,
    batch: int = 1,
) -> Profile:
    """Count and time every layer of a model on one sample.

    Math:  connections of a layer = sum over its outputs of (fan-in + 1 where there is a bias), as
           LeCun et al. count them; taps beyond the border count too. Activations, normalisation
           and pooling without weights have none. Layers of other makers that hold weights say
           theirs by a method `connections(x, y)`; `uncounted` names those that do not.

    Args:
        model: any `nn.Module` that takes (N, C, *S); it is put into evaluation mode meanwhile.
        spec_or_shape: what a sample is, or (C, *S); None: what `models.build` built it for.
        fields: measure the receptive fields too, which takes some hundred runs.
        batch: samples at once where times are taken: what computes a layer depends on it.

    Raises:
        ValueError: no sample is known, the model cannot take it, or a layer gives no tensor;
            `batch` is below 1.
        TypeError: `spec_or_shape` is neither a Spec nor whole numbers.
    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1; got {batch}")
    shape = _shape(model, spec_or_shape)
    parameter = next(iter(model.parameters()), torch.zeros(()))
    like: dict[str, Any] = {"device": parameter.device}
    if parameter.is_floating_point():
        like["dtype"] = parameter.dtype
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(**like)
    rows, macs = _count(model, x)
    many = x.expand(batch, *shape).contiguous()
    seconds, kernels = _time(model, many), _kernels(model, many)
    seen = (fields and _fields(model, x)) or [None] * len(rows)
    layers = tuple(
        replace(
            row,
            receptive_field=field.size if field else None,
            jump=field.jump if field else None,
            kernel=kernel,
            seconds=elapsed / batch,
        )
        for row, field, kernel, elapsed in zip(rows, seen, kernels, seconds, strict=True)
    )
    total = sum(p.numel() for p in model.parameters())
    linked = sum(layer.connections for layer in layers)
    return Profile(type(model).__name__, total, linked, macs, layers)


def _fields(model: nn.Module, x: Tensor) -> Sequence[Field | None]:
    """Return the field of each call; none where they cannot be measured."""
    try:
        return receptive_fields(model, x)
    except ValueError:  # numbers of words cannot be NaN
        return []


def _shape(model: nn.Module, given: Spec | tuple[int, ...] | None) -> tuple[int, ...]:
    known = getattr(model, "spec", None) if given is None else given
    if known is None:
        raise ValueError(
            "spec_or_shape must be a Spec or (C, *S) for a model that models.build did not build; "
            "got None"
        )
    shape = known.shape if hasattr(known, "shape") else known
    if not isinstance(shape, tuple | list) or not all(isinstance(n, Integral) for n in shape):
        raise TypeError(f"spec_or_shape must be a Spec or (C, *S), whole numbers; got {known!r}")
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"spec_or_shape must be (C, *S), each at least 1; got {tuple(shape)}")
    return tuple(shape)


def _count(model: nn.Module, x: Tensor) -> tuple[list[Layer], int]:
    """Return the counts of each call, and all macs; what is measured is still open."""
    rows: list[Layer] = []
    counted: set[int] = set()
    counter = FlopCounterMode(display=False)

    unseen = 0  # macs of kernels that the counter does not know

    def saw(name: str, module: nn.Module, x: list[Tensor], y: Tensor, flops: float) -> None:
        nonlocal unseen
        own = [p for p in _parameters(module) if id(p) not in counted]
        counted.update(map(id, own))
        own_count = sum(p.numel() for p in own)
        kind, shape = type(module).__name__, tuple(y.shape[1:])
        linked, macs = connections(module, x[0], y), int(flops) // 2
        if known := _several(module, x):
            unseen += known[1] - macs
            linked, macs = known
        rows.append(Layer(name, kind, shape, own_count, linked, macs, None, None, None, 0.0))

    try:
        with as_torch(model), counter:
            _metered(model, x, counter.get_total_flops, saw)
    except RuntimeError as error:
        raise ValueError(f"the model cannot take a sample {tuple(x.shape[1:])}: {error}") from error
    return rows, counter.get_total_flops() // 2 + unseen


def _parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that count in a layer: of its parts too where it hides them."""
    return list(module.parameters(recurse=hides_parts(module)))


def _metered(
    model: nn.Module,
    x: Tensor,
    meter: Callable[[], float],
    saw: Callable[[str, nn.Module, list[Tensor], Tensor, float], None],
) -> None:
    """Run the model once; call `saw(name, module, inputs, output, cost)` after every layer.

    Args:
        meter: what rises as the model runs. A layer's cost is how far it rose, less what it rose
            in the layers inside, so that nothing counts twice.
    """
    begun: list[list[float]] = []  # of the layers that run now: [start, cost of the layers inside]

    def enter(module: nn.Module, inputs: Any) -> None:
        begun.append([meter(), 0.0])

    def leave(name: str, module: nn.Module, inputs: Any, y: Any) -> None:
        start, inside = begun.pop()
        whole = meter() - start
        if begun:
            begun[-1][1] += whole
        x = [value for value in inputs if isinstance(value, Tensor)]
        saw(name, module, x or [y], y, whole - inside)

    hooks = [module.register_forward_pre_hook(enter) for _, module in units(model)]
    try:
        with watched(model, leave):
            model(x)
    finally:
        for hook in hooks:
            hook.remove()


def connections(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Return the weighted links that one sample uses in a layer.

    A layer that is not torch's says it itself, by a method `connections(x, y)`; one of parts with
    a bias besides adds that to its outputs.
    """
    own = getattr(module, "connections", None)
    if own is not None:
        return int(own(x, y))
    outputs, inputs = prod(y.shape[1:]), prod(x.shape[1:])
    bias = outputs if getattr(module, "bias", None) is not None else 0
    if isinstance(module, nn.Linear):
        return outputs * module.in_features + bias
    if isinstance(module, nn.Bilinear):
        return outputs * module.in1_features * module.in2_features + bias
    if isinstance(module, _ConvNd):
        taps = module.weight[0].numel()  # (O, C / groups, *K); transposed (C, O / groups, *K)
        return (inputs if module.transposed else outputs) * taps + bias
    return bias if next(module.children(), None) is not None else 0


def _several(module: nn.Module, inputs: list[Tensor]) -> tuple[int, int] | None:
    """Return (connections, macs) of one sample in torch's layers of several weights; None: others.

    Recurrent layers use every weight and bias at every step. Attention projects queries, keys,
    values and what it makes of them; the products of queries, keys and values have no weights.
    """
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        steps = 1 if isinstance(module, nn.RNNCellBase) else _length(module, inputs[0])
        sizes = [(p.numel(), p.dim()) for p in module.parameters()]
        return (
            steps * sum(count for count, _ in sizes),
            steps * sum(count for count, axes in sizes if axes == 2),
        )
    if not isinstance(module, nn.MultiheadAttention):
        return None
    width = module.embed_dim
    asked, keys, values = (_length(module, part) for part in inputs[:3])
    macs = width * (2 * asked * width + keys * module.kdim + values * module.vdim)
    biases = width * (asked + keys + values) * (module.in_proj_bias is not None)
    biases += width * asked * (module.out_proj.bias is not None)
    keys += module.bias_k is not None
    return macs + biases, macs + 2 * asked * keys * width


def _length(module: nn.Module, x: Tensor) -> int:
    """Return the steps of a sequence as a recurrent layer or attention reads it."""
    return x.shape[1 if x.dim() == 3 and module.batch_first else 0]


def _time(model: nn.Module, x: Tensor) -> list[float]:
    """Return the seconds of each call: the shortest of a few runs."""
    runs: list[list[float]] = []

    def now() -> float:
        if x.is_cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def saw(name: str, module: nn.Module, x: Any, y: Tensor, seconds: float) -> None:
        runs[-1].append(seconds)

    for _ in range(REPEATS):
        runs.append([])
        _metered(model, x, now, saw)
    return [min(times) for times in zip(*runs, strict=True)]


def _kernels(model: nn.Module, x: Tensor) -> list[str | None]:
    """Return what computes each call; ask once it has run, and what had to be tried was tried."""
    found: list[str | None] = []
    ours = x.device.type == "cpu" and not reason()

    def saw(name: str, module: nn.Module, inputs: Any, y: Any) -> None:
        asked = ours and isinstance(module, _ConvNd)
        found.append(kernel_of(module, inputs[0]) if asked else None)

    with watched(model, saw):
        model(x)
    return found
