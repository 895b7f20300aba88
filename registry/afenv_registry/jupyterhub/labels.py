"""Names of images and hardware as forms of spawners can show them. Pure.

A catalogue is written by people; its words go into forms that spawners put together without escaping
(KubeSpawner's template has no autoescape, DockerSpawner formats HTML with ``str.format``) and some of which
JupyterHub renders as templates once more. So nothing that HTML or Jinja reads gets through.
"""

from __future__ import annotations

import html
import re

LONGEST = 120  # letters of a label
_TEMPLATE = str.maketrans({"{": "&lbrace;", "}": "&rbrace;", "%": "&percnt;"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029<>&\"'`{}%#\\]+")
_NOT_SLUG = re.compile(r"[^a-z0-9]+")


def slug(*parts: str) -> str:
    """A key of small letters, digits and single hyphens; KubeSpawner parts keys at double ones."""
    found = _NOT_SLUG.sub("-", "-".join(part for part in parts if part).lower()).strip("-")
    return found or "x"


def escaped(text: str) -> str:
    """Text as HTML in which no template finds anything to render."""
    text = _CONTROL.sub(" ", text)
    short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    # named entities: those with numbers hold the sign of a template's comments
    return html.escape(" ".join(short.split())).replace("&#x27;", "&apos;").translate(_TEMPLATE)


def plain(text: str) -> str:
    """Text without anything that would have to be escaped: what a browser sends back is what was shown."""
    return " ".join(_UNSAFE.sub(" ", text).split())[:LONGEST].rstrip()
