from pathlib import Path

from striate.data.kinds import kind_of


def test_most_files_decide():
    assert kind_of([Path("a.WAV"), Path("b.flac"), Path("c.jpg")]) == "sound"
    assert kind_of([Path("a.wav"), Path("b.png"), Path("c.jpg")]) == "image"


def test_nothing_known_counts_as_images():
    assert kind_of([]) == kind_of([Path("a"), Path("b.pdf")]) == "image"
