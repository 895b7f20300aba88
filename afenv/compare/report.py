"""The report for people: one HTML file that asks for nothing, and is safe whatever names and values say.

All text is escaped, there is no script, and a content security policy allows the style by its digest, images
that are in the file, and nothing else.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from afenv.compare.compare import ComparedFile, Comparison
from afenv.compare.histogram import HistogramPlot
from afenv.compare.outcome import DIFFERENT, INCOMPARABLE, Part
from afenv.compare.svg import overlay, pulls
from afenv.compare.tables import TextPlot
from afenv.progress import counted, human_size

PLOTS = 200  # of one file
ROWS = 500
WRONG = (DIFFERENT, INCOMPARABLE)
VERDICTS = {
    "same": "The two are the same.",
    "different": "The two differ.",
    "incomparable": "Not everything can be compared; what can is the same.",
}

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{style}</style></head>
<body>{body}</body></html>
"""


def report(comparison: Comparison) -> str:
    """The page."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    body = "\n".join(_body(comparison))
    return PAGE.format(policy=policy, title=f"Comparison: {comparison.verdict}", style=style, body=body)


def _body(comparison: Comparison) -> Iterator[str]:
    verdict = comparison.verdict
    yield f'<h1><span class="verdict {verdict}">{verdict}</span> {VERDICTS[verdict]}</h1>'
    yield '<div class="sides">'
    for name, word, side in (("one", "First", comparison.first), ("two", "Second", comparison.second)):
        facts = [f"{side.kind}, {counted(len(side.files), 'file')}"]
        if side.about.get("name"):
            facts.append(f"{side.about['name']} {side.about.get('version', '')}".strip())
        if side.about.get("ended"):
            facts.append(f"ended {side.about['ended']}")
        facts += [str(choice) for choice in side.about.get("chosen", ())]
        lines = "".join(f"<div>{escape(fact)}</div>" for fact in facts)
        yield f'<div class="side {name}"><b>{word}</b><code>{escape(side.place)}</code>{lines}</div>'
    yield "</div>"
    yield from _files(comparison)
    worst = sorted(comparison.files, key=lambda file: file.outcome not in WRONG)
    for number, file in enumerate(worst):
        if file.outcome in WRONG or file.content.parts or file.content.plot is not None:
            yield from _file(number, file, opened=file.outcome in WRONG)
    rules = comparison.as_json()["rules"]
    source = f" of <code>{escape(comparison.manifest)}</code>" if comparison.manifest else ""
    count = counted(len(rules), "rule")
    yield f'<p class="soft">{count}{source}. Limits without a rule: relative 1e-9, absolute 0.</p>'
    if rules:
        yield f"<pre>{escape(chr(10).join(_rule(rule) for rule in rules))}</pre>"


def _rule(rule: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in rule.items())


def _files(comparison: Comparison) -> Iterator[str]:
    heads = "".join(f"<th>{head}</th>" for head in ("file", "kind", "outcome", "", "sizes"))
    yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
    for file in comparison.files:
        sizes = " and ".join(human_size(side["size"]) if side else "–" for side in (file.first, file.second))
        notes = "".join(f"<br>{escape(note)}" for note in file.notes)
        yield (
            f"<tr><td><code>{escape(file.path)}</code></td><td>{escape(file.content.kind)}</td>"
            f'<td class="{file.outcome}">{file.outcome}</td>'
            f"<td>{escape(file.content.message or '')}{notes}</td>"
            f'<td class="number">{sizes}</td></tr>'
        )
    yield "</tbody></table>"


def _file(number: int, file: ComparedFile, *, opened: bool) -> Iterator[str]:
    yield f"<details{' open' if opened else ''}><summary><code>{escape(file.path)}</code> "
    yield f'<span class="{file.outcome}">{file.outcome}</span></summary>'
    content = file.content
    if content.message:
        yield f"<p>{escape(content.message)}</p>"
    parts = sorted(content.parts, key=lambda part: part.outcome not in WRONG)
    if isinstance(content.plot, TextPlot):
        yield _diff(content.plot)
    elif content.plot is not None:
        yield from _images(content.plot)
    elif parts:
        yield from _parts(parts)
        plots = [part for part in parts if isinstance(part.plot, HistogramPlot)]
        yield '<div class="plots">'
        for part in plots[:PLOTS]:
            yield from _plot(part)
        yield "</div>"
        if len(plots) > PLOTS:
            yield f'<p class="soft">{len(plots) - PLOTS} more plots are not shown.</p>'
    yield "</details>"


def _parts(parts: list[Part]) -> Iterator[str]:
    """A table of parts, with the columns in which anything stands."""
    rows = [_cells(part) for part in parts[:ROWS]]
    heads = ("", "kind", "outcome", "first", "second", "relative", "χ² / ndf, probability", "KS probability")
    used = [at for at in range(len(heads)) if any(row[at] for row in rows)]
    yield f"<table><thead><tr>{''.join(f'<th>{heads[at]}</th>' for at in used)}</tr></thead><tbody>"
    for row in rows:
        cells = (f"<td{' class=number' if at > 4 else ''}>{row[at]}</td>" for at in used)
        yield f"<tr>{''.join(cells)}</tr>"
    yield "</tbody></table>"
    if len(parts) > ROWS:
        yield f'<p class="soft">{len(parts) - ROWS} more are not shown.</p>'


def _cells(part: Part) -> list[str]:
    message = f" <span class='soft'>{escape(part.message)}</span>" if part.message else ""
    measures = part.measures
    return [
        f"<code>{escape(part.path)}</code>",
        escape(part.kind),
        f'<span class="{part.outcome}">{part.outcome}</span>{message}',
        escape(_value(part.first)),
        escape(_value(part.second)),
        f"{measures['relative']:.3g}" if "relative" in measures else "",
        _chi2(measures),
        f"{measures['ks']['probability']:.4g}" if "ks" in measures else "",
    ]


def _value(value: Any) -> str:
    return "" if value is None else str(value)


def _chi2(measures: Mapping[str, Any]) -> str:
    found = measures.get("chi2")
    if not found:
        return ""
    value = f"{found['chi2']:.4g}" if "chi2" in found else "∞"
    return f"{value} / {found['ndf']}, {found['probability']:.4g}"


def _plot(part: Part) -> Iterator[str]:
    found: HistogramPlot = part.plot
    picture = None
    if len(found.first.edges) == 1:
        picture = overlay(found.first, found.second)
    elif part.outcome in WRONG:
        picture = pulls(found.first, found.second)
    if picture is not None:
        title = found.first.title if found.first.title not in ("", part.path) else ""
        yield f"<figure><figcaption><code>{escape(part.path)}</code> {escape(title)} "
        yield f'<span class="{part.outcome}">{part.outcome}</span></figcaption>{picture}</figure>'


def _images(plot: Any) -> Iterator[str]:
    yield '<div class="plots">'
    for name, data in (
        ("first", plot.first),
        ("second", plot.second),
        ("where they differ", plot.difference),
    ):
        if data is not None:
            text = base64.b64encode(data).decode()
            yield f"<figure><figcaption>{name}</figcaption>"
            yield f'<img alt="{name}" src="data:image/png;base64,{text}"></figure>'
    yield "</div>"


def _diff(plot: TextPlot) -> str:
    lines = []
    for line in list(difflib.unified_diff(plot.first, plot.second, "first", "second", lineterm="", n=2))[
        :ROWS
    ]:
        name = {"-": "minus", "+": "plus"}.get(line[:1])
        text = escape(line[:500])
        lines.append(f'<span class="{name}">{text}</span>' if name else text)
    if not plot.whole:
        lines.append("… only the beginnings are shown")
    return "<pre>" + "\n".join(lines) + "</pre>"
