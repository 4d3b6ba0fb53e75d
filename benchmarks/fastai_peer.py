"""fastai as a contestant: its SimpleCNN in a Learner with fit_one_cycle, data in memory.

Strided 3x3 convolutions of 32, 64, 128 with batch norm, one linear layer, batch 512 in place of
the default 64 because it is faster, one cycle of 12 epochs (6 end at 98.6 %), learning rate as
fastai's tutorials. The batches are cut out of tensors (fastai's `create_batch`), not collected
picture by picture. Stops at the first epoch whose test accuracy is at the target.
"""

import argparse
import time

import torch
from torch import Tensor, nn

from pictures import Pictures, print_result, read_pictures


def train(data: Pictures, epochs: int, target: float) -> dict[str, float]:
    """Train and return accuracy and speed."""
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401  gives a Learner fit_one_cycle, as the other no_bar
    from fastai.data.core import DataLoaders
    from fastai.layers import SimpleCNN
    from fastai.learner import Learner
    from fastai.metrics import accuracy

    loaders = DataLoaders(
        _loader(data.x_train, data.y_train, shuffle=True), _loader(data.x_test, data.y_test)
    )
    net = nn.Sequential(SimpleCNN([1, 32, 64, 128]), nn.Linear(128, 10))
    learner = Learner(loaders, net, loss_func=nn.CrossEntropyLoss(), metrics=accuracy)
    stop = _stopper(target)
    started = time.monotonic()
    with learner.no_bar(), learner.no_logging():
        learner.fit_one_cycle(epochs, 1e-2, cbs=stop)
    spent = time.monotonic() - started
    done = len(learner.recorder.values)
    return {
        "accuracy": float(learner.recorder.values[-1][2]),
        "epochs": done,
        "images_per_second": done * len(data.y_train) / spent,
    }


def _loader(x: "torch.Tensor", y: "torch.Tensor", shuffle: bool = False) -> object:
    """Return a fastai DataLoader that slices whole batches out of two tensors."""
    from fastai.data.load import DataLoader

    pixels = (torch.from_numpy(x).float() / 255 - 0.1307) / 0.3081
    labels = torch.from_numpy(y)

    class Slices(DataLoader):
        """Batches by slicing."""

        def create_item(self, s: int) -> int:
            """Return the number of a sample: nothing is fetched one by one."""
            return s

        def create_batch(self, b: list[int]) -> tuple[Tensor, Tensor]:
            """Return the samples `b`."""
            rows = torch.tensor(b)
            return pixels[rows], labels[rows]

    return Slices(
        range(len(labels)), bs=512, shuffle=shuffle, num_workers=0, device=torch.device("cpu")
    )


def _stopper(target: float) -> object:
    """Return a callback that ends the training at the target."""
    from fastai.callback.core import Callback, CancelFitException

    class Stop(Callback):
        """Stop at the target accuracy."""

        order = 70  # after the recorder, which is 50

        def after_epoch(self) -> None:
            """Look at the accuracy of the epoch that ended."""
            if target and float(self.recorder.values[-1][2]) >= target:
                raise CancelFitException

    return Stop()


def main() -> None:
    """Train as the command line says and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="mnist, or a folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12, help="at most so many")
    parser.add_argument("--target", type=float, default=0.0, help="accuracy to stop at")
    parser.add_argument("--images", type=int, default=0, help="pictures of each split; 0: all")
    chosen = parser.parse_args()
    from fastai.torch_core import set_seed

    set_seed(chosen.seed)
    data = read_pictures(chosen.data).first(chosen.images, chosen.images)
    print_result(**train(data, chosen.epochs, chosen.target))


if __name__ == "__main__":
    main()
