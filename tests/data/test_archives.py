import gzip
import pickle
import struct

import numpy as np
import pytest

from striate.data.readers import read
from striate.errors import DataError


@pytest.fixture
def npz(tmp_path):
    """Return a function that writes arrays as an NPZ and gives its path."""

    def write(**arrays):
        np.savez(tmp_path / "a.npz", **arrays)
        return tmp_path / "a.npz"

    return write


def pictures(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    "keys", [("x", "y"), ("images", "labels"), ("data", "target"), ("arr_0", "arr_1")]
)
def test_pictures_and_labels_are_found_by_their_keys(npz, keys):
    x = pictures(3, 5, 4)
    found = read(npz(**dict(zip(keys, (x, np.array([10, 2, 10])), strict=True))))
    assert np.array_equal(found.arrays, x[:, None])
    assert (found.classes, found.labels.tolist()) == (("2", "10"), [1, 0, 1])
    assert found.names == tuple(f"{keys[0]}#{k}" for k in range(3))
    assert (found.files, found.sources, set(found.splits)) == (None, (found.root,), {""})


def test_labels_that_are_no_utf8_stay_different(npz):
    found = read(npz(x=pictures(3, 5, 4), y=np.array([b"\xe9", b"\xe8", b"\xc3\xa9"])))
    assert found.classes == (r"\xe8", r"\xe9", "é")


@pytest.mark.parametrize("style", ["{}_{}", "{1}_{0}"])
def test_splits_are_found_by_their_keys(npz, style):
    arrays = {}
    for word, n in (("test", 2), ("val", 1), ("train", 3)):
        arrays[style.format("images", word)] = pictures(n, 5, 4, 3)
        arrays[style.format("labels", word)] = np.arange(n)[:, None]
    found = read(npz(**arrays))
    assert found.splits.tolist() == ["train"] * 3 + ["validation"] + ["test"] * 2
    assert found.labels.tolist() == [0, 1, 2, 0, 0, 1]
    wanted = arrays[style.format("images", "test")].transpose(0, 3, 1, 2)
    assert np.array_equal(found.arrays[4:], wanted)


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((2, 5, 6), (2, 1, 5, 6)),
        ((2, 5, 6, 1), (2, 1, 5, 6)),
        ((2, 5, 6, 3), (2, 3, 5, 6)),
        ((2, 5, 6, 4), (2, 4, 5, 6)),
        ((2, 3, 5, 6), (2, 3, 5, 6)),
        ((2, 3, 5, 4), (2, 4, 3, 5)),
    ],
)
def test_the_channel_axis_is_the_one_of_1_3_or_4_and_the_last_wins(npz, shape, wanted):
    assert read(npz(x=pictures(*shape), y=np.arange(2))).arrays.shape == wanted


@pytest.mark.parametrize(
    ("x", "dtype", "highest"),
    [
        (np.array([0, 255], np.uint8), "uint8", 255),
        (np.array([0, 4095], np.uint16), "uint16", 4095),
        (np.array([0, 1], bool), "uint8", 255),
        (np.array([0, 200], np.int64), "uint8", 200),
        (np.array([0, 300], np.int32), "uint16", 300),
        (np.array([0, 1], np.float64), "float32", 1),
        (np.array([0, 1], np.float16), "float32", 1),
    ],
)
def test_types_become_the_three_that_samples_have(npz, x, dtype, highest):
    found = read(npz(x=np.broadcast_to(x[:, None, None], (2, 4, 5)), y=np.arange(2)))
    assert found.arrays.dtype == dtype
    assert found.arrays[1].max() == highest


def test_class_names_are_taken_as_given(npz):
    x = pictures(3, 5, 5)
    found = read(npz(x=x, y=np.array([2, 0, 2]), class_names=np.array(["z", "y", "x"])))
    assert (found.classes, found.labels.tolist()) == (("z", "y", "x"), [2, 0, 2])
    found = read(npz(x=x, y=np.array(["x", "z", "x"]), classes=np.array([b"z", b"x"])))
    assert (found.classes, found.labels.tolist()) == (("z", "x"), [1, 0, 1])
    found = read(npz(x=x, y=np.array([b"b", b"a", b"b"])))
    assert (found.classes, found.labels.tolist()) == (("a", "b"), [1, 0, 1])


def test_arrays_of_no_use_are_said(npz):
    found = read(npz(x=pictures(2, 5, 5), y=np.arange(2), ids=np.arange(2)))
    assert [(fault.kind, fault.path) for fault in found.skipped] == [("skipped", "ids")]


def test_series_and_volumes_are_read_where_the_axes_are_said(npz):
    path = npz(x=pictures(4, 3, 20), y=np.arange(4))
    assert (read(path).kind, read(path).arrays.shape) == ("image", (4, 1, 3, 20))
    assert [fault.kind for fault in read(path).doubts] == ["ambiguous"]
    series = read(path, axes=1)
    assert (series.kind, series.arrays.shape, series.doubts) == ("series", (4, 3, 20), ())
    volumes = read(npz(x=pictures(4, 5, 6, 7), y=np.arange(4)), axes=3)
    assert (volumes.kind, volumes.arrays.shape) == ("volume", (4, 1, 5, 6, 7))


def test_a_doubt_is_said_once_for_all_splits(npz):
    x, y = pictures(4, 3, 20), np.arange(4)
    found = read(npz(x_train=x, y_train=y, x_test=x, y_test=y))
    assert [fault.path for fault in found.doubts] == ["x_train"]


def test_numbers_with_a_sign_are_floats_where_they_are_no_pictures(npz):
    x = np.array([[-1000, 0, 3000, 2**24]] * 2, np.int32)
    found = read(npz(x=x, y=np.arange(2)), axes=1)
    assert found.arrays.dtype == np.float32
    assert np.array_equal(found.arrays[:, 0], x)
    with pytest.raises(DataError, match=r"whole numbers from 0 to 65535; got 0 to 16777217"):
        read(npz(x=abs(x) + x // 2**24, y=np.arange(2)), axes=1)


def test_arrays_to_predict_need_no_labels(npz):
    found = read(npz(x=pictures(2, 5, 5)), labelled=False)
    assert (found.labels.tolist(), found.classes) == ([-1, -1], ())
    with pytest.raises(DataError, match=r"wanted an array x; got a: name them so$"):
        read(npz(a=pictures(2, 5, 5)), labelled=False)


X = pictures(3, 5, 5)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X, "b": X}, "wanted arrays x and y.*got a, b"),
        ({"b": X}, "got b: name them so, or images, data or arr_0 for x"),
        ({"x": X}, "wanted arrays x and y.*got x: the labels y of x are missing"),
        ({"data_test": X}, "the labels target_test of data_test are missing"),
        ({"x": X, "y": np.arange(2)}, "one label a sample; got 3 in x and 2 in y"),
        ({"x": X, "y": np.array([0, np.nan, 1])}, r"labels are NaN in 1 rows: \[1\]"),
        ({"x": X, "y": np.array([0, 2**63, 1], np.uint64)}, r"not below 2\^63 in 1 rows: \[1\]"),
        ({"x": X, "y": np.array([1e300, 0, -np.inf])}, r"not below 2\^63 in 2 rows: \[0, 2\]"),
        ({"x": X, "y": np.array([0, 0.5, 1])}, r"not whole numbers in 1 rows: \[1\]"),
        ({"x": X, "y": np.array(["a", "", "b"])}, r"labels are empty in 1 rows: \[1\]"),
        ({"x": X, "y": np.eye(3)}, r"shape \(N,\) or \(N, 1\); got \(3, 3\)"),
        ({"x": X, "y": np.zeros(3, int)}, "at least two classes; got only '0'"),
        ({"x": X[:, 0], "y": np.arange(3)}, r"wanted pictures \(N, H, W\).*got \(3, 5\)"),
        ({"x": X[0], "y": np.arange(5), "axes": 1}, r"if it is series \(N, T\).*say --axes 1"),
        ({"x": pictures(3, 5, 5, 2), "y": np.arange(3)}, r"C = 1, 3 or 4; got \(3, 5, 5, 2\)"),
        ({"x": X.astype(int) - 1, "y": np.arange(3)}, "whole numbers from 0 to 65535; got -1 to"),
        (
            {"x": X * np.nan, "y": np.arange(3)},
            r"NaN or infinite values in 3 rows: \[0, 1, 2\]; fill",
        ),
        ({"x": X.astype(object), "y": np.arange(3)}, "x: wanted plain .*pad samples to one length"),
        ({"x": X, "y": np.array([*"aba"], object)}, r"y: wanted plain .*labels with astype\(str\)"),
        ({"x": X.astype(complex), "y": np.arange(3)}, "got complex128"),
        ({"x": X, "y": np.arange(3), "classes": ["a", "b"]}, "labels from 0 to 1.*got 0 to 2"),
        ({"x": X, "y": np.arange(3), "classes": ["a", "a", "b"]}, "class names that differ"),
        ({"x": X, "y": np.array(["a", "b", "q"]), "classes": ["a", "b"]}, r"got \['q'\]"),
        ({"x": X[:0], "y": np.arange(0)}, "at least one sample"),
        (
            {"x_train": X, "y_train": np.arange(3), "x_test": X[:, :4], "y_test": np.arange(3)},
            "one size and type in every split",
        ),
    ],
)
def test_a_bad_npz_is_refused(npz, arrays, message):
    with pytest.raises(DataError, match=message):
        read(npz(**arrays))


def test_a_broken_npz_is_named(npz):
    path = npz(x=X, y=np.arange(3))
    whole = path.read_bytes()
    for broken in (whole[:200], b"text", b"", whole[:100] + b"????" + whole[104:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"a\.npz"):
            read(path)


def idx(values):
    axes = struct.pack(f">{values.ndim}I", *values.shape)
    return struct.pack(">HBB", 0, 8, values.ndim) + axes + values.tobytes()


@pytest.fixture
def mnist(tmp_path):
    """A folder of four small IDX files, two of them packed."""
    x, y = pictures(5, 6, 7), np.array([7, 1, 7, 3, 1], np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(x[:3])))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y[:3])))
    (tmp_path / "t10k-images.idx3-ubyte").write_bytes(idx(x[3:]))
    (tmp_path / "t10k-labels.idx1-ubyte").write_bytes(idx(y[3:]))
    return tmp_path


def test_idx_files_are_read_packed_or_not(mnist):
    found = read(mnist)
    assert np.array_equal(found.arrays[:, 0], pictures(5, 6, 7))
    assert (found.classes, found.labels.tolist()) == (("1", "3", "7"), [2, 0, 2, 1, 0])
    assert found.splits.tolist() == ["train"] * 3 + ["test"] * 2
    assert found.names[3] == "t10k-images.idx3-ubyte#0"
    assert len(found.sources) == 4
    assert len(read(mnist, labelled=False).sources) == 2


def test_broken_idx_files_are_named_with_wanted_and_got(mnist):
    path = mnist / "t10k-images.idx3-ubyte"
    whole = path.read_bytes()
    for broken, message in (
        (whole[:-1], "truncated: wanted 84 values; got 83"),
        (whole + b"0", "bytes after its end: wanted 84 values; got 84+"),
        (b"\0\0\x09" + whole[3:], r"wanted magic number 2051; got 2307"),
        (whole[:9], "wanted magic number 2051; got 2051 in 9 bytes"),
        (b"", "wanted magic number 2051; got 0 in 0 bytes"),
        (whole[:4] + b"\x7f" + whole[5:], "truncated: wanted 89489670228 values; got 100 bytes"),
        (whole[:4] + bytes(4) + whole[8:], "at least one value"),
    ):
        path.write_bytes(broken)
        with pytest.raises(
            DataError, match=r"t10k-images\.idx3-ubyte: .*" + message.replace("+", r"\+")
        ):
            read(mnist)


def test_broken_packed_idx_files_are_named(mnist):
    path = mnist / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for broken in (whole[:-30], whole[:40], b"text", whole[:60] + b"????" + whole[64:]):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz"):
            read(mnist)


def test_idx_labels_must_be_there_and_as_many(mnist):
    labels = mnist / "t10k-labels.idx1-ubyte"
    labels.write_bytes(idx(np.zeros(3, np.uint8)))
    with pytest.raises(DataError, match=r"one label a picture of t10k-images.idx3-ubyte, 2; got 3"):
        read(mnist)
    labels.unlink()
    with pytest.raises(DataError, match=r"t10k-labels.idx1-ubyte: cannot be read: .*No such file"):
        read(mnist)


def test_two_idx_sets_in_one_folder_are_refused(mnist):
    (mnist / "emnist-train-images-idx3-ubyte").write_bytes(idx(X))
    with pytest.raises(DataError, match=r"one IDX file of pictures a split.*a folder of its own"):
        read(mnist)


def test_a_plain_array_in_an_npz_is_refused(tmp_path):
    with open(tmp_path / "a.npz", "wb") as file:
        np.save(file, X)
    with pytest.raises(DataError, match="wanted an NPZ with x and y; got a single array"):
        read(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(pickle.dumps([1]))
    with pytest.raises(DataError, match=r"a\.npz: "):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("largest", [np.uint64(2**63 - 1), np.int64(-(2**63)), np.float64(2**62)])
def test_labels_of_64_bits_keep_their_names(tmp_path, largest):
    np.savez(tmp_path / "a.npz", x=X, y=np.array([0, largest, largest], np.asarray(largest).dtype))
    assert set(read(tmp_path / "a.npz").classes) == {"0", str(int(largest))}


@pytest.mark.parametrize("content", [b"hello world", b"x,y\n1,2\n", b"\x80\x04K\x01."])
def test_a_file_that_is_only_called_npz_is_said_to_be_none(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"is not an NPZ file: begins with b.*numpy\.savez") as told:
        read(tmp_path / "a.npz")
    assert "pickle" not in str(told.value)
