"""Optimizers by name: functions (model, recipe) -> torch.optim.Optimizer.

Weights with two or more axes decay or shrink; biases and normalisation parameters do not.
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from striate.recipe import Recipe

__all__ = ["OPTIMIZERS", "Lookahead", "Muon", "orthogonalise", "shrink", "without_compiler"]


def without_compiler() -> None:
    """Keep `torch.optim` from importing the compiler, some 4 s at the first optimizer made.

    Four of its methods are guarded against `torch.compile` by importing it. The guards remember
    what to call; here they are told to call the method itself, as long as nobody has imported
    the compiler. Where torch does this otherwise, nothing happens but the 4 s.
    """
    if "torch._dynamo" in sys.modules:
        return
    for name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
        method = getattr(getattr(torch.optim.Optimizer, name), "__wrapped__", None)
        if method is not None and not hasattr(method, "__dynamo_disable"):
            setattr(method, "__dynamo_disable", method)


def groups(
    named: Iterable[tuple[str, nn.Parameter]], decay: float, **settings: Any
) -> list[dict[str, Any]]:
    """Split trained parameters: weights with two or more axes decay, biases and norms do not."""
    trained = [p for _, p in named if p.requires_grad]
    return [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": decay, **settings},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0, **settings},
    ]


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; learning rate 0.1, decay 5e-4 where the recipe has none."""
    decay = recipe.weight_decay if recipe.weight_decay >= 0 else 5e-4
    return torch.optim.SGD(
        groups(model.named_parameters(), decay),
        lr=recipe.lr or 0.1,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
    )


def adamw(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam with decoupled decay; learning rate 2e-3, decay 0.05 where the recipe has none."""
    decay = recipe.weight_decay if recipe.weight_decay >= 0 else 0.05
    return torch.optim.AdamW(
        groups(model.named_parameters(), decay),
        lr=recipe.lr or 2e-3,
        betas=(recipe.momentum, 0.99),
    )


def muon(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Muon for kernels, Adam for all else; learning rate 0.05 of a kernel, decay 0.05."""
    decay = recipe.weight_decay if recipe.weight_decay >= 0 else 0.05
    lr = recipe.lr or 0.05
    named = list(model.named_parameters())
    kernels = [(n, p) for n, p in named if p.dim() >= 3]
    others = [(n, p) for n, p in named if p.dim() < 3]
    return Muon(
        [
            *groups(kernels, decay, lr=lr, rule="muon", momentum=recipe.momentum),
            *groups(others, decay, lr=lr / 10, rule="adam", momentum=recipe.momentum),
        ]
    )


OPTIMIZERS: dict[str, Callable[[nn.Module, Recipe], torch.optim.Optimizer]] = {
    "sgd": sgd,
    "adamw": adamw,
    "muon": muon,
}


@torch.no_grad()
def shrink(weights: Iterable[Tensor], amount: float) -> None:
    """Move every weight towards 0, none beyond it: what an L1 penalty does to an update.

    As a part of the gradient it would make no weight 0, and Muon and Adam would scale it away.

    Math: w <- sign(w) max(0, |w| - amount)

    Args:
        weights: changed in place.
        amount: learning rate times penalty, at least 0.

    Source: Duchi, Singer 2009, Efficient Online and Batch Learning using Forward Backward
        Splitting, section 5.
    """
    for weight in weights:
        weight.copy_(F.softshrink(weight, amount))


def orthogonalise(matrices: Tensor, rounds: int = 3) -> Tensor:
    """Move every singular value of each matrix towards 1, keeping its singular vectors.

    All rounds multiply by polynomials of the rows' products with each other, so they are worked out
    on those: a kernel has more columns than rows, and is itself multiplied twice in all.

    Shape: (B, rows, columns) -> the same
    Math:  X <- P X, P = a I + b A + c A^2, A = X X^T, (a, b, c) = (3.4445, -4.7750, 2.0315); so
           A <- P A P

    Args:
        matrices: float32 or float64.
        rounds: at least 1.

    Source: Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a = x @ x.mT
    p = whole = _polynomial(a)
    for _ in range(rounds - 1):
        a = p @ a @ p
        p = _polynomial(a)
        whole = p @ whole
    x = whole @ x
    return x.mT if tall else x


def _polynomial(a: Tensor) -> Tensor:
    """Return 3.4445 I - 4.7750 A + 2.0315 A^2 of each matrix."""
    p = torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315)
    p.diagonal(dim1=1, dim2=2).add_(3.4445)
    return p


class Muon(torch.optim.Optimizer):
    """Momentum whose update of a kernel is made orthogonal; other parameters follow Adam.

    A kernel (out, in, *k) is a matrix of `out` rows. Its update has the size of an orthogonal
    matrix, so one learning rate fits every layer.

    Args:
        params: groups with `rule` muon or adam, `lr`, `momentum` and `weight_decay`; decay is
            decoupled: a weight loses the share lr x weight_decay an update.

    Source: Jordan et al. 2024, as `orthogonalise`; Loshchilov, Hutter 2017, arXiv:1711.05101.
    """

    def __init__(self, params: list[dict[str, Any]]) -> None:
        super().__init__(
            [g for g in params if g["params"]],
            {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.0, "rule": "muon"},
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Make one update."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if group["weight_decay"] and params:
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            rule = self._muon if group["rule"] == "muon" else self._adam
            rule(params, group)

    def _muon(self, params: list[Tensor], group: dict[str, Any]) -> None:
        for shape in sorted({tuple(p.shape) for p in params}):  # one batch of products a shape
            same = [p for p in params if tuple(p.shape) == shape]
            speed = [self._moment(p, "momentum") for p in same]
            grads = [p.grad for p in same if p.grad is not None]
            torch._foreach_lerp_(speed, grads, 1 - group["momentum"])
            push = torch._foreach_lerp(grads, speed, group["momentum"])  # Nesterov
            update = orthogonalise(torch.stack([u.flatten(1) for u in push]))
            scale = max(1.0, shape[0] / update.shape[2]) ** 0.5
            for p, u in zip(same, update, strict=True):
                p.add_(u.view(shape), alpha=-group["lr"] * scale)

    def _adam(self, params: list[Tensor], group: dict[str, Any]) -> None:
        fast, slow = group["momentum"], 0.99
        for p in params:
            mean, square = self._moment(p, "mean"), self._moment(p, "square")
            count = self.state[p]["count"] = self.state[p].get("count", 0) + 1
            mean.lerp_(p.grad, 1 - fast)  # type: ignore[arg-type]
            square.mul_(slow).addcmul_(p.grad, p.grad, value=1 - slow)  # type: ignore[arg-type]
            size = (square / (1 - slow**count)).sqrt_().add_(1e-8)
            p.addcdiv_(mean, size, value=-group["lr"] / (1 - fast**count))

    def _moment(self, p: Tensor, name: str) -> Tensor:
        state = self.state[p]
        if name not in state:
            state[name] = torch.zeros_like(p)
        return state[name]


class Lookahead:
    """Slow weights that follow the fast ones; every fifth update the fast ones return to them.

    Math: every 5 updates slow <- d slow + (1 - d) fast, fast <- slow, d = share^5 progress^3;
          once more after the last update, d = share^k for the k updates since they last met.

    Args:
        model: its floating parameters and buffers are averaged, in place.
        share: of the slow weights kept an update at the end of training, 0 to 1.

    Source: Zhang, Lucas, Hinton, Ba 2019, Lookahead Optimizer, arXiv:1907.08610; Jordan 2024.
    """

    EVERY = 5

    def __init__(self, model: nn.Module, share: float) -> None:
        self.share = share
        self.fast = [t for t in model.state_dict(keep_vars=True).values() if t.is_floating_point()]
        self.slow = [t.detach().clone() for t in self.fast]

    @torch.no_grad()
    def update(self, index: int, progress: float) -> None:
        """Follow update number `index`, counted from 1."""
        if index % self.EVERY == 0:
            self._meet(self.share**self.EVERY * progress**3)

    @torch.no_grad()
    def finish(self, index: int) -> None:
        """End on the slow weights; where the two never met, on the fast ones."""
        self._meet(self.share ** (index % self.EVERY) if index >= self.EVERY else 0.0)

    def _meet(self, keep: float) -> None:
        torch._foreach_lerp_(self.slow, self.fast, 1 - keep)
        torch._foreach_copy_(self.fast, self.slow)
