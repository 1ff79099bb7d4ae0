"""Fonts for names in any script: Matplotlib's own has Latin, Greek and Cyrillic, and few others."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BOLD, _REGULAR = 700, 400


@dataclass(frozen=True, kw_only=True)
class Font:
    """A family of this machine, by the files of two faces of it; these may be the same one."""

    family: str
    regular: Path
    bold: Path


def own_font() -> Font:
    """The font that Matplotlib has with it."""
    import matplotlib as mpl

    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return Font(
        family="DejaVu Sans",
        regular=folder / "DejaVuSans.ttf",
        bold=folder / "DejaVuSans-Bold.ttf",
    )


def fonts_for(text: str) -> tuple[Font, ...]:
    """The fonts that ``text`` takes, the one to begin with first; the last is ``own_font``.

    That one alone does for most texts. Where it lacks letters, a font of this machine that has most
    of them is before it, so that one text is not of two fonts. Letters that no font has are drawn
    as boxes.
    """
    own = own_font()
    lacking = frozenset(filter(str.isprintable, text)) - _letters(own.regular)
    return (*(_installed_with(lacking) if lacking else ()), own)


@cache
def _installed_with(letters: frozenset[str]) -> tuple[Font, ...]:
    """Installed fonts that have the letters between them, as far as there are such."""
    files = {file: has for file in _installed() if (has := _letters(file) & letters)}
    faces = {file: face for file in files if (face := _face(file)) is not None}
    if not faces:
        return ()
    # Of fonts that do as well: upright, of usual weight, and the plainest of its kind.
    best = min(
        faces,
        key=lambda file: (
            -len(files[file]),
            abs(faces[file][1] - _REGULAR),
            len(file.name),
            file.name,
        ),
    )
    family = faces[best][0]
    kin = [file for file, face in faces.items() if face[0] == family]
    bold = min(kin, key=lambda file: (abs(faces[file][1] - _BOLD), file != best))
    font = Font(family=family, regular=best, bold=bold)
    rest = letters - files[best]
    return (font, *(_installed_with(rest) if rest else ()))


@cache
def _installed() -> tuple[Path, ...]:
    from matplotlib.font_manager import findSystemFonts

    return tuple(sorted(map(Path, findSystemFonts())))


@cache
def _letters(file: Path) -> frozenset[str]:
    """The letters that a font has; none where the file cannot be read as one."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(str(file)).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def _face(file: Path) -> tuple[str, int] | None:
    """Family and weight of an upright face; ``None`` for a slanted one, or a broken file."""
    from matplotlib.font_manager import ttfFontProperty
    from matplotlib.ft2font import FT2Font

    try:
        entry = ttfFontProperty(FT2Font(str(file)))
    except (OSError, RuntimeError, ValueError, KeyError):
        return None
    return (entry.name, int(entry.weight)) if entry.style == "normal" else None


def use(fonts: Iterable[Font]) -> None:
    """Have Matplotlib draw with these fonts, until its settings are put back."""
    import matplotlib as mpl

    for font in fonts:
        _register(font)
    mpl.rcParams["font.family"] = [font.family for font in fonts]


@contextmanager
def without_remarks() -> Iterator[None]:
    """Libraries tell of every face that is not as bold as asked, of every table they drop."""
    loggers = [logging.getLogger(name) for name in ("matplotlib.font_manager", "fontTools.subset")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@cache
def _register(font: Font) -> None:
    from matplotlib.font_manager import fontManager

    for file in {font.regular, font.bold}:
        fontManager.addfont(file)
