import base64
import io
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from relightgan.core.errors import TrainingError
from relightgan.training.report.curves import Curve, curve_svg
from relightgan.training.report.page import (
    BeforeAfter,
    Code,
    Curves,
    Facts,
    Folded,
    Gallery,
    Picture,
    Section,
    Table,
    Text,
    report_html,
    write_report,
)

VOID = {"meta", "img", "input", "br", "line"}


class Page(HTMLParser):
    """Reads a page strictly: every tag that is opened is closed, in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.words, self.sources, self.links = [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.sources += [found["src"]] if "src" in found else []
        self.links += [found["href"]] if "href" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, words):
        self.words.append(words)


def picture(path, colour=(200, 90, 30), size=(60, 40)):
    Image.new("RGB", size, colour).save(path)
    return path


@pytest.fixture
def sections(tmp_path):
    orange, blue = picture(tmp_path / "orange.jpg"), picture(tmp_path / "blue.png", (20, 60, 200))
    table = Table(["method", "PSNR"], [["ours <best>", "21.4 dB"], ["untouched", "13.8 dB"]], strong_rows=[0])
    return [
        Section("At a glance", [Text("One.\n\nTwo with `code` & more."), Facts([("device", "the CPU")])]),
        Section("Figures", [table, Curves([Curve("loss", [1, 2, 3], [3.0, 2.0, 1.0])])]),
        Section("Pictures", [Gallery([Picture(orange, "a caption"), Picture(blue)]), BeforeAfter(orange, blue)]),
        Section("Settings", [Folded("All of them", [Code("seed: 0\n<not a tag>")])]),
        Section("Nothing here", []),
    ]


def test_a_report_is_one_well_formed_page_that_needs_nothing_from_outside(sections):
    page = Page(report_html("Title <1>", "A lead.", sections))
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert all(link.startswith("#") for link in page.links)
    assert "http" not in report_html("Title", "A lead.", sections)


def test_words_of_users_are_never_read_as_markup(sections):
    html = report_html("Title <1>", "A `lead`.", sections)
    words = Page(html).words
    assert "Title <1>" in words
    assert "ours <best>" in words
    assert "seed: 0\n<not a tag>" in words
    assert "A <code>lead</code>." in html


def test_empty_sections_are_left_out_and_the_others_can_be_reached(sections):
    html = report_html("T", "", sections)
    page = Page(html)
    assert "Nothing here" not in page.words
    assert page.links == ["#at-a-glance", "#figures", "#pictures", "#settings"]
    assert all(f'id="{link[1:]}"' in html for link in page.links)


def test_pictures_come_back_as_they_were_and_large_ones_smaller(tmp_path):
    small, large = picture(tmp_path / "small.jpg"), picture(tmp_path / "large.png", (10, 200, 30), (3200, 100))
    html = report_html("T", "", [Section("S", [Picture(small), Picture(large)])])
    first, second = (base64.b64decode(source.partition(",")[2]) for source in Page(html).sources)
    assert first == small.read_bytes()
    shown = Image.open(io.BytesIO(second))
    assert shown.size == (1600, 50)
    assert np.abs(np.asarray(shown, int)[25, 800] - (10, 200, 30)).max() <= 3


def test_figures_stand_to_the_right_and_words_to_the_left():
    html = report_html("T", "", [Section("S", [Table(["name", "dB", "note"], [["a", "1.5", "2 of 3 good"]])])])
    assert re.search(r"<td>a</td><td class=number>1\.5</td><td>2 of 3 good</td>", html)


def test_a_picture_that_is_none_is_named(tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    with pytest.raises(TrainingError, match=r"broken\.jpg can't be put into the report"):
        report_html("T", "", [Section("S", [Picture(broken)])])


def test_a_report_is_written_whole_or_not_at_all(tmp_path, sections):
    (tmp_path / "new").mkdir()
    path = write_report(tmp_path / "new" / "report.html", "T", "", sections)
    assert path.read_text(encoding="utf-8") == report_html("T", "", sections)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(TrainingError, match=r"can't be written"):
        write_report(tmp_path / "orange.jpg" / "report.html", "T", "", sections)


def lines_of(curve):
    drawing = ElementTree.fromstring(curve_svg(curve))
    return [
        np.array([[float(value) for value in point.split(",")] for point in line.get("points").split()])
        for line in drawing.iter("polyline")
    ]


def test_a_curve_falls_where_its_values_fall_and_stays_inside_its_frame():
    curve = Curve("loss", np.arange(1000) * 8, 1 / np.arange(1, 1001), "images", smooth=True)
    pale, trend = lines_of(curve)
    assert (np.diff(pale[:, 0]) > 0).all()
    assert pale[0, 1] < pale[-1, 1]  # y counts downwards
    assert len(pale) <= 240
    for line in (pale, trend):
        assert (line >= 0).all()
        assert (line[:, 0] <= 360).all()
        assert (line[:, 1] <= 190).all()


def test_a_spike_does_not_flatten_a_curve_and_missing_values_are_left_out():
    y = np.sin(np.arange(200) / 10)
    y[100] = 1e6
    y[50] = np.nan
    (line,) = lines_of(Curve("x", np.arange(200), y))
    assert len(line) == 199
    assert np.ptp(line[:40, 1]) > 80


@pytest.mark.parametrize(("x", "y"), [([], []), ([1], [2.0]), ([1, 2], [np.nan, 1.0])])
def test_too_few_values_are_said_to_be_too_few(x, y):
    assert "too few values" in curve_svg(Curve("x", x, y))


@pytest.mark.parametrize("y", [[0.0, 0.0, 0.0], [5.0, 5.0, 5.0], [1e-9, 2e-9, 3e-9], [-3e8, 1e8, 2e8]])
def test_any_range_gets_axis_labels(y):
    drawing = ElementTree.fromstring(curve_svg(Curve("x", [0, 1, 2], y)))
    labels = [float(text.text) for text in drawing.iter("text") if text.get("text-anchor") == "end"][:-1]
    assert len(labels) >= 2
    assert labels == sorted(labels)
