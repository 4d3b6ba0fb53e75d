import re

import numpy as np
import pytest
from PIL import Image

from striate.assess import evaluate
from striate.data.material import gather
from striate.deploy.predict import load
from striate.errors import DataError
from striate.recipe import Recipe
from striate.run import train


@pytest.fixture
def bundle(photos, tmp_path):
    recipe = Recipe(epochs=4, model_options={"width": 8}, threads=1)
    train("photos", gather(photos, size=16), recipe, tmp_path / "run", quiet=True)
    return tmp_path / "run"


def test_all_of_unsplit_data_is_scored(bundle, photos):
    result = evaluate(bundle, photos)
    assert result["split"] == "all"
    assert result["n"] == 60
    assert result["trained_on"] == 43  # of 60: 20 % test, 10 % of the rest validation
    assert {"accuracy", "macro_f1", "log_loss", "ece"} <= set(result["scores"])


def test_classes_are_matched_by_name_not_by_place(bundle, photos, tmp_path):
    both = evaluate(bundle, photos)
    table = tmp_path / "one.csv"
    rows = [f"photos/down/{i:02}.png,down" for i in range(30)]
    rows += ["photos/across/00.png,across"]
    table.write_text("\n".join(["path,label", *rows]))  # other counts, the same names
    found = evaluate(bundle, table)
    assert found["per_class"]["down"]["recall"] == both["per_class"]["down"]["recall"]


def test_an_unknown_class_is_refused(bundle, photos):
    (photos / "slant").mkdir()
    Image.new("RGB", (20, 20)).save(photos / "slant" / "a.png")
    with pytest.raises(DataError, match="knows the classes across, down; the data also have slant"):
        evaluate(bundle, photos)


def test_unreadable_files_are_left_out_and_named(bundle, photos):
    (photos / "down" / "bad.jpg").write_bytes(b"no picture")
    result = evaluate(bundle, photos)
    assert result["n"] == 60
    assert [s["path"] for s in result["skipped"]] == ["down/bad.jpg"]


def test_pictures_are_refused_by_a_network_of_floats_beyond_white(photos, tmp_path, capsys):
    """The same pixels as floats from 0 to 255 and as PNG: 3 of 40 were right."""
    for path in sorted(photos.rglob("*.png")):
        to = tmp_path / "floats" / path.relative_to(photos).with_suffix(".tif")
        to.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(Image.open(path).convert("L"), np.float32)).save(to)
    material = gather(tmp_path / "floats", size=16)
    said = [w.detail for w in material.audit.warnings if w.kind == "value-range"]
    assert len(said) == 1
    assert re.search(r"floats from [\d.]+ to 2\d\d.*read as 0 \(black\) to 1", said[0])
    recipe = Recipe(epochs=1, model_options={"width": 8}, threads=1)
    train("floats", material, recipe, tmp_path / "run")
    assert "value-range: floats from" in capsys.readouterr().err
    assert evaluate(tmp_path / "run", tmp_path / "floats")["n"] == 60
    with pytest.raises(DataError, match=r"no shares of white.*and uint8 samples are.*give floats"):
        evaluate(tmp_path / "run", photos)
    files = [photos / "down" / "00.png", tmp_path / "floats" / "down" / "00.tif"]
    png, tif = load(tmp_path / "run").predict(files)
    assert (png.label, tif.error) == (None, None)
    assert re.search("no shares of white", png.error)
    with pytest.raises(ValueError, match="no shares of white"):
        load(tmp_path / "run").predict(np.zeros((16, 16), np.uint8))


def test_arrays_are_read_as_the_network_was_trained_and_others_refused(tmp_path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(60, 3, 20)), np.arange(60) % 2
    np.savez(tmp_path / "a.npz", x=x + 3 * y[:, None, None], y=y)
    material = gather(tmp_path / "a.npz", axes=1)
    recipe = Recipe(axes=1, epochs=4, model_options={"width": 8}, threads=1)
    train("a", material, recipe, tmp_path / "run", quiet=True)
    assert evaluate(tmp_path / "run", tmp_path / "a.npz")["n"] == 60  # no pictures of 3 x 20
    np.savez(tmp_path / "b.npz", x=x[:, :1], y=y)
    with pytest.raises(DataError, match=r"none of the 60 .* channels: wanted \(3, 20\), got"):
        evaluate(tmp_path / "run", tmp_path / "b.npz")
    with pytest.raises(DataError, match="wanted series samples, of axes 1; got image samples"):
        evaluate(tmp_path / "run", "digits")


def test_rows_of_arrays_that_were_trained_on_are_counted(tmp_path):
    material = gather("digits")
    recipe = Recipe(epochs=1, model_options={"width": 8}, threads=1)
    train("digits", material, recipe, tmp_path / "run", quiet=True)
    assert evaluate(tmp_path / "run", "digits")["trained_on"] == len(material.split.train)
    held, arrays = material.split.test, material.samples.arrays
    np.savez(tmp_path / "held.npz", x=arrays[held], y=material.samples.labels[held])
    assert evaluate(tmp_path / "run", tmp_path / "held.npz")["trained_on"] == 0
