"""Residual networks: every block learns what to add to its input.

Source: He, Zhang, Ren, Sun 2015, Deep Residual Learning for Image Recognition, arXiv:1512.03385.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from striate.layers import batch_norm, conv, max_pool
from striate.spec import Spec

__all__ = [
    "ResNet",
    "resnet18",
    "resnet20",
    "resnet34",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet152",
]


class Projection(nn.Sequential):
    """Shortcut B: a 1x1 convolution where the shape changes (section 3.3).

    Shape: (N, C, *S) -> (N, out, *ceil(S / stride))
    """

    def __init__(self, axes: int, channels: int, out: int, stride: int) -> None:
        super().__init__(
            conv(axes, channels, out, 1, stride=stride, bias=False), batch_norm(axes, out)
        )


class Padding(nn.Module):
    """Shortcut A: subsample, then pad the channels with zeros; no parameters (section 3.3).

    Shape: (N, C, *S) -> (N, out, *ceil(S / stride))
    """

    def __init__(self, axes: int, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.stride, self.before = stride, (out - channels) // 2
        self.after = out - channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Keep one sample in `stride`, then add the missing channels on both sides."""
        x = x[(slice(None), slice(None), *[slice(None, None, self.stride)] * (x.dim() - 2))]
        return F.pad(x, [0, 0] * (x.dim() - 2) + [self.before, self.after])


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with a fourth of the width (figure 5).

    Shape: (N, C, *S) -> (N, out, *ceil(S / stride))
    Math:  y = relu(shortcut(x) + residual(x)); relu(residual(x)) where there are no shortcuts
    """

    def __init__(
        self,
        axes: int,
        channels: int,
        out: int,
        stride: int,
        bottleneck: bool,
        shortcut: type[nn.Module] | None,
    ) -> None:
        super().__init__()
        width = out // 4 if bottleneck else out
        # The stride of a bottleneck stands on its 3x3, as in every published weight file.
        plan = (
            [(channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
            if bottleneck
            else [(channels, out, 3, stride), (out, out, 3, 1)]
        )
        layers: list[nn.Module] = []
        for i, (c, o, kernel, step) in enumerate(plan):
            layers += [nn.ReLU(inplace=True)] * bool(i)
            layers += [
                conv(axes, c, o, kernel, stride=step, pad=kernel // 2, bias=False),
                batch_norm(axes, o),
            ]
        self.residual = nn.Sequential(*layers)
        same = channels == out and stride == 1
        self.shortcut: nn.Module | None = None
        if shortcut is not None:
            self.shortcut = nn.Identity() if same else shortcut(axes, channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Add the residual to the shortcut."""
        change = self.residual(x)
        return F.relu(change if self.shortcut is None else self.shortcut(x) + change)


class ResNet(nn.Module):
    """Stem, stages of residual blocks that halve the map and widen, global average, classifier.

    Shape: (N, C, *S) -> (N, K)

    Args:
        spec: what a sample is.
        blocks: blocks in each stage.
        widths: channels behind each stage.
        bottleneck: three-layer blocks instead of two-layer ones.
        stem: `imagenet` is 7x7 stride 2 and 3x3 max pooling, `cifar` is 3x3.
        shortcut: what carries the input past a block that changes its shape; None: no block has a
            shortcut, the plain network of figure 6.
    """

    def __init__(
        self,
        spec: Spec,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        *,
        bottleneck: bool = False,
        stem: str = "imagenet",
        shortcut: type[nn.Module] | None = Projection,
    ) -> None:
        super().__init__()
        if stem not in ("imagenet", "cifar"):
            raise ValueError(f"stem must be 'imagenet' or 'cifar'; got {stem!r}")
        axes, width = spec.axes, 64 if stem == "imagenet" else widths[0] // (4 if bottleneck else 1)
        kernel, stride = (7, 2) if stem == "imagenet" else (3, 1)
        first = conv(axes, spec.channels, width, kernel, stride=stride, pad=kernel // 2, bias=False)
        self.stem = nn.Sequential(first, batch_norm(axes, width), nn.ReLU(inplace=True))
        if stem == "imagenet":
            self.stem.append(max_pool(axes, 3, 2, 1))
        stages = []
        for i, (count, out) in enumerate(zip(blocks, widths, strict=True)):
            for j in range(count):
                step = 2 if i > 0 and j == 0 else 1
                stages.append(Block(axes, width, out, step, bottleneck, shortcut))
                width = out
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(width, len(spec.classes))
        for module in self.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = self.blocks(self.stem(x))
        return self.classifier(x.flatten(2).mean(2))


def _stem(spec: Spec, stem: str) -> str:
    """The 7x7 stride-2 stem leaves too little of a small picture."""
    return stem if stem != "auto" else "imagenet" if min(spec.size) > 64 else "cifar"


def resnet18(spec: Spec, stem: str = "auto") -> nn.Module:
    """Build ResNet-18: 11,689,512 parameters on 3 x 224 x 224 with 1,000 classes."""
    return ResNet(spec, (2, 2, 2, 2), (64, 128, 256, 512), stem=_stem(spec, stem))


def resnet34(spec: Spec, stem: str = "auto") -> nn.Module:
    """Build ResNet-34: 21,797,672 parameters on 3 x 224 x 224 with 1,000 classes."""
    return ResNet(spec, (3, 4, 6, 3), (64, 128, 256, 512), stem=_stem(spec, stem))


def resnet50(spec: Spec, stem: str = "auto") -> nn.Module:
    """Build ResNet-50: 25,557,032 parameters on 3 x 224 x 224 with 1,000 classes."""
    widths = (256, 512, 1024, 2048)
    return ResNet(spec, (3, 4, 6, 3), widths, bottleneck=True, stem=_stem(spec, stem))


def resnet101(spec: Spec, stem: str = "auto") -> nn.Module:
    """Build ResNet-101: 44,549,160 parameters on 3 x 224 x 224 with 1,000 classes."""
    widths = (256, 512, 1024, 2048)
    return ResNet(spec, (3, 4, 23, 3), widths, bottleneck=True, stem=_stem(spec, stem))


def resnet152(spec: Spec, stem: str = "auto") -> nn.Module:
    """Build ResNet-152: 60,192,808 parameters on 3 x 224 x 224 with 1,000 classes."""
    widths = (256, 512, 1024, 2048)
    return ResNet(spec, (3, 8, 36, 3), widths, bottleneck=True, stem=_stem(spec, stem))


def resnet20(spec: Spec, shortcuts: bool = True) -> nn.Module:
    """Build the CIFAR ResNet-20, shortcuts A: 269,722 parameters on 3 x 32 x 32, 10 classes."""
    shortcut = Padding if shortcuts else None
    return ResNet(spec, (3, 3, 3), (16, 32, 64), stem="cifar", shortcut=shortcut)


def resnet56(spec: Spec, shortcuts: bool = True) -> nn.Module:
    """Build the CIFAR ResNet-56, shortcuts A: 853,018 parameters on 3 x 32 x 32, 10 classes."""
    shortcut = Padding if shortcuts else None
    return ResNet(spec, (9, 9, 9), (16, 32, 64), stem="cifar", shortcut=shortcut)


def resnet110(spec: Spec, shortcuts: bool = True) -> nn.Module:
    """Build the CIFAR ResNet-110, shortcuts A: 1,727,962 parameters on 3 x 32 x 32, 10 classes."""
    shortcut = Padding if shortcuts else None
    return ResNet(spec, (18, 18, 18), (16, 32, 64), stem="cifar", shortcut=shortcut)
