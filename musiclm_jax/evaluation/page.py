# SPDX-License-Identifier: Apache-2.0
"""Results as one web page that holds its own sound and pictures.

Text and tables are Markdown. Nothing is fetched when the page is opened: audio
and pictures are inside it, so it can be mailed or served as a single file.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import os
import pathlib
import string
from collections.abc import Mapping, Sequence

import markdown_it

from musiclm_jax.checkpoints import text_file

_TYPES = {
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
  '.wav': 'audio/wav',
  '.mp3': 'audio/mpeg',
}

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: 13px; }
table { border-collapse: collapse; display: block; overflow-x: auto;
  font-size: 14px; }
th, td { border: 1px solid #ddd; padding: .25rem .6rem; text-align: left; }
figure { margin: 1rem 0; }
figcaption { font-weight: 600; margin-bottom: .3rem; }
img { max-width: 100%; }
audio { width: 100%; }
</style>
</head>
<body>
<h1>$title</h1>
$body
</body>
</html>
""")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Section:
  """A heading and what stands under it, in this order.

  Attributes:
    title: The heading.
    text: Markdown, tables included; HTML in it is shown as it stands.
    audio: WAV or MP3 files to play, by caption.
    pictures: PNG or SVG files, by caption.
  """

  title: str
  text: str = ''
  audio: Mapping[str, str | os.PathLike[str]] = dataclasses.field(
    default_factory=dict
  )
  pictures: Mapping[str, str | os.PathLike[str]] = dataclasses.field(
    default_factory=dict
  )


def write(
  path: str | os.PathLike[str], *, title: str, sections: Sequence[Section]
) -> None:
  """Writes the page, whole or not at all.

  Args:
    path: Of the HTML file; its folder is made if absent.
    title: Of the page.
    sections: From top to bottom.

  Raises:
    ValueError: A file is of a type that browsers do not show.
    OSError: A file cannot be read.
  """
  body = '\n'.join(_section(section) for section in sections)
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  text_file.write(path, _PAGE.substitute(title=html.escape(title), body=body))


def _section(section: Section) -> str:
  # Not plain 'commonmark': that lets HTML through and has no tables.
  markdown = markdown_it.MarkdownIt('js-default')
  parts = [f'<h2>{html.escape(section.title)}</h2>']
  parts.append(markdown.render(section.text))
  parts += [
    _figure(caption, f'<audio controls src="{_inside(file)}"></audio>')
    for caption, file in section.audio.items()
  ]
  parts += [
    _figure(
      caption, f'<img alt="{html.escape(caption)}" src="{_inside(file)}">'
    )
    for caption, file in section.pictures.items()
  ]
  return '\n'.join(parts)


def _figure(caption: str, content: str) -> str:
  return (
    f'<figure><figcaption>{html.escape(caption)}</figcaption>{content}</figure>'
  )


def _inside(file: str | os.PathLike[str]) -> str:
  """The file as a data URL."""
  path = pathlib.Path(file)
  kind = _TYPES.get(path.suffix)
  if kind is None:
    raise ValueError(
      f'{path} cannot be shown on a page; give one of {", ".join(_TYPES)}.'
    )
  return f'data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}'
