"""Words become numbers and stay the same in prediction; what is no text is said."""

import numpy as np
import pytest

from striate.data.choice import choose_spec
from striate.data.prepare import prepare_file
from striate.data.readers import read
from striate.data.text import decode_text, numbers, tokens, usual_length, vocabulary
from striate.errors import DataError
from striate.spec import Spec

TEXTS = ["A good film, a very good film!", "Not good.", "not a film"]


def test_words_and_punctuation_in_lower_case():
    assert tokens("It's GOOD -- näh?") == ["it's", "good", "-", "-", "näh", "?"]


def test_a_vocabulary_begins_with_the_most_frequent_and_leaves_the_rare_out():
    assert vocabulary(TEXTS) == ("a", "film", "good", "not")
    assert vocabulary(TEXTS, most=2) == ("a", "film")
    assert "very" in vocabulary(TEXTS, least=1)


def test_numbers_say_no_word_unknown_and_known():
    words = ("a", "film")
    assert numbers("a bad film", words, 5).tolist() == [[2, 1, 3, 0, 0]]
    assert numbers("a bad film", words, 2).tolist() == [[2, 1]]
    assert numbers("", words, 2).dtype == np.uint16


def test_lengths_are_those_of_most():
    assert usual_length(["a b"] * 99 + ["a " * 500]) == 8
    assert usual_length(["a " * 20] * 100) == 20


def test_folders_of_texts_are_read_and_prepared_alike(tmp_path):
    for name, text in (
        ("bad", "not good , not good at all"),
        ("good", "very good , very fine film"),
    ):
        (tmp_path / name).mkdir()
        for n in range(3):
            (tmp_path / name / f"{n}.txt").write_text(f"{text} {n}", encoding="utf-8")
    samples = read(tmp_path)
    spec = choose_spec(samples)
    assert (samples.kind, spec.kind, spec.shape, spec.dtype) == ("text", "text", (1, 8), "uint16")
    assert "good" in spec.words
    row = prepare_file(samples.files[0], spec)
    assert np.array_equal(row, prepare_file(b"NOT good, not good at all 0", spec))
    assert [spec.words[k - 2] for k in row[0, :2]] == ["not", "good"]


@pytest.mark.parametrize(
    ("content", "said"), [(b"", "no text"), (b" \n", "no text"), (b"a\0b", "zero bytes")]
)
def test_what_is_no_text_is_said(content, said):
    with pytest.raises(DataError, match=said):
        decode_text(content)


def test_latin_1_is_read_too():
    assert decode_text("né".encode("latin-1")) == "né"
    assert decode_text("﻿né".encode()) == "né"


def test_a_spec_of_text_has_one_number_a_word():
    with pytest.raises(ValueError, match=r"a text must be \(1, words\) without a mean"):
        Spec(kind="text", channels=2, size=(8,))
