"""Keras as a contestant: the simple convnet of its documentation, on the torch backend.

Two 3x3 convolutions of 32 and 64 with max pooling, dropout 1/2, softmax; Adam; batch 128; at most
12 epochs. Trained on all 60,000 pictures, where the documentation holds a tenth out. Stops at the
first epoch whose test accuracy is at the target.
"""

import argparse
import os
import time

from pictures import Pictures, print_result, read_pictures


def train(data: Pictures, epochs: int, target: float) -> dict[str, float]:
    """Train and return accuracy and speed."""
    import keras
    from keras import layers

    x, x_test = (part.transpose(0, 2, 3, 1) / 255.0 for part in (data.x_train, data.x_test))
    x, x_test = x.astype("float32"), x_test.astype("float32")
    net = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *(layers.Conv2D(32, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(2)),
            *(layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax")),
        ]
    )
    net.compile(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    right, spent, done = 0.0, 0.0, 0
    while done < epochs and not (target and right >= target):
        started = time.monotonic()
        net.fit(x, data.y_train, batch_size=128, epochs=done + 1, initial_epoch=done, verbose=0)
        spent += time.monotonic() - started
        done += 1
        right = net.evaluate(x_test, data.y_test, batch_size=500, verbose=0)[1]
    return {"accuracy": right, "epochs": done, "images_per_second": done * len(x) / spent}


def main() -> None:
    """Train as the command line says and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="mnist, or a folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12, help="at most so many")
    parser.add_argument("--target", type=float, default=0.0, help="accuracy to stop at")
    parser.add_argument("--images", type=int, default=0, help="pictures of each split; 0: all")
    chosen = parser.parse_args()
    os.environ["KERAS_BACKEND"] = "torch"  # read when keras is imported
    import keras

    keras.utils.set_random_seed(chosen.seed)
    data = read_pictures(chosen.data).first(chosen.images, chosen.images)
    print_result(**train(data, chosen.epochs, chosen.target))


if __name__ == "__main__":
    main()
