import pytest
from PIL import Image

from striate.assess import evaluate
from striate.data.material import gather
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
