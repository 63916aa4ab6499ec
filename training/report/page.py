"""Reports: one HTML file with its pictures, curves and style inside, readable without any network.

A report is data: `Section`s of blocks (text, facts, tables, pictures, before/after, curves, commands), rendered by
`write_report`.
"""

import base64
import dataclasses
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from relightgan.core.errors import TrainingError
from relightgan.training.report.curves import Curve, curve_svg
from relightgan.training.report.style import STYLE
from relightgan.training.stage_cache import write_page

PICTURE_WIDTH_PX = 1600  # wider pictures are reduced to this width


@dataclasses.dataclass(frozen=True)
class Text:
    """Paragraphs, separated by empty lines; text between backticks is set as code."""

    text: str


@dataclasses.dataclass(frozen=True)
class Banner:
    """A result that stands before everything else, with what to do next."""

    title: str
    text: str
    advice: str = ""
    colour: str = ""  # "green", "yellow", "red", or empty for none


@dataclasses.dataclass(frozen=True)
class Facts:
    """Rows of (name, value), in two columns."""

    rows: Sequence[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under headings. Columns of numbers are right-aligned."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    strong_rows: Sequence[int] = ()  # indices of highlighted rows, such as our own among baselines


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image file."""

    path: Path
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Several image files, side by side as far as the page is wide."""

    pictures: Sequence[Picture]


@dataclasses.dataclass(frozen=True)
class BeforeAfter:
    """Two pictures of one size with a wipe between them."""

    before: Path
    after: Path
    caption: str = ""
    before_label: str = "before"
    after_label: str = "after"


@dataclasses.dataclass(frozen=True)
class Curves:
    """Small charts side by side."""

    curves: Sequence[Curve]


@dataclasses.dataclass(frozen=True)
class Code:
    """Text to copy: a command, or the content of a file."""

    text: str
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Html:
    """HTML that is inserted unescaped, such as a drawing with its script; never made from user input."""

    html: str


@dataclasses.dataclass(frozen=True)
class Folded:
    """Blocks that are folded away behind a title."""

    title: str
    blocks: Sequence["Block"]


Block = Text | Banner | Facts | Table | Picture | Gallery | BeforeAfter | Curves | Code | Html | Folded


@dataclasses.dataclass(frozen=True)
class Section:
    """A titled part of a report."""

    title: str
    blocks: Sequence[Block]


def write_report(path: Path, title: str, lead: str, sections: Sequence[Section]) -> Path:
    """The path of one self-contained HTML file.

    Args:
        path: .html file to write, whole or not at all, in a folder that is there.
        title: of the page.
        lead: one or two sentences under the title, with the result.
        sections: in order; sections without blocks are left out.

    Raises:
        TrainingError: a picture can't be read, or the file can't be written.
    """
    page = report_html(title, lead, sections)
    write_page(path, page)
    return path


def report_html(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The HTML of a report; see `write_report`."""
    shown = [section for section in sections if section.blocks]
    links = "".join(f'<a href="#{_anchor(section.title)}">{html.escape(section.title)}</a>' for section in shown)
    body = "".join(
        f'<section id="{_anchor(section.title)}"><h2>{html.escape(section.title)}</h2>'
        f"{''.join(map(_block, section.blocks))}</section>"
        for section in shown
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body><header><h1>{html.escape(title)}</h1>"
        f'<p class="lead">{_inline(lead)}</p><nav>{links}</nav></header>\n<main>{body}</main></body></html>\n'
    )


# Private implementation


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n"))
        case Banner():
            return _banner(block)
        case Facts(rows):
            return "<dl>" + "".join(f"<dt>{html.escape(k)}</dt><dd>{_inline(v)}</dd>" for k, v in rows) + "</dl>"
        case Table():
            return _table(block)
        case Picture(path, caption):
            return f'<figure><img src="{_embedded(path)}" alt="{html.escape(caption)}">{_caption(caption)}</figure>'
        case Gallery(pictures):
            return f'<div class="gallery">{"".join(map(_block, pictures))}</div>'
        case BeforeAfter():
            return _before_after(block)
        case Curves(curves):
            return f'<div class="curves">{"".join(f"<figure>{curve_svg(curve)}</figure>" for curve in curves)}</div>'
        case Code(text, caption):
            return f"<figure>{_caption(caption)}<pre>{html.escape(text)}</pre></figure>"
        case Html(content):
            return content
        case Folded(title, blocks):
            return f"<details><summary>{html.escape(title)}</summary>{''.join(map(_block, blocks))}</details>"


def _table(table: Table) -> str:
    right = [all(_is_number(row[i]) for row in table.rows) for i in range(len(table.headings))]

    def cells(row: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=number' if to_right else ''}>{_inline(cell)}</{tag}>"
            for cell, to_right in zip(row, right, strict=True)
        )

    rows = "".join(
        f"<tr{' class=strong' if index in table.strong_rows else ''}>{cells(row, 'td')}</tr>"
        for index, row in enumerate(table.rows)
    )
    head = f"<thead><tr>{cells(table.headings, 'th')}</tr></thead>"
    note = f'<p class="note">{_inline(table.note)}</p>' if table.note else ""
    return f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>{note}'


def _banner(banner: Banner) -> str:
    advice = f"<p>What to do next: {_inline(banner.advice)}</p>" if banner.advice else ""
    return (
        f'<div class="banner {html.escape(banner.colour)}"><strong>{_inline(banner.title)}</strong>'
        f"<p>{_inline(banner.text)}</p>{advice}</div>"
    )


def _before_after(pair: BeforeAfter) -> str:
    before, after = html.escape(pair.before_label), html.escape(pair.after_label)
    return (
        f'<figure class="wipe"><div><img src="{_embedded(pair.before)}" alt="{before}">'
        f'<img class="over" src="{_embedded(pair.after)}" alt="{after}">'
        f'<span class="left">{before}</span><span class="right">{after}</span>'
        '<input type="range" min="0" max="100" value="50" step="0.1" aria-label="wipe between the two pictures" '
        "oninput=\"this.parentElement.style.setProperty('--at', this.value + '%')\"></div>"
        f"{_caption(pair.caption)}</figure>"
    )


def _embedded(path: Path) -> str:
    try:
        with Image.open(path) as picture:
            kind, size = picture.format, picture.size
            if kind == "JPEG" and size[0] <= PICTURE_WIDTH_PX:
                data = path.read_bytes()
            else:
                small = picture.convert("RGB")
                small.thumbnail((PICTURE_WIDTH_PX, 16 * PICTURE_WIDTH_PX))
                buffer = io.BytesIO()
                small.save(buffer, "JPEG", quality=88, subsampling=0)
                data = buffer.getvalue()
    except OSError as error:
        raise TrainingError(
            f"The picture {path} can't be put into the report.", "Delete it, and run the same command again."
        ) from error
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def _caption(text: str) -> str:
    return f"<figcaption>{_inline(text)}</figcaption>" if text else ""


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[-+−±]?[\d.,]+( ?(%|dB|s|ms|px|MB|MiB|stops))?|[–-]|", text.strip()))
