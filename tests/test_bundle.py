import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from striate import bundle, container, models
from striate.errors import BundleError
from striate.recipe import Recipe
from striate.spec import Spec

SPEC = Spec(
    channels=3,
    size=(8, 6),
    mean=(51.0, 102.0, 127.5),
    std=(25.5, 51.0, 51.0),
    classes=("cat", "dög", 'a "b"'),
)
SCORE = {"value": 0.91, "low": 0.88, "high": 0.93, "n": 500, "method": "wilson"}


class Tiny(nn.Module):
    """Tied weights, buffers of several types, a convolution to lay out channels last."""

    def __init__(self, spec, width=4):
        super().__init__()
        self.conv = nn.Conv2d(spec.channels, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.head = nn.Linear(width, len(spec.classes))
        self.twin = nn.Linear(width, len(spec.classes))
        self.twin.weight = self.head.weight
        self.num_features = width

    def forward(self, x):
        x = self.norm(self.conv(x)).relu().mean((2, 3))
        return self.head(x) + self.twin(x)


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(models.MODELS, "tiny", Tiny)


def trained(width=4):
    torch.manual_seed(0)
    model = Tiny(SPEC, width)
    model(torch.randn(5, *SPEC.shape))  # moves the running statistics
    return model.eval()


def save(path, model=None, **more):
    return bundle.save(
        path, trained() if model is None else model, "tiny", SPEC, Recipe(seed=7), **more
    )


def reseal(path, change):
    """Let somebody who knows the format rewrite config.json."""
    config = json.loads((path / "config.json").read_text())
    change(config)
    config["striate"]["seal"] = container._seal(config)
    (path / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("name", ["a", "a.zip"])
def test_what_is_saved_is_what_loads(tmp_path, name):
    model = trained(width=5)
    golden = {"pets/cat 1.png": (b"raw", [0.5, 0.25, 0.25])}
    scores = {"test": {"accuracy": SCORE}}
    path = save(
        tmp_path / name,
        model,
        options={"width": 5},
        scores=scores,
        temperature=1.5,
        golden=golden,
    )
    found = bundle.load(path)
    x = torch.randn(2, *SPEC.shape)
    torch.testing.assert_close(found.model(x), model(x), rtol=0, atol=0)
    assert not found.model.training
    assert (found.name, found.options, found.spec) == ("tiny", {"width": 5}, SPEC)
    assert (found.recipe, found.scores, found.temperature) == (Recipe(seed=7), scores, 1.5)
    assert found.golden == {"00-cat_1.png": [0.5, 0.25, 0.25]}
    assert found.path == path


def test_a_real_network_of_the_table_loads_in_a_fresh_process(tmp_path):
    model = models.build("lenet5").eval()
    path = bundle.save(
        tmp_path / "b", model, "lenet5", models.published("lenet5"), Recipe(model="lenet5")
    )
    x = torch.ones(1, 1, 32, 32)
    code = (
        "import sys, torch; from striate.bundle import load;"
        "print(load(sys.argv[1]).model(torch.ones(1, 1, 32, 32)).tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), model(x))


def test_the_run_folder_stands_for_its_bundle(tmp_path):
    save(tmp_path / "run" / "bundle")
    assert bundle.load(tmp_path / "run").path == tmp_path / "run" / "bundle"


def test_ties_stay_tied(tmp_path):
    found = bundle.load(save(tmp_path / "a")).model
    assert found.twin.weight is found.head.weight


def test_channels_last_weights_are_saved_in_plain_order(tmp_path):
    model = trained().to(memory_format=torch.channels_last)
    found = bundle.load(save(tmp_path / "a", model)).model
    torch.testing.assert_close(found.conv.weight, model.conv.weight, rtol=0, atol=0)
    stored = load_file(tmp_path / "a" / "model.safetensors")
    assert all(value.is_contiguous() for value in stored.values())


def test_half_precision_stays_half(tmp_path):
    found = bundle.load(save(tmp_path / "a", trained().bfloat16())).model
    assert found.head.weight.dtype == torch.bfloat16
    assert found.norm.num_batches_tracked.dtype == torch.int64


def test_loading_draws_no_random_number(tmp_path):
    path = save(tmp_path / "a")
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    bundle.load(path)
    assert torch.equal(torch.rand(3), wanted)


def test_the_config_speaks_timm(tmp_path):
    save(tmp_path / "a", options={"width": 4})
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    stamp = config.pop("striate")
    cfg = config.pop("pretrained_cfg")
    assert config == {
        "architecture": "tiny",
        "num_classes": 3,
        "num_features": 4,
        "label_names": list(SPEC.classes),
        "model_args": {"width": 4},
    }
    assert cfg.pop("mean") == pytest.approx([0.2, 0.4, 0.5])
    assert cfg.pop("std") == pytest.approx([0.1, 0.2, 0.2])
    assert cfg == {
        "input_size": [3, 8, 6],
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }
    assert stamp["format"] == 1
    assert set(stamp["files"]) == {
        "model.safetensors",
        "spec.json",
        "recipe.toml",
        "scores.json",
        "golden/expected.json",
        "README.md",
    }


def test_golden_samples_come_with_class_and_bytes(tmp_path):
    save(tmp_path / "a", golden={"x#1": (b"one", [0.1, 0.8, 0.1]), "x#2": (b"two", [1, 0, 0])})
    folder = tmp_path / "a" / "golden"
    answers = json.loads((folder / "expected.json").read_text())
    assert answers["00-x_1"] == {"class": "dög", "probabilities": [0.1, 0.8, 0.1]}
    assert (folder / "01-x_2").read_bytes() == b"two"


def test_the_card_has_scores_classes_and_a_header(tmp_path):
    save(tmp_path / "a", scores={"test": {"accuracy": SCORE}})
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: striate\npipeline_tag: image-classification\n")
    assert "metrics:\n- accuracy\n" in card
    assert "| test accuracy | 0.9100 | 0.8800 to 0.9300 | 500 | wilson |" in card
    assert '"dög"' in card


@pytest.mark.parametrize(
    ("kind", "tag", "file"),
    [
        ("sound", "pipeline_tag: audio-classification\n", "sound.wav"),
        ("text", "pipeline_tag: text-classification\n", "text.txt"),
        ("series", "", "arrays.npz"),
    ],
)
def test_the_card_says_what_kind_of_samples(tmp_path, kind, tag, file):
    kinds = SPEC.model_copy(update={"kind": kind})
    bundle.save(tmp_path / "a", trained(), "tiny", kinds, Recipe(seed=7))
    card = (tmp_path / "a" / "README.md").read_text(encoding="utf-8")
    assert card.startswith(f"---\nlibrary_name: striate\n{tag}# license")
    assert f'predict(["{file}"])' in card


def test_a_score_that_is_not_finite_is_null(tmp_path):
    path = save(tmp_path / "a", scores={"test": {"f1": {**SCORE, "low": float("nan")}}})
    assert bundle.load(path).scores["test"]["f1"]["low"] is None


@pytest.mark.parametrize("name", ["model.safetensors", "spec.json", "recipe.toml", "README.md"])
def test_a_changed_byte_is_refused_by_name(tmp_path, name):
    file = save(tmp_path / "a") / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is not what was saved, its checksum differs"):
        bundle.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"wide": 3}, "config.json cannot be built.*no option 'wide'"),
        ({"width": -1}, "config.json cannot be built"),
    ],
)
def test_options_that_the_network_does_not_have(tmp_path, options, text):
    path = save(tmp_path / "a")
    reseal(path, lambda config: config.update(model_args=options))
    with pytest.raises(BundleError, match=text):
        bundle.load(path)


def test_an_unknown_network_gets_a_hint(tmp_path):
    path = save(tmp_path / "a")
    reseal(path, lambda config: config.update(architecture="tinny"))
    with pytest.raises(BundleError, match=r"config.json names .*'tinny'.*did you mean 'tiny'\?"):
        bundle.load(path)


def replace_file(path, name, content):
    (path / name).write_bytes(content)
    sums = {name: container.sha256(content).hexdigest()}
    reseal(path, lambda config: config["striate"]["files"].update(sums))


def test_weights_of_another_network_are_named(tmp_path):
    path = save(tmp_path / "a")
    state = load_file(path / "model.safetensors")
    state["extra"] = state.pop("conv.bias")
    state["head.weight"] = torch.zeros(3, 5)
    save_file(state, tmp_path / "other")
    replace_file(path, "model.safetensors", (tmp_path / "other").read_bytes())
    with pytest.raises(BundleError, match=r"model.safetensors does not fit 'tiny'") as caught:
        bundle.load(path)
    text = str(caught.value)
    assert "conv.bias is missing" in text
    assert "extra is not part of the network" in text
    assert "head.weight must have shape (3, 4), got (3, 5)" in text


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("model.safetensors", b"\x80\x04pickle", "model.safetensors cannot be read"),
        ("spec.json", b"{", "spec.json is no JSON"),
        ("spec.json", b"[" * 100_000, "spec.json is no JSON"),
        ("spec.json", b"[]", "spec.json must hold a JSON object"),
        ("spec.json", b'{"channels": 0, "size": [8]}', "spec.json .*channels must be at least 1"),
        ("recipe.toml", b"seed = -1", "recipe.toml holds no recipe: seed"),
        ("recipe.toml", b"\xff", "recipe.toml holds no recipe"),
        ("scores.json", b'{"scores": {}, "temperature": 0}', "scores.json .*temperature"),
        ("golden/expected.json", b'{"x": {"probabilities": [1]}}', "a file and 3 probabilities"),
        ("golden/expected.json", b'{"x": 3}', "golden/expected.json does not fit"),
    ],
)
def test_a_file_that_does_not_hold_what_it_should(tmp_path, name, content, text):
    path = save(tmp_path / "a")
    replace_file(path, name, content)
    with pytest.raises(BundleError, match=text):
        bundle.load(path)


def test_a_file_that_the_config_does_not_list_is_missing(tmp_path):
    path = save(tmp_path / "a")
    reseal(path, lambda config: config["striate"]["files"].pop("spec.json"))
    with pytest.raises(BundleError, match=r"spec.json is missing from what config.json lists"):
        bundle.load(path)


def test_a_network_that_nobody_could_load_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match=r"not what build\('tiny'\).*conv.weight must have shape"):
        save(tmp_path / "a", trained(width=4), options={"width": 5})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"temperature": 0.0}, "temperature must be finite and above 0; got 0.0"),
        ({"options": {"width": (4,)}}, "options must be numbers"),
        ({"golden": {"a": (b"", [1.0])}}, r"golden\['a'\] must have 3 probabilities.*got 1"),
    ],
)
def test_a_wrong_call_names_the_argument(tmp_path, more, text):
    with pytest.raises(ValueError, match=text):
        save(tmp_path / "a", **more)


def test_a_score_must_be_plain(tmp_path):
    with pytest.raises(TypeError, match=r"a bundle holds numbers, strings.*object"):
        save(tmp_path / "a", scores={"test": object()})


def test_nothing_is_overwritten(tmp_path):
    save(tmp_path / "a")
    with pytest.raises(BundleError, match="exists and is never overwritten"):
        save(tmp_path / "a")


def test_a_full_disk_leaves_the_previous_state(tmp_path, monkeypatch):
    save(tmp_path / "a")

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(container.os, "fsync", full)
    for name in ("b", "b.zip"):
        with pytest.raises(BundleError, match=r"the disk is full: .*b.* needs \d{4,} bytes"):
            save(tmp_path / name)
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_bundles_are_made_of_the_same_bytes(tmp_path):
    for name in ("a.zip", "b.zip"):
        save(tmp_path / name, golden={"x": (b"raw", [1.0, 0.0, 0.0])})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_a_compiled_network_is_saved_as_the_plain_one(tmp_path):
    model = trained()
    wrapped = torch.compile(model)  # compiles nothing before its first call
    found = bundle.load(save(tmp_path / "a", wrapped)).model
    assert found.state_dict().keys() == model.state_dict().keys()


def test_a_bundle_moves_to_another_place(tmp_path):
    shutil.move(save(tmp_path / "a"), tmp_path / "elsewhere")
    found = bundle.load(tmp_path / "elsewhere")
    assert replace(found, path=tmp_path / "a").path == tmp_path / "a"
