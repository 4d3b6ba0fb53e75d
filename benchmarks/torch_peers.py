"""Plain PyTorch as a contestant: as its examples do it, and at its best flags.

`examples`  the recipe of pytorch/examples mnist (Adadelta, batch 64, a DataLoader of samples)
`usual`     ResNet-18 for CIFAR as tutorials train it (SGD, one cycle, batch 128, a DataLoader)
`small`     ResNet-20 of He et al. for CIFAR with every flag of `best`: what fits into minutes
`best`      the networks of the first two, with everything PyTorch itself offers on a CPU: the data
            as one tensor, batches by slicing, channels_last, bfloat16 where the processor
            multiplies it, fused optimizer, one cycle, denormals flushed; not compiled, which costs
            more than the budget when cold

Written for this contest after the published recipes. Stops at the target accuracy, looked at after
every epoch, or at the end of --seconds since the start of the process, scoring included.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import cos, pi

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from pictures import BEGUN, Pictures, print_result, read_pictures

GREY = ((0.1307,), (0.3081,))
COLOUR = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


@dataclass(frozen=True)
class Recipe:
    """How one contestant trains.

    Args:
        net: the network.
        batches: epoch -> batches of (x, y).
        updates: batches an epoch.
        tests: () -> batches of the test set.
        optimizer: of the network's weights.
        rate: (epoch, progress 0 to 1) -> learning rate.
        half: run the network in bfloat16.
    """

    net: nn.Module
    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]]
    updates: int
    tests: Callable[[], Iterable[tuple[Tensor, Tensor]]]
    optimizer: torch.optim.Optimizer
    rate: Callable[[int, float], float]
    half: bool = False


class Samples(Dataset[tuple[Tensor, int]]):
    """One picture at a time, through Pillow and torchvision's transforms."""

    def __init__(self, x: np.ndarray, y: np.ndarray, change: Callable[..., Tensor]) -> None:
        from PIL import Image

        self.x = x[:, 0] if x.shape[1] == 1 else np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        self.y, self.change, self.image = y, change, Image.fromarray

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.change(self.image(self.x[i])), int(self.y[i])


def grey_net(classes: int = 10) -> nn.Module:
    """Return the network of PyTorch's MNIST example: 1,199,882 weights."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.25), nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(128, classes),
    )


def colour_net(classes: int = 10) -> nn.Module:
    """Return torchvision's ResNet-18 with the first layers that suit 32x32 pictures."""
    from torchvision.models import resnet18

    net = resnet18(num_classes=classes)
    net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


class Block(nn.Module):
    """A basic block of ResNet-20: two 3x3 convolutions beside a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(
                nn.Conv2d(channels, out, 3, stride, 1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(True),
            ),
            *(nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)),
        )
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum, rectified."""
        return F.relu(self.branch(x) + self.shortcut(x))


def small_net(classes: int = 10) -> nn.Module:
    """Return ResNet-20 for CIFAR: a thirteenth of ResNet-18's multiplications."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for out in (16, 32, 64):
        for number in range(3):
            layers.append(Block(channels, out, 2 if out > 16 and not number else 1))
            channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


def one_cycle(progress: float, warm: float = 0.3) -> float:
    """Return the share of the peak rate: up by a cosine, then down to nothing."""
    if progress < warm:
        return 0.04 + 0.96 * (1 - cos(pi * progress / warm)) / 2
    return (1 + cos(pi * min(1.0, (progress - warm) / (1 - warm)))) / 2


def examples(data: Pictures) -> Recipe:
    """Return the recipe of pytorch/examples mnist."""
    from torchvision import transforms

    change = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*GREY)])
    train = DataLoader(Samples(data.x_train, data.y_train, change), batch_size=64, shuffle=True)
    test = DataLoader(Samples(data.x_test, data.y_test, change), batch_size=1000)
    net = grey_net()
    optimizer = torch.optim.Adadelta(net.parameters(), lr=1.0)
    return Recipe(
        net, lambda _: train, len(train), lambda: test, optimizer, lambda epoch, _: 0.7**epoch
    )


def usual(data: Pictures) -> Recipe:
    """Return ResNet-18 on CIFAR-10 as tutorials train it."""
    from torchvision import transforms

    plain = [transforms.ToTensor(), transforms.Normalize(*COLOUR)]
    moved = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), *plain]
    changed = Samples(data.x_train, data.y_train, transforms.Compose(moved))
    train = DataLoader(changed, batch_size=128, shuffle=True)
    still = Samples(data.x_test, data.y_test, transforms.Compose(plain))
    test = DataLoader(still, batch_size=250)
    net = colour_net()
    return Recipe(
        net, lambda _: train, len(train), lambda: test, _sgd(net), lambda _, p: 0.1 * one_cycle(p)
    )


def best(data: Pictures, pad: int = 0, flip: bool = False, small: bool = False) -> Recipe:
    """Return the same networks with every flag that makes PyTorch fast on a CPU."""
    torch.set_flush_denormal(True)
    able = torch.cpu.get_capabilities()
    half = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    colour = data.x_train.shape[1] == 3
    mean, std = COLOUR if colour else GREY
    normalise = _normaliser(mean, std)
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    tests = torch.from_numpy(data.x_test), torch.from_numpy(data.y_test)
    batch = 128 if colour else 256
    padded = F.pad(x, (pad,) * 4)

    def batches(_: int) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.randperm(len(y)).split(batch):
            yield normalise(_moved(padded, rows, x.shape[2:], flip)), y[rows]

    def still() -> Iterator[tuple[Tensor, Tensor]]:
        for some, labels in zip(*(part.split(250) for part in tests), strict=True):
            yield normalise(some), labels

    net = (small_net() if small else colour_net()) if colour else grey_net()
    net = net.to(memory_format=torch.channels_last)
    optimizer = _sgd(net, fused=True) if colour else torch.optim.Adam(net.parameters(), fused=True)
    peak = 0.1 if colour else 3e-3
    updates = -(-len(y) // batch)
    return Recipe(net, batches, updates, still, optimizer, lambda _, p: peak * one_cycle(p), half)


def _sgd(net: nn.Module, fused: bool = False) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=fused
    )


def _normaliser(mean: tuple[float, ...], std: tuple[float, ...]) -> Callable[[Tensor], Tensor]:
    """Return uint8 -> normalised float, channels_last."""
    low = torch.tensor(mean).view(1, -1, 1, 1) * 255
    scale = 1 / (torch.tensor(std).view(1, -1, 1, 1) * 255)
    last = torch.channels_last
    return lambda raw: raw.float().sub_(low).mul_(scale).contiguous(memory_format=last)


def _moved(padded: Tensor, rows: Tensor, size: torch.Size, flip: bool) -> Tensor:
    """Cut a window out of each picture, at a place of its own, half of them mirrored."""
    height, width = size
    spare = padded.shape[2] - height
    if not spare and not flip:
        return padded[rows]
    n = len(rows)
    top, left = torch.randint(0, spare + 1, (2, n, 1))
    down, across = top + torch.arange(height), torch.arange(width).expand(n, width)
    if flip:
        across = torch.where(torch.rand(n, 1) < 0.5, across.flip(1), across)
    across = across + left
    return padded[rows[:, None, None], :, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)


def accuracy(recipe: Recipe, most: int = 0) -> tuple[float, int]:
    """Return the share of test pictures that the network gets right, and their number."""
    right = count = 0
    recipe.net.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
        for x, y in recipe.tests():
            right += int((recipe.net(x).argmax(1) == y).sum())
            count += len(y)
            if most and count >= most:
                break
    recipe.net.train()
    return right / count, count


def update(recipe: Recipe, x: Tensor, y: Tensor, rate: float) -> None:
    """Learn from one batch."""
    for group in recipe.optimizer.param_groups:
        group["lr"] = rate
    recipe.optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
        loss = F.cross_entropy(recipe.net(x), y)
    loss.backward()
    recipe.optimizer.step()


def by_epochs(recipe: Recipe, epochs: int, target: float) -> dict[str, float]:
    """Train until an epoch ends at the target, at most `epochs` of them."""
    total, done, spent, right = epochs * recipe.updates, 0, 0.0, 0.0
    samples = 0
    for epoch in range(epochs):
        started = time.monotonic()
        for x, y in recipe.batches(epoch):
            update(recipe, x, y, recipe.rate(epoch, done / total))
            done += 1
            samples += len(y)
        spent += time.monotonic() - started
        right, _ = accuracy(recipe)
        if target and right >= target:
            break
    return {
        "accuracy": right,
        "epochs": done / recipe.updates,
        "images_per_second": samples / spent,
    }


def by_seconds(recipe: Recipe, seconds: float, tests: int) -> dict[str, float]:
    """Train as long as the budget lasts; the time to score at the end is measured and kept free."""
    accuracy(recipe, most=1)
    now = time.monotonic()
    _, scored = accuracy(recipe, most=500)
    ending = 1.1 * (time.monotonic() - now) / scored * tests + 0.3
    started = time.monotonic()
    end = max(BEGUN + seconds - ending, started + 0.5)
    done = samples = 0
    while time.monotonic() < end:
        for x, y in recipe.batches(done // recipe.updates):
            progress = (time.monotonic() - started) / (end - started)
            if progress >= 1:
                break
            update(recipe, x, y, recipe.rate(done // recipe.updates, progress))
            done += 1
            samples += len(y)
    spent = time.monotonic() - started
    right, _ = accuracy(recipe)
    return {
        "accuracy": right,
        "epochs": done / recipe.updates,
        "images_per_second": samples / spent,
    }


def main() -> None:
    """Train as the command line says and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=("examples", "usual", "small", "best"))
    parser.add_argument("data", help="mnist, fashion-mnist, cifar10, or a folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=14, help="at most so many")
    parser.add_argument("--target", type=float, default=0.0, help="accuracy to stop at")
    parser.add_argument("--seconds", type=float, default=0.0, help="budget in place of epochs")
    parser.add_argument("--images", type=int, default=0, help="training pictures; 0: all")
    parser.add_argument(
        "--pad", type=int, default=0, help="`best`, `small`: random crops, in pixels"
    )
    parser.add_argument("--flip", action="store_true", help="`best`, `small`: random mirroring")
    chosen = parser.parse_args()
    torch.manual_seed(chosen.seed)
    data = read_pictures(chosen.data).first(chosen.images, chosen.images)
    if chosen.recipe in ("best", "small"):
        recipe = best(data, chosen.pad, chosen.flip, chosen.recipe == "small")
    else:
        recipe = {"examples": examples, "usual": usual}[chosen.recipe](data)
    if chosen.seconds:
        result = by_seconds(recipe, chosen.seconds, len(data.y_test))
    else:
        result = by_epochs(recipe, chosen.epochs, chosen.target)
    print_result(**result)


if __name__ == "__main__":
    main()
