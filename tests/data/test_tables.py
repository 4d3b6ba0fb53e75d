import builtins

import numpy as np
import pytest
from PIL import Image

from striate.data.readers import read
from striate.errors import DataError


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a table beside four pictures."""
    for name in ("1.png", "2.png", "3.png", "sub/ä.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("L", (3, 3)).save(tmp_path / name)

    def write(text, name="t.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_every_column_is_read(table):
    header = "path,label,split,group,weight\n"
    rows = "1.png,dog,train,x,1\n2.png,cat,Valid,y,0.5\n3.png,dog,,x,2\n"
    found = read(table(header + rows))
    assert found.names == ("1.png", "2.png", "3.png")
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.splits.tolist() == ["train", "validation", ""]
    assert found.groups.tolist() == ["x", "y", "x"]
    assert found.weights.tolist() == [1, 0.5, 2]
    assert all(file.exists() for file in found.files)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_delimiters_marks_and_quotes_are_understood(table, delimiter, encoding):
    text = 'File_Name,Category\r\n"sub/ä.png","a, or; b"\r\n\r\n./1.png,c\r\n'
    text = text.replace("me,Ca", f"me{delimiter}Ca").replace('g","', f'g"{delimiter}"')
    found = read(table(text.replace("1.png,", f"1.png{delimiter}"), encoding=encoding))
    assert (found.names, found.classes) == (("sub/ä.png", "1.png"), ("a, or; b", "c"))
    assert found.files[0].exists()


def test_paths_of_windows_are_understood(table):
    assert read(table("path,label\nsub\\ä.png,a\n1.png,b\n")).files[0].exists()


def test_without_extra_columns_there_are_no_groups_and_no_weights(table):
    found = read(table("path,label\n1.png,a\n2.png,b\n"))
    assert (found.groups, found.weights, set(found.splits)) == (None, None, {""})


def test_labels_that_are_numbers_follow_their_value(table):
    assert read(table("path,label\n1.png,10\n2.png,9\n")).classes == ("9", "10")


def test_some_missing_files_stay_to_be_found_unreadable(table):
    found = read(table("path,label\n1.png,a\nnone.png,b\n"))
    assert found.names == ("1.png", "none.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "path,label\nx/1.jpg,a\nx/2.jpg,b\n",
            "none of its 2 files exists; looked for x/1.jpg.*rel",
        ),
        (
            "path,label,colour\n1.png,a,red\n",
            r"unknown columns \['colour'\]; accepted are path \(or",
        ),
        (",path,label\n0,1.png,a\n", "pandas' index: index=False"),
        ("path,image,label\n1.png,1.png,a\n", "columns 'path' and 'image' say the same"),
        ("path,split\n1.png,train\n", r"wanted the columns label; got \['path', 'split'\]"),
        ("label\na\n", "wanted the columns path"),
        ("path,label\n1.png,a\n2.png,\n3.png,NaN\n", "the label is missing in lines 3, 4"),
        ("path,label\n" + "1.png,\n" * 7, "in lines 2, 3, 4, 5, 6 and 2 more"),
        ("path,label\n,a\n1.png,b\n", "the path is empty in lines 2"),
        (
            "path,label\n1.png,a\n2.png,b\n1.png,b\n",
            "1.png has the label 'a' in line 2 and 'b' in line 4",
        ),
        (
            "path,label,split\n1.png,a,trian\n2.png,b,\n",
            "line 2: no split is called 'trian'; did you",
        ),
        ("path,label,weight\n1.png,a,0\n2.png,b,x\n3.png,b,inf\n", "above 0 in lines 2, 3, 4"),
        ("path,label\n1.png,a\n2.png,a\n", "at least two classes; got only 'a'"),
        ("path,label\n1.png,a,b\n", "line 2: wanted 2 cells, as in the header; got 3"),
        ('path,label\n"1.png,a\n', "line 2: unexpected end of data"),
        ("path,label\n", "wanted one row a file; got no rows"),
        ("", "wanted a header with path and label; got an empty file"),
    ],
)
def test_a_bad_table_is_refused(table, text, message):
    with pytest.raises(DataError, match=message):
        read(table(text))


def test_another_encoding_is_refused(table):
    with pytest.raises(DataError, match="wanted UTF-8; byte 11 is none"):
        read(table("path,label\n\xe4.png,a\n", encoding="latin-1"))


def test_a_repeated_row_is_left_out_and_said(table):
    found = read(table("path,label\n1.png,a\n./1.png,a\n2.png,b\n"))
    assert found.names == ("1.png", "2.png")
    assert [(f.kind, f.path, f.detail) for f in found.skipped] == [
        ("skipped", "1.png", "line 3 names the file of line 2 again")
    ]


def test_a_table_to_predict_needs_no_labels(table):
    found = read(table("path\n1.png\n2.png\n"), labelled=False)
    assert (found.labels.tolist(), found.classes) == ([-1, -1], ())


def test_parquet_is_read_like_csv(table, tmp_path):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"path": ["1.png", "2.png"], "label": [10.0, 9.0], "weight": [1, 2]}
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    found = read(tmp_path / "t.parquet")
    assert found.classes == ("9", "10")
    assert np.array_equal(found.weights, [1, 2])
    parquet.write_table(pa.table({**columns, "label": ["a", None]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="the label is missing in rows 2"):
        read(tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="is not a whole Parquet file"):
        read(tmp_path / "t.parquet")


def test_parquet_without_pyarrow_says_what_to_install(table, monkeypatch):
    real = builtins.__import__

    def no_pyarrow(name, *rest):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    with pytest.raises(DataError, match=r"pip install 'striate\[tables\]'"):
        read(table("", "t.parquet"))
