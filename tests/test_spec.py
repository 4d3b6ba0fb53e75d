import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from striate.spec import DTYPES, Spec


@pytest.mark.parametrize("size", [(9,), (9, 8), (9, 8, 7)])
def test_shape_is_channels_then_axes(size):
    spec = Spec(channels=2, size=size)
    assert spec.axes == len(size)
    assert spec.shape == (2, *size)
    product = 1
    for extent in spec.shape:
        product *= extent
    assert spec.values == product


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_value_range_is_that_of_the_type(dtype):
    assert Spec(channels=1, size=(4,), dtype=dtype).value_range == DTYPES[dtype]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"channels": 0}, "channels must be at least 1; got 0"),
        ({"size": ()}, "size must have 1 to 3 axes"),
        ({"size": (1, 2, 3, 4)}, "size must have 1 to 3 axes"),
        ({"size": (4, 0)}, r"at least 1 sample; got \(4, 0\)"),
        ({"mean": (1.0,)}, "mean must have 3 values, one a channel"),
        ({"std": (1.0, 2.0)}, "std must have 3 values, one a channel"),
        ({"std": (1.0, 2.0, 0.0)}, "std must be above 0 in every channel"),
        ({"step": (1.0,)}, "step must have 2 values, one an axis"),
        ({"classes": ("a", "a")}, "class names must differ"),
        ({"resize": "squeeze"}, "resize"),
        ({"sise": 3}, "sise"),
    ],
)
def test_an_error_says_what_was_wanted_and_got(change, text):
    with pytest.raises(ValidationError, match=text):
        Spec(**{"channels": 3, "size": (4, 5), **change})


def test_a_spec_is_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Spec(channels=1, size=(4,)).channels = 2


@settings(max_examples=30, deadline=None)
@given(
    classes=st.lists(st.text(min_size=1), unique=True, max_size=5),
    mean=st.floats(-1e9, 1e9),
    std=st.floats(1e-9, 1e9),
)
def test_json_gives_the_same_spec_back(classes, mean, std):
    spec = Spec(channels=1, size=(3, 4), mean=(mean,), std=(std,), classes=tuple(classes))
    assert Spec.model_validate_json(spec.model_dump_json()) == spec


@pytest.mark.parametrize(
    ("mean", "std", "fits"),
    [(0.0, 0.5, True), (1.0, 0.1, True), (-0.1, 0.1, False), (1.1, 0.1, False), (0.5, 0.6, False)],
)
def test_only_some_means_and_deviations_are_those_of_black_to_white(mean, std, fits):
    assert (
        Spec(channels=1, size=(4,), dtype="float32", mean=(mean,), std=(std,)).fits_pictures == fits
    )
    assert Spec(channels=1, size=(4,), mean=(mean,), std=(std,)).fits_pictures
    assert Spec(channels=1, size=(4,), dtype="float32").fits_pictures
