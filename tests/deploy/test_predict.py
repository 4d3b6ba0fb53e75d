import csv
import io
import json
import threading
from itertools import count, islice

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from striate import bundle, models
from striate.data.loader import Loader
from striate.data.prepare import normalise, prepare, prepare_file
from striate.deploy import predict
from striate.errors import BundleError, RecipeError
from striate.recipe import Recipe
from striate.spec import Spec
from striate.train.evaluate import predict as evaluate

CLASSES = ("dark", "bright, very", "other")


def spec(channels=1, size=(8, 10), **more):
    scale = {"mean": (100.0,) * channels, "std": (50.0,) * channels}
    return Spec(channels=channels, size=size, classes=CLASSES, **{**scale, **more})


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    def build(spec):
        torch.manual_seed(3)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(spec.values, 16),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Linear(16, 3),
        )

    monkeypatch.setitem(models.MODELS, "tiny", build)


@pytest.fixture
def model(tmp_path):
    return make(tmp_path)


def make(folder, temperature=1.7, **more):
    what = spec(**more)
    net = models.MODELS["tiny"](what)
    place = folder / f"bundle-{'-'.join(map(str, more.values()))}"
    bundle.save(place, net, "tiny", what, Recipe(), temperature=temperature)
    return predict.load(place, "cpu")


def pictures(folder, number, size=(8, 10)):
    folder.mkdir()
    draw = np.random.default_rng(0)
    for i in range(number):
        pixels = draw.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"p{i:02d}.png")
    return sorted(folder.iterdir())


def softmax(logits):
    z = np.exp(logits - logits.max())
    return z / z.sum()


def test_probabilities_are_the_softmax_of_calibrated_logits(model, tmp_path):
    for path in pictures(tmp_path / "in", 5):
        batch = torch.from_numpy(normalise(prepare_file(path, model.spec)[None], model.spec))
        with torch.no_grad():
            logits = model.bundle.model(batch).double().numpy()[0]
        (row,) = model.predict([path])
        wanted = softmax(logits / 1.7)
        np.testing.assert_allclose(list(row.probabilities.values()), wanted, rtol=1e-12)
        assert row.label == CLASSES[wanted.argmax()]
        assert row.probability == row.probabilities[row.label]
        assert row.error is None


def test_prediction_is_evaluation_to_the_bit(tmp_path):
    what = spec(3, (16, 16))
    net = models.build("resnet20", what).eval()
    bundle.save(tmp_path / "b", net, "resnet20", what, Recipe(model="resnet20"), temperature=0.9)
    paths = pictures(tmp_path / "in", 10, size=(20, 30))
    stored = np.stack([prepare_file(path, what) for path in paths])
    logits, _ = evaluate(net, Loader(stored, np.zeros(10, np.int64), what, batch=4))
    wanted = [softmax(row / 0.9) for row in logits]
    for rows in (
        predict.load(tmp_path / "b", "cpu").predict(paths, batch=4),
        predict.load(tmp_path / "b", "cpu").predict(stored, batch=4),
    ):
        found = [list(row.probabilities.values()) for row in rows]
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_a_model_says_what_it_takes_and_answers(model):
    assert model.classes == CLASSES
    assert model.spec == model.bundle.spec
    assert model.temperature == 1.7


def test_rows_come_in_input_order_whatever_the_batch(model, tmp_path):
    paths = pictures(tmp_path / "in", 11)[::-1]
    whole = model.predict(paths, batch=64)
    assert [row.path for row in whole] == [str(path) for path in paths]
    for size in (1, 4, 11):
        rows = model.predict(paths, batch=size)
        assert [row.path for row in rows] == [row.path for row in whole]
        for a, b in zip(rows, whole, strict=True):
            assert list(a.probabilities.values()) == pytest.approx(
                list(b.probabilities.values()), abs=1e-6
            )


def test_an_unreadable_file_is_a_row_with_an_error(model, tmp_path):
    good, cut = pictures(tmp_path / "in", 2)
    cut.write_bytes(cut.read_bytes()[:60])
    (tmp_path / "text.jpg").write_text("no image")
    paths = [tmp_path / "text.jpg", good, cut, tmp_path / "none.png", good]
    rows = list(predict.predict_stream(model, paths))
    assert [row.error is None for row in rows] == [False, True, False, False, True]
    assert [row.path for row in rows] == [str(path) for path in paths]
    assert all(row.label is row.probability is None for row in rows if row.error)
    assert "No such file" in rows[3].error
    assert rows[1] == rows[4]


def test_every_row_of_an_npz_gets_an_answer(tmp_path):
    model = make(tmp_path, kind="series", channels=3, size=(20,), dtype="float32")
    x = np.random.default_rng(0).normal(size=(70, 3, 20)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x_test=x)
    np.savez(tmp_path / "b.npz", x=x[:, :2])
    (tmp_path / "c.npz").write_bytes(b"text")
    rows = model.predict([tmp_path / name for name in ("a.npz", "b.npz", "c.npz", "d.png")])
    first = f"{tmp_path / 'a.npz'}:x_test#"
    assert [row.path for row in rows[:70]] == [f"{first}{k}" for k in range(70)]
    wanted = model.probabilities(x)
    assert np.allclose([list(row.probabilities.values()) for row in rows[:70]], wanted, atol=1e-6)
    assert all("nor its channels: wanted (3, 20), got (2, 20)" in row.error for row in rows[70:140])
    assert [row.path for row in rows[140:]] == [str(tmp_path / n) for n in ("c.npz", "d.png")]
    assert "is not an NPZ file" in rows[140].error
    assert [row.path for row in model.predict(tmp_path)] == [row.path for row in rows[:141]]


def test_pictures_in_an_npz_are_answered_too(model, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 10), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=x)
    answers = [row.probabilities for row in model.predict([tmp_path / "a.npz"])]
    assert answers == [row.probabilities for row in model.predict(x)]


def test_a_folder_and_a_single_file_are_read(model, tmp_path):
    paths = pictures(tmp_path / "in", 3)
    assert [row.path for row in model.predict(tmp_path / "in")] == [str(p) for p in paths]
    assert model.predict(str(paths[1]))[0].path == str(paths[1])


def test_no_input_gives_no_rows(model):
    assert model.predict([]) == []
    assert list(predict.predict_stream(model, [])) == []


def test_a_stream_without_end_takes_only_two_batches_ahead(model, tmp_path):
    (path,) = pictures(tmp_path / "in", 1)
    taken = count()

    def endless():
        while True:
            next(taken)
            yield path

    rows = list(islice(predict.predict_stream(model, endless(), batch=4), 10))
    assert len(rows) == 10
    assert next(taken) <= 10 + 3 * 4


def test_leaving_a_stream_ends_its_threads(model, tmp_path):
    paths = pictures(tmp_path / "in", 9)
    before = threading.active_count()
    stream = predict.predict_stream(model, paths, batch=2)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_an_answer_that_is_not_finite_is_an_error(model):
    with torch.no_grad():
        model.bundle.model[-1].bias[0] = float("nan")
    (row,) = model.predict(np.zeros((8, 10), np.uint8))
    assert row.error == "the network's answer is not finite"
    assert row.probabilities == {}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((8, 10), (None, None)),
        ((3, 20, 30), (None,)),
        ((4, 20, 30), (None,)),
        ((8, 10, 3), (None, -1, 0)),
        ((20, 30, 3), (None, -1, 0)),
        ((5, 1, 8, 10), ()),
        ((5, 3, 9, 9), ()),
        ((5, 9, 9, 3), (-1, 1)),
        ((7, 8, 10), (1,)),
    ],
)
def test_arrays_are_read_by_their_shape(tmp_path, channels, shape, axes):
    model = make(tmp_path, channels=channels)
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    batch = array
    if axes == (None, None):
        batch = array[None, None]
    elif axes == (None,):
        batch = array[None]
    elif axes == (None, -1, 0):
        batch = np.moveaxis(array, -1, 0)[None]
    elif axes == (-1, 1):
        batch = np.moveaxis(array, -1, 1)
    elif axes == (1,):
        batch = array[:, None]
    wanted = model.probabilities(np.stack([prepare(one, model.spec) for one in batch]))
    for given in (array, torch.from_numpy(array), list(batch)):
        rows = model.predict(given, batch=2)
        assert [row.path for row in rows] == [f"#{i}" for i in range(len(batch))]
        found = [list(row.probabilities.values()) for row in rows]
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_floats_are_0_to_1_and_mean_what_bytes_mean(model):
    whole = np.random.default_rng(0).integers(0, 256, (2, 1, 8, 10), np.uint8)
    floats = whole / 255
    for a, b in zip(model.predict(whole), model.predict(floats), strict=True):
        assert a.label == b.label
        assert a.probability == pytest.approx(b.probability, abs=1e-6)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros((3, 8, 10), np.uint8), r"\(C, \*S\) or \(N, \*S\); give \(N, C, \*S\)"),
        (np.zeros((3, 9, 3), np.uint8), r"\(C, \*S\) or \(\*S, C\)"),
        (np.zeros((2, 3, 9, 3), np.uint8), r"\(N, C, \*S\) or \(N, \*S, C\)"),
        (np.zeros((6, 9, 9), np.uint8), r"no batch or sample; .* takes \(N, 1, 8, 10\)"),
        (np.zeros(5, np.uint8), "no batch or sample"),
        (np.full((8, 10), 255.0), "floats must lie within 0 .*; got 255.0 to 255.0"),
        (np.full((8, 10), np.nan), "floats must lie within 0 .*; got nan"),
        (np.zeros((8, 10), np.int64), "inputs must be uint8, uint16 or float; got int64"),
        ([np.zeros((8, 10), np.uint8), "a.png"], "all files or all arrays; item 1 is 'a.png'"),
        ([np.zeros((2, 1, 8, 10), np.uint8)], "no batch or sample"),
    ],
)
def test_an_array_that_can_be_misread_is_refused(model, array, text):
    with pytest.raises(ValueError, match=text):
        model.predict(array)


def test_in_a_list_of_samples_one_of_three_channels_is_no_batch(model):
    assert len(model.predict([np.zeros((3, 8, 10), np.uint8)])) == 1


def test_a_batch_size_below_one_is_refused(model):
    with pytest.raises(ValueError, match="batch must be at least 1; got 0"):
        model.predict(np.zeros((8, 10), np.uint8), batch=0)
    with pytest.raises(ValueError, match="batch must be at least 1; got -1"):
        list(predict.predict_stream(model, [], batch=-1))


def test_half_precision_weights_get_half_precision_samples(tmp_path):
    what = spec()
    net = models.MODELS["tiny"](what).bfloat16()
    bundle.save(tmp_path / "half", net, "tiny", what, Recipe())
    (row,) = predict.load(tmp_path / "half", "cpu").predict(np.zeros((8, 10), np.uint8))
    assert sum(row.probabilities.values()) == pytest.approx(1, abs=1e-12)


GOOD = predict.Prediction(
    "ä.png", CLASSES[1], 0.75, dict(zip(CLASSES, (0.125, 0.75, 0.125), strict=True)), None
)
BAD = predict.Prediction("b.png", None, None, {}, "truncated")


def test_csv_has_a_column_a_class_and_empty_cells_after_an_error():
    file = io.StringIO()
    predict.write_csv([GOOD, BAD], file, CLASSES)
    head, good, bad = csv.reader(io.StringIO(file.getvalue()))
    each = [f"probability:{name}" for name in CLASSES]
    assert head == ["path", "class", "probability", *each, "error"]
    assert good == ["ä.png", "bright, very", "0.75", "0.125", "0.75", "0.125", ""]
    assert bad == ["b.png", "", "", "", "", "", "truncated"]


def test_jsonl_has_the_keys_of_the_design():
    file = io.StringIO()
    predict.write_jsonl([GOOD, BAD], file)
    good, bad = map(json.loads, file.getvalue().splitlines())
    assert list(good) == ["path", "class", "probability", "probabilities", "error"]
    assert good["probabilities"] == dict(zip(CLASSES, (0.125, 0.75, 0.125), strict=True))
    assert bad == {
        "path": "b.png",
        "class": None,
        "probability": None,
        "probabilities": {},
        "error": "truncated",
    }


def test_a_device_that_is_not_here_is_refused(model):
    with pytest.raises(RecipeError, match="must be one of this machine"):
        predict.load(model.bundle.path, "cuda:99")


def test_auto_takes_the_best_device_there_is(model):
    wanted = "cuda" if torch.cuda.is_available() else None
    wanted = wanted or ("mps" if torch.backends.mps.is_available() else "cpu")
    assert predict.load(model.bundle.path).device.type == wanted


def test_a_missing_bundle_is_named(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle at .*none"):
        predict.load(tmp_path / "none")
