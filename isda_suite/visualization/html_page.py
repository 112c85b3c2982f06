"""A web page in one file: everything inside, nothing from elsewhere, no program in it.

Functions take plain text and escape it; what they return is finished HTML, an :class:`Html`. The
page forbids browsers to load anything or to run scripts, whatever its content says.
"""

import base64
import html
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { --line: #d8dee6; --soft: #f5f7fa; --ink: #1c2733; --faint: #5b6b7c; --bar: #cfe0f7; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1280px; padding: 24px; color: var(--ink); background: #fff;
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
h1 { margin: 0; font-size: 26px; overflow-wrap: anywhere; }
h2 { margin: 36px 0 12px; padding-bottom: 4px; border-bottom: 2px solid var(--line); }
nav { margin: 14px 0; padding: 8px 14px; background: var(--soft); border-radius: 6px; }
nav a { margin-right: 16px; color: #1d5fbf; text-decoration: none; white-space: nowrap; }
p { margin: 8px 0; max-width: 95ch; overflow-wrap: anywhere; }
p.faint, figcaption { color: var(--faint); font-size: 13.5px; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; max-height: 960px; overflow-y: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { position: sticky; top: 0; background: var(--soft); text-align: left; }
th, td { padding: 4px 12px; border: 1px solid var(--line); }
td.number { text-align: right; white-space: nowrap; }
figure { margin: 14px 0; }
img { max-width: 100%; height: auto; border: 1px solid var(--line); border-radius: 4px; }
.row { display: flex; flex-wrap: wrap; gap: 24px; align-items: flex-start; }
.row > * { flex: 1 1 480px; min-width: 0; }
pre { padding: 12px; background: var(--soft); overflow: auto; max-height: 640px;
  font: 12.5px/1.45 ui-monospace, 'DejaVu Sans Mono', monospace; }
summary { cursor: pointer; }
"""


class Html(str):
    """Text that is HTML already, made by the functions of this module."""

    __slots__ = ()


def escaped(value: Any) -> Html:
    """Return a value as text that a browser shows as it is; :class:`Html` stays."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def paragraph(text: Any, faint: bool = False) -> Html:
    """Return a paragraph."""
    return Html(f'<p{" class=faint" if faint else ""}>{escaped(text)}</p>')


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], bars: Sequence[int] = ()) -> Html:
    """Return a table.

    Args:
        header: Names of the columns.
        rows: Text, whole numbers, or floats, which are shown with two digits; nan is a dash.
        bars: Columns of percentages that get a bar behind the number.
    """
    head = ''.join(f'<th>{escaped(name)}</th>' for name in header)
    body = ''.join(
        '<tr>' + ''.join(_cell(value, place in bars) for place, value in enumerate(row)) + '</tr>'
        for row in rows
    )
    return Html(
        f'<div class=scroll><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{body}</tbody></table></div>'
    )


def _cell(value: Any, with_bar: bool) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f'<td>{escaped(value)}</td>'
    if not math.isfinite(value):
        return '<td class=number>&ndash;</td>'
    style = ''
    if with_bar:
        share = min(max(float(value), 0.0), 100.0)
        style = f' style="background:linear-gradient(90deg,var(--bar) {share:.1f}%,#fff 0)"'
    text = f'{value:.2f}' if isinstance(value, float) else f'{value}'
    return f'<td class=number{style}>{text}</td>'


def picture(image: Array, caption: str = '', max_width: int = 1600, quality: int = 85) -> Html:
    """Return a picture that lies in the page itself.

    Args:
        image: (H, W, 3) uint8, RGB.
        caption: Text below; also what is read out in place of the picture.
        max_width: A wider picture is made smaller, in pixels.
        quality: Of the JPEG, 1 to 100; 0 writes a PNG, for drawings.
    """
    if image.shape[1] > max_width:
        height = max(1, round(image.shape[0] * max_width / image.shape[1]))
        image = np.asarray(cv2.resize(image, (max_width, height), interpolation=cv2.INTER_AREA))
    kind, options = ('jpeg', [cv2.IMWRITE_JPEG_QUALITY, quality]) if quality else ('png', [])
    _, data = cv2.imencode(f'.{kind}', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    content = base64.b64encode(data.tobytes()).decode('ascii')
    height, width = image.shape[:2]
    return Html(
        f'<figure><img width={width} height={height} alt="{escaped(caption)}" '
        f'src="data:image/{kind};base64,{content}"><figcaption>{escaped(caption)}</figcaption>'
        '</figure>'
    )


def row(*parts: Html) -> Html:
    """Return parts beside each other, where the window is wide enough."""
    return Html(f'<div class=row>{"".join(f"<div>{part}</div>" for part in parts)}</div>')


def folded(title: str, text: str) -> Html:
    """Return a text of fixed width that opens when its title is clicked."""
    return Html(f'<details><summary>{escaped(title)}</summary><pre>{escaped(text)}</pre></details>')


def page(title: str, subtitle: str, sections: Sequence[tuple[str, Sequence[Html]]]) -> str:
    """Return the whole page.

    Args:
        title: Of the page.
        subtitle: Line below.
        sections: Title and parts of each.
    """
    links = ''.join(
        f'<a href="#part{index}">{escaped(name)}</a>' for index, (name, _) in enumerate(sections)
    )
    body = ''.join(
        f'<section id=part{index}><h2>{escaped(name)}</h2>{"".join(parts)}</section>'
        for index, (name, parts) in enumerate(sections)
    )
    return (
        '<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>'
        f'<meta http-equiv=Content-Security-Policy content="{_POLICY}">'
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f'<title>{escaped(title)}</title><style>{_STYLE}</style></head>'
        f'<body><h1>{escaped(title)}</h1>{paragraph(subtitle, faint=True)}'
        f'<nav>{links}</nav>{body}</body></html>\n'
    )
