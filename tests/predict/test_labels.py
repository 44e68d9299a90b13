"""The class of a file is the name of its folder."""

from __future__ import annotations

import unicodedata

import pytest

from kd.predict.labels import labels_of

CLASSES = ("cat", "línea", "two\\nlines", "🦉, owl")


def test_the_folder_of_a_file_names_its_class(tmp_path, monkeypatch):
    decomposed = unicodedata.normalize("NFD", "línea")
    files = ["x/cat/1.png", f"{decomposed}/cat.png", "two\nlines/a", "🦉, owl/b", "cat/../línea/c"]
    assert labels_of(files, CLASSES).tolist() == [0, 1, 2, 3, 1]
    (tmp_path / "cat").mkdir()
    monkeypatch.chdir(tmp_path / "cat")
    assert labels_of(["1.png"], CLASSES).tolist() == [0]


def test_another_folder_is_refused_with_what_would_be_right():
    with pytest.raises(ValueError) as raised:
        labels_of(["cat/1.png", "cats/2.png", "dog/3.png"], CLASSES)
    text = str(raised.value)
    assert "cats/2.png lies in the folder 'cats'" in text and "1 more folder;" in text
    assert text.endswith("did you mean cat?") and "línea" in text
