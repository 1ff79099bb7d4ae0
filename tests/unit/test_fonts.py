"""Fonts for names in any script."""

import io
import logging
import shutil

import matplotlib as mpl
import pytest
from PIL import Image, ImageChops

from pytest_triton_perf.reports import fonts
from pytest_triton_perf.reports.canvas import style
from pytest_triton_perf.reports.fonts import fonts_for, own_font, without_remarks
from pytest_triton_perf.reports.raster import png

KOREAN = "덧셈"


@pytest.fixture(autouse=True)
def forget():
    """What is installed is looked up once in a process."""
    for cached in (fonts._installed_with, fonts._installed):
        cached.cache_clear()
    yield
    for cached in (fonts._installed_with, fonts._installed):
        cached.cache_clear()


@pytest.fixture
def install(monkeypatch):
    """Have these files for all that is installed."""

    def installed(*files):
        monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: map(str, files))

    return installed


def test_most_names_take_the_font_that_is_always_there(install):
    install()
    assert fonts_for("add_sub_config_0: p99 ≤ 5 ms ±3 % ∞ – µs é Ж") == (own_font(),)
    assert own_font().regular.exists()
    assert own_font().bold.exists()


def test_letters_that_nothing_has_change_nothing(install, tmp_path):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    install(broken, tmp_path / "gone.ttf", own_font().regular)
    assert fonts_for(KOREAN) == (own_font(),)
    assert fonts_for("\ud800 \x00") == (own_font(),)


def nanum(face):
    from matplotlib.font_manager import findSystemFonts

    found = [file for file in findSystemFonts() if file.endswith(f"/{face}.ttf")]
    if not found:
        pytest.skip("no Korean font: apt-get install -y fonts-nanum")
    return found[0]


def test_a_font_with_the_letters_goes_before(install, tmp_path):
    regular, bold = nanum("NanumGothic"), nanum("NanumGothicBold")
    for number, file in enumerate((bold, regular)):
        shutil.copy(file, tmp_path / f"{number}.ttf")
    install(own_font().regular, tmp_path / "0.ttf", tmp_path / "1.ttf")
    first, last = fonts_for(f"{KOREAN}_config_0")
    assert (first.family, last) == ("NanumGothic", own_font())
    assert (first.regular.name, first.bold.name) == ("1.ttf", "0.ttf")


def test_korean_letters_are_drawn(caplog):
    from matplotlib.figure import Figure

    nanum("NanumGothic")

    def picture(text, used):
        with style(used):
            figure = Figure(figsize=(2, 1))
            figure.text(0.1, 0.5, text, fontweight="bold")
            return Image.open(io.BytesIO(png(figure)))

    with caplog.at_level(logging.WARNING):
        one, other = (picture(text, fonts_for(text)) for text in ("덧셈", "모델"))
    boxes = [picture(text, [own_font()]) for text in ("덧셈", "모델")]
    assert ImageChops.difference(one, other).getbbox() is not None
    assert ImageChops.difference(*boxes).getbbox() is None  # a box is as good as another
    assert caplog.messages == []


def test_what_libraries_say_is_as_loud_as_before():
    logger = logging.getLogger("matplotlib.font_manager")
    with without_remarks():
        assert not logger.isEnabledFor(logging.WARNING)
    assert logger.isEnabledFor(logging.WARNING)


def test_the_users_fonts_are_put_back():
    before = list(mpl.rcParams["font.family"])
    with style(fonts_for(KOREAN)):
        pass
    assert list(mpl.rcParams["font.family"]) == before
