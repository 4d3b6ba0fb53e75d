"""Experiments with networks that answer by maps: pyramids and shift-invariant nets."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learning import DIGITS, Check, Experiment, learn, pictures
from striate.models import build
from striate.spec import Spec

__all__ = ["EXPERIMENTS"]


def superresolution(seed: int, quick: bool) -> dict[str, float]:
    """Draw digits of 7 x 7 at 28 x 28; squared error beside that of bicubic interpolation."""
    fine, _, fine_test, _ = pictures("mnist", 100 if quick else 3000, 100 if quick else 1000)
    small, small_test = F.avg_pool2d(fine, 4), F.avg_pool2d(fine_test, 4)
    torch.manual_seed(seed)
    net = build("pyramid_superresolution", Spec(channels=1, size=(7, 7), classes=()))
    learn(net, small, fine, 1 if quick else 30, seed, loss=net.criterion, lr=0.03)
    with torch.no_grad():
        drawn = net(small_test)
    cubic = F.interpolate(small_test, scale_factor=4, mode="bicubic").clamp(0, 1)
    ours, theirs = F.mse_loss(drawn, fine_test).item(), F.mse_loss(cubic, fine_test).item()
    return {"error": ours, "bicubic": theirs, "gain over bicubic": 1 - ours / theirs}


def grown(net: nn.Module, x: Tensor, y: Tensor, updates: int) -> None:
    """Train by resilient propagation on the whole of a set that doubles, as the book does.

    It looks at signs of gradients alone. Gradients through many logistic units and steps are tiny,
    and those of a small batch point anywhere: Adam stays at copying what is seen.

    Args:
        updates: at each size, 1/16, 1/8, ... of the set.
    """
    rule = torch.optim.Rprop(net.parameters(), 0.01, step_sizes=(1e-6, 1.0))
    for part in (16, 8, 4, 2, 1):
        count = max(1, len(x) // part)
        for _ in range(updates):
            loss = net.criterion(net(x[:count]), y[:count])
            rule.zero_grad()
            loss.backward()
            rule.step()


def fillin(seed: int, quick: bool) -> dict[str, float]:
    """Fill a hole of 8 x 8 in digits; the error inside by step, and without feedback."""
    whole, _, whole_test, _ = pictures("mnist", 100 if quick else 1000, 100 if quick else 1000)
    draw = torch.Generator().manual_seed(seed)

    def holed(x: Tensor) -> tuple[Tensor, Tensor]:
        corners = torch.randint(4, 17, (len(x), 2), generator=draw)
        place = torch.arange(28)
        inside = (place >= corners[..., None]) & (place < corners[..., None] + 8)
        mask = (inside[:, 0, :, None] & inside[:, 1, None])[:, None]
        return x.masked_fill(mask, 0.125), mask

    given, _ = holed(whole)
    given_test, mask = holed(whole_test)
    found = {}
    for name, feedback in (("with", True), ("without", False)):
        torch.manual_seed(seed)
        net = build(
            "pyramid_fillin", Spec(channels=1, size=(28, 28), classes=()), feedback=feedback
        )
        grown(net, given, whole, 1 if quick else 80)
        with torch.no_grad():
            course = net.train()(given_test)
        found[name] = [F.mse_loss(step[mask], whole_test[mask]).item() for step in course]
    before = F.mse_loss(given_test[mask], whole_test[mask]).item()
    last = found["with"][-1]
    return {
        "error inside": last,
        "input inside": before,
        "gain over the input": 1 - last / before,
        "falls from step 2 to 6": float(found["with"][1] > found["with"][5]),
        "feedback helps": 1 - last / found["without"][-1],
    }


def canvas(seed: int, quick: bool) -> dict[str, float]:
    """Put digits anywhere on 64 x 64; a map a class has its peak where the digit is.

    A position of the maps sees 13 x 13 samples, so digits are halved to 14 x 14. Nothing in the net
    knows the size of a picture: it learns on 32 x 32 and is asked on 64 x 64.
    """
    x, y, x_test, y_test = pictures("mnist", 100 if quick else 10_000, 100 if quick else 1000)
    draw = torch.Generator().manual_seed(seed)

    def placed(x: Tensor, y: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        small = F.avg_pool2d(x, 2)
        at = torch.randint(0, side - 13, (len(x), 2), generator=draw)
        wide = torch.zeros(len(x), 1, side, side)
        wanted = torch.zeros(len(x), 10, side, side)
        for n, (row, column) in enumerate(at.tolist()):
            wide[n, :, row : row + 14, column : column + 14] = small[n]
            wanted[n, y[n], row + 6 : row + 9, column + 6 : column + 9] = 1
        return wide, wanted, at + 7

    wide, wanted, _ = placed(x, y, 32)
    torch.manual_seed(seed)
    spec = Spec(channels=1, size=(32, 32), classes=DIGITS)
    net = build("siann1991", spec, width=24, maps=True)

    def loss(maps: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(maps, target, 1 + 50 * target)

    learn(net, wide, wanted, 1 if quick else 12, seed, loss=loss, lr=0.01, batch=32)
    wide, _, centre = placed(x_test, y_test, 64)
    with torch.no_grad():
        maps = torch.cat([net(part) for part in wide.split(100)])
    flat = maps.flatten(2)
    label = flat.amax(2).argmax(1)
    place = flat[torch.arange(len(flat)), label].argmax(1)
    peak = torch.stack([place // 64, place % 64], 1)
    near = ((peak - centre).abs().amax(1) <= 2).float().mean()
    return {"class": float((label == y_test).float().mean()), "within 2 px": float(near)}


def regions(count: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Return breasts in the small: 1 / f clouds, half of them with a cluster of 3 to 8 dots.

    The others have at most 2 dots, since a lone calcification means nothing. The power of clouds
    falls as 1 / f^3, as that of mammograms does (Burgess, Jacobson, Judy 2001). The trend of the
    background is taken away, as it was in 1994.

    Shape: -> (count, 1, 48, 48), (count, 1, 48, 48) 1 around each dot, (count,) with a cluster
    """
    side = 48
    frequency = torch.fft.fftfreq(side)
    loud = torch.hypot(frequency[:, None], frequency[None]).clamp(min=1 / side) ** -1.5
    cloud = torch.fft.ifft2(loud * torch.fft.fft2(torch.randn(count, side, side, generator=draw)))
    x = cloud.real / cloud.real.std((1, 2), keepdim=True)
    x = x + 0.1 * torch.randn(x.shape, generator=draw)
    wanted, ill = torch.zeros_like(x), torch.arange(count) % 2 == 1
    place = torch.arange(float(side))
    for n in range(count):
        low, high = (3, 9) if ill[n] else (0, 3)
        dots = int(torch.randint(low, high, (1,), generator=draw))
        middle = torch.randint(14, side - 14, (2,), generator=draw)
        for at in middle + torch.randint(-9, 10, (dots, 2), generator=draw):
            wide, bright = torch.rand(2, generator=draw)
            far = (place[:, None] - at[0]) ** 2 + (place - at[1]) ** 2
            x[n] += (2 + 2 * bright) * torch.exp(-far / (2 * (0.7 + 0.5 * wide) ** 2))
            wanted[n][far <= 2] = 1
    x, wanted = x[:, None], wanted[:, None]
    flat = x - F.avg_pool2d(x, 9, 1, 4, count_include_pad=False)
    return flat / flat.std(), wanted, ill


def third_peak(maps: Tensor) -> Tensor:
    """Return the third highest peak of each map: a region with a higher one has a cluster."""
    peaks = torch.where(maps == F.max_pool2d(maps, 5, 1, 2), maps, maps.amin())
    return peaks.flatten(1).topk(3).values[:, 2]


def az(score: Tensor, ill: Tensor) -> float:
    """Return the area under the receiver operating characteristic, ties counted half."""
    difference = score[ill][:, None] - score[~ill]
    return float((difference > 0).float().mean() + (difference == 0).float().mean() / 2)


def calcifications(seed: int, quick: bool) -> dict[str, float]:
    """Find clusters of calcifications in made mammograms, as the net of 1994 did in real ones."""
    draw = torch.Generator().manual_seed(seed)
    x, wanted, _ = regions(50 if quick else 1000, draw)
    x_test, _, ill = regions(50 if quick else 500, draw)
    torch.manual_seed(seed)
    net = build("siann1991", Spec(channels=1, size=(48, 48), classes=("dot",)), maps=True)

    def loss(maps: Tensor, target: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(maps, target, 1 + 20 * target)

    learn(net, x, wanted, 1 if quick else 60, seed, loss=loss, lr=0.01, batch=16)
    with torch.no_grad():
        found = torch.cat([net(part) for part in x_test.split(100)])
    return {"Az": az(third_peak(found), ill), "Az of brightness": az(third_peak(x_test), ill)}


EXPERIMENTS = {
    "superresolution": Experiment(
        superresolution, (Check("gain over bicubic", 0.3, "-", "C-72"),), "pyramid_superresolution"
    ),
    "fillin": Experiment(
        fillin,
        (
            Check("gain over the input", 0.5, "-", "B11"),
            Check("falls from step 2 to 6", 1, "-", "B11"),
            Check("feedback helps", 0.0, "-", "B11"),
        ),
        "pyramid_fillin",
    ),
    "canvas": Experiment(
        canvas,
        (Check("within 2 px", 0.95, "-", "C-73"), Check("class", 0.93, "-", "B9")),
        "siann1991",
    ),
    "calcifications": Experiment(
        calcifications, (Check("Az", 0.9, "0.91, mammograms", "B9"),), "siann1991"
    ),
}
