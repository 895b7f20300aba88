"""uv's failures said as afenv's errors: which code, in whose words.

uv explains a conflict well ("because … and because … we can conclude …"); that text is kept and only its
layout and the names of uv's own options are removed. What is recognised are the phrases of uv's
reports; a text that is not recognised becomes E120 with all of it.
"""

from __future__ import annotations

import re

from afenv.errors import AfenvError

_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_MISSING = re.compile(rf"({_NAME}) was not found in the package registry")
_NO_WHEEL = re.compile(
    rf"({_NAME})[^ ]* (?:has|have) no (?:usable wheels|wheels with a matching)|({_NAME})[^ ]* has no wheels"
)
_NO_VERSION = re.compile(
    rf"there (?:is|are) no versions? of ({_NAME})|only ({_NAME})(?:\[[^]]*\])?[<>=!]\S* is available"
)
_YANKED = re.compile(rf"({_NAME}\S*) (?:was|were) yanked(?: \(reason: (.*?)\))?(?= and |, |\.|$)")
_PYTHON = re.compile(rf"({_NAME}\S*) requires Python|requested Python version .* does not satisfy")
_REQUIRED = re.compile(r"you require (.*?), we can conclude that your requirements are unsatisfiable")
_NETWORK = re.compile(
    r"error sending request|dns error|connection (?:refused|reset)|timed? ?out|client error \(Connect\)"
    r"|network is unreachable|tls|certificate",
    re.IGNORECASE,
)
_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3}[^)]*)\)|status code:? (\d{3})")
_URL = re.compile(r"https?://[^\s`)]+")


def without_credentials(text: str) -> str:
    """``text`` with the user names and passwords of its URLs removed."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)


def plain_words(stderr: str) -> tuple[str, tuple[str, ...]]:
    """uv's report as one paragraph, and its hints; notes about progress and warnings are left out."""
    body: list[str] = []
    hints: list[str] = []
    into: list[str] = body
    for raw in without_credentials(stderr).splitlines():
        line = raw.strip()
        if not line:
            continue
        if line.startswith("warning:") or re.match(r"(?:Resolved|Updating|Updated|Using|Building) ", line):
            into = []
            continue
        if line.startswith("hint:"):
            hints.append(line.removeprefix("hint:").strip())
            into = hints
            continue
        if raw.startswith(("error:", "  cause:", "  Caused by:", "  ×", "  ╰─▶", "  ├─▶", "  help:")):
            into = body
        line = re.sub(r"\A(?:error:|cause:|Caused by:|×|╰─▶|├─▶)\s*", "", line)
        if into is hints:
            hints[-1] += " " + line
        else:
            into.append(line)
    text = " ".join(line for line in body if not line.startswith("No solution found"))
    return text, tuple(hints)


def warnings_of(stderr: str) -> tuple[str, ...]:
    """The warnings that uv gave, without its prefix."""
    return tuple(
        without_credentials(line.removeprefix("warning:").strip())
        for line in stderr.splitlines()
        if line.startswith("warning:")
    )


def explain(stderr: str, as_of: str, *, offline: bool, place: str | None = None) -> AfenvError:
    """The error for a run of uv that failed; ``as_of`` is the time that was locked as of, for people."""
    text, hints = plain_words(stderr)
    joined = " ".join(hints)

    def error(code: str, message: str, remedy: str | None = None) -> AfenvError:
        return AfenvError(code, message, place=place, remedy=remedy)

    if "os error 28" in text or "os error 122" in text:  # ENOSPC, EDQUOT
        return error("E402", f"uv: {text}")
    if re.search(r"cache.*os error (?:13|30)", text):  # EACCES, EROFS
        return error("E403", f"uv: {text}")
    if offline and re.search("n(?:o|')t found in the cache|network was disabled", f"{text} {joined}"):
        return error("E203", f"the cache lacks what the PyPI packages need: {text}")
    if "missing an upload date" in stderr and ("no version" in text or "is available" in text):
        return error(
            "E101",
            f"the index does not say when its files were uploaded, so none counts as of {as_of}: {text}",
            "Use an index with upload times (PEP 700), or set AFENV_PYPI_UPLOAD_TIMES=ignore to take what "
            "the index has now.",
        )
    if missing := _MISSING.search(text):
        suggestion = next((f" {hint}" for hint in hints if "mean" in hint.lower()), "")
        return error("E101", f"there is no package {missing[1]!r}: {text}{suggestion}")
    if status := _STATUS.search(text):
        url = _URL.search(text)
        at = f" at {url[0]}" if url else ""
        return error("E202", f"the package index answered {status[1] or status[2]}{at}")
    if "we can conclude" not in text and _NETWORK.search(text):
        url = _URL.search(text)
        return error("E201", f"cannot reach {url[0].rstrip('.,') if url else 'the package index'}: {text}")
    if "Couldn't parse requirement" in text:
        return error("E013", text)
    if "unsatisfiable" not in text:
        return error("E120", f"uv failed: {text or stderr.strip() or 'it said nothing'}")

    required = _REQUIRED.findall(text)
    single = bool(required) and " and " not in required[-1]
    if single and _YANKED.search(text):
        remedy = "Ask for a version that was not yanked, or for exactly this one (==) if there is no other."
        return error("E103", f"the only version that fits was yanked by its authors: {text}", remedy)
    if single and (found := _NO_WHEEL.search(text)):
        more = f" {joined}" if "Wheels are available" in joined else ""
        return error(
            "E107", f"{found[1] or found[2]!s} has no wheel for this Python and platform: {text}{more}"
        )
    if single and not _PYTHON.search(text) and " depend" not in text and (gone := _NO_VERSION.search(text)):
        later: str | None = None
        if "exclude-newer" in joined:
            later = f"Versions uploaded after {as_of} are not seen; lock as of a later time (--as-of)."
        return error("E101", f"there is no such version of {gone[1] or gone[2]!r}: {text}", later)
    return error("E102", text)
