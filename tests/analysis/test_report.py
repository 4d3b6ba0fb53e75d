import re
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from striate.analysis import pictures
from striate.analysis.calibration import reliability, softmax
from striate.analysis.mistakes import worst
from striate.analysis.report import Mistake, Report, write_plots, write_report
from striate.errors import UserError

VOID = {"meta", "img", "br", "link", "input", "hr"}
SHAPES = {"line", "rect", "circle", "polyline", "image"}  # written <.../> in SVG


class Page(HTMLParser):
    """Read a page; fails where tags do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in SHAPES
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def entry(hits, n):
    """A share as a score in JSON, its interval by the plain normal formula."""
    if n == 0:
        return {"value": None, "low": None, "high": None, "n": 0, "method": "wilson"}
    p = hits / n
    reach = 1.96 * (p * (1 - p) / n) ** 0.5 + 1 / n
    ends = {"low": max(0, p - reach), "high": min(1, p + reach)}
    return {"value": p, **ends, "n": n, "method": "wilson"}


def make(k=10, n=360, classes=None, skill=5.0, splits=("validation", "test"), side=8, **more):
    rng = np.random.default_rng(0)
    classes = classes or [f"c{i}" for i in range(k)]
    y = rng.integers(0, k, n)
    logits = rng.normal(size=(n, k))
    logits[np.arange(n), y] += skill
    p = softmax(logits)
    guess = p.argmax(1)
    counts = np.bincount(y * k + guess, minlength=k * k).reshape(k, k)
    scores = {"accuracy": entry((guess == y).sum(), n), "log_loss": entry(n // 9, n)}
    table = {
        name: {
            "precision": entry(counts[i, i], counts[:, i].sum()),
            "recall": entry(counts[i, i], counts[i].sum()),
            "f1": entry(counts[i, i], counts[i].sum()),
            "n": int(counts[i].sum()),
        }
        for i, name in enumerate(classes)
    }
    x = rng.integers(0, 256, (n, 3, side, side), dtype=np.uint8)
    wrong = [
        Mistake(pictures.picture(x[i]), f"{i}.png", classes[y[i]], classes[guess[i]], p[i].max())
        for i in worst(p, y)
    ]
    values = {
        "title": "digits, fastnet",
        "classes": classes,
        "scores": dict.fromkeys(splits, scores),
        "facts": {"parameters": 123456, "device": "cpu"},
        "history": [{"epoch": i, "loss": 2 / (i + 1), "lr": 0.1} for i in range(5)],
        "per_class": table,
        "confusion": counts,
        "bins": reliability(p, y),
        "mistakes": wrong,
        "filters": rng.normal(size=(8, 3, 3, 3)),
        "skipped": [{"kind": "unreadable", "path": "a/x.jpg", "detail": "truncated"}],
        "warnings": ["few samples of c3"],
        "temperature": 0.8,
        "recipe": "seed = 0\n",
    }
    return Report(**{**values, **more})


def written(tmp_path, report):
    path = tmp_path / "report.html"
    write_report(path, report)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    return path.read_text("utf-8")


def test_the_first_line_says_how_good_the_network_is(tmp_path):
    score = {"value": 355 / 360, "low": 0.967904, "high": 0.994053, "n": 360, "method": "wilson"}
    page = Page(written(tmp_path, make(scores={"test": {"accuracy": score}})))
    lead = "98.6 % of 360 test samples right (95 % interval 96.8–99.4 %)"
    assert lead in page.text.replace("\u00a0", " ")


def test_the_page_holds_all_it_shows_and_asks_nothing_of_the_network(tmp_path):
    report = make(skill=2)
    text = written(tmp_path, report)
    page = Page(text)
    assert len(report.mistakes) == 24
    assert text.count("data:image/png;base64,") == 24 + 1  # and the filters
    assert not re.search(r"https?://|url\(|@import|<script|<link", text)
    assert all(image["src"].startswith("data:") and image["alt"] for image in page.all("img"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.all("svg"))
    for said in ("unreadable", "a/x.jpg", "truncated", "few samples of c3", "seed = 0", "123,456"):
        assert said in page.text
    for title in ("Scores", "Training", "Confusion matrix", "Calibration", "Classes", "Run"):
        assert title in page.text


def test_links_lead_to_sections_that_exist(tmp_path):
    page = Page(written(tmp_path, make(skill=2)))
    ids = {section["id"] for section in page.all("section")}
    assert {link["href"][1:] for link in page.all("a")} == ids
    assert len(ids) == 10


def test_hostile_names_stay_text(tmp_path):
    evil = "<script>alert('1')</script>\"&"
    report = make(2, classes=[evil, "$title ${x}"], skill=0.5)
    skipped = [{"kind": evil, "path": evil, "detail": evil}]
    report = replace(report, title=evil, skipped=skipped, warnings=[evil], recipe=evil)
    report = replace(report, facts={evil: evil}, scores={evil: report.scores["test"]})
    text = written(tmp_path, report)
    page = Page(text)
    assert "<script" not in text
    assert page.all("script") == []
    assert page.text.count(evil) > 10
    assert "$title ${x}" in page.text


def test_names_that_are_no_text_do_not_stop_the_page(tmp_path):
    report = make(2, classes=["a\udcff", "b"])  # a file name that is no UTF-8
    assert r"a\udcff" in written(tmp_path, report)


def test_the_most_common_mix_up_is_said(tmp_path):
    counts = np.array([[90, 7, 3], [1, 99, 0], [0, 0, 100]])
    page = Page(written(tmp_path, make(3, confusion=counts, classes=["ant", "bee", "cat"])))
    assert "“ant” taken for “bee”, 7 of 100 times (7 of 11 mistakes in all)" in page.text
    assert "always answering “ant” would be right in 33.3\u00a0%" in page.text


def test_a_network_without_mistakes_has_no_list_of_them(tmp_path):
    page = Page(written(tmp_path, make(skill=99)))
    assert "Not one mistake." in page.text
    assert "Worst mistakes" not in page.text


def test_without_a_test_split_the_validation_split_is_named(tmp_path):
    page = Page(written(tmp_path, make(splits=("validation",))))
    assert "360 validation samples right" in page.text
    assert "There was no test split" in page.text


def test_a_class_never_answered_is_not_defined(tmp_path):
    report = make(3)
    report.confusion[:, 0] += report.confusion[:, 2]
    report.confusion[:, 2] = 0
    report.per_class["c2"]["precision"] = entry(0, 0)
    report.per_class["c2"]["f1"] = entry(0, 30)
    page = Page(written(tmp_path, report))
    assert "not defined" in page.text
    order = re.findall(r"c\d", page.text[page.text.index("Weakest first") :])
    assert order[0] == "c2"


def test_classes_without_any_sample_are_drawn(tmp_path):
    report = make(3)
    for name in ("precision", "recall", "f1"):
        report.per_class["c1"][name] = entry(0, 0)
    Page(written(tmp_path, report))


def test_nothing_left_out_is_said(tmp_path):
    page = Page(written(tmp_path, make(skipped=[])))
    assert "Nothing was left out" in page.text


def test_many_left_out_files_are_counted_and_the_first_listed(tmp_path):
    many = [{"kind": "duplicate", "path": f"{i}.png", "detail": "again"} for i in range(1234)]
    page = Page(written(tmp_path, make(skipped=many)))
    assert "1,234 duplicate" in page.text
    assert "1,134 more are not listed" in page.text


@pytest.mark.parametrize(
    ("sure", "right", "said"),
    [(0.9, 0.89, "taken at their word"), (0.9, 0.6, "too sure"), (0.6, 0.9, "right more often")],
)
def test_the_diagram_is_read_out_in_words(tmp_path, sure, right, said):
    p = np.tile([sure, 1 - sure], (1000, 1))
    y = (np.arange(1000) >= 1000 * right).astype(int)
    scores = {"test": {"accuracy": entry(int(1000 * right), 1000)}}
    report = make(2, bins=reliability(p, y), scores=scores)
    assert said in Page(written(tmp_path, report)).text


def test_a_mistake_without_a_picture_says_so(tmp_path):
    wrong = [Mistake(None, "sound.wav", "a", "b", 0.7)]
    assert "no picture" in Page(written(tmp_path, make(mistakes=wrong))).text


def test_an_empty_report_is_still_a_page(tmp_path):
    page = Page(written(tmp_path, Report("nothing", [])))
    assert "No sample was scored." in page.text


def test_a_hundred_classes_stay_below_3_mb_and_2_seconds(tmp_path):
    report = make(100, n=5000, skill=3, side=128)
    start = time.process_time()
    text = written(tmp_path, report)
    write_plots(tmp_path / "plots", report)
    assert time.process_time() - start < 2
    assert len(text) < 3_000_000
    Page(text)


def test_plots_are_files_of_their_own(tmp_path):
    write_plots(tmp_path / "plots", make())
    found = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert found == [
        *("confusion.svg", "filters.png", "learning-rate.svg", "loss.svg", "reliability.svg")
    ]
    assert (tmp_path / "plots/loss.svg").read_text("utf-8").startswith("<svg xmlns=")


def test_an_older_page_is_replaced_whole(tmp_path):
    (tmp_path / "report.html").write_text("old")
    assert written(tmp_path, make()).endswith("</html>\n")


def test_a_page_that_cannot_be_written_is_named_and_the_old_one_stays(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"report.html cannot be written \(No space left"):
        write_report(path, make())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "plots").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_plots(tmp_path / "plots", make())


def test_the_page_needs_no_heavy_import():
    code = (
        "import sys, striate.analysis as a\n"
        "print([m for m in ('torch', 'matplotlib', 'scipy', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
