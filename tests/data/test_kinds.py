from pathlib import Path

from striate.data.kinds import ENDINGS, KINDS, kind_of


def test_most_files_decide():
    assert kind_of([Path("a.WAV"), Path("b.flac"), Path("c.jpg")]) == "sound"
    assert kind_of([Path("a.wav"), Path("b.png"), Path("c.jpg")]) == "image"


def test_no_folder_is_taken_for_arrays_but_arrays_are_found_to_predict():
    assert kind_of([Path("a.npz"), Path("b.npz")]) == "image"
    assert ".npz" in ENDINGS["series"] & ENDINGS["volume"]
    assert set(KINDS) < set(ENDINGS)


def test_nothing_known_counts_as_images():
    assert kind_of([]) == kind_of([Path("a"), Path("b.pdf")]) == "image"
