"""The tag files of a bag (RFC 8493): written in one form, so that each byte of them is known.

A manifest has a line for each file: the digest in lower case, two spaces, the path; sorted by path. Other
software may write other white space and capitals; :func:`parse_manifest` reads these too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from afenv.archive.names import FILES, check_path
from afenv.errors import AfenvError

BAGIT = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
LENGTHS = {"sha256": 64, "sha512": 128}

_LINE = re.compile(r"([0-9A-Fa-f]+)[ \t]+\*?(.+)\Z")
_CODED = {"%": "%25", "\r": "%0D", "\n": "%0A"}


def dump_manifest(digests: Mapping[str, str]) -> bytes:
    """The manifest of files, given as digest by path."""
    lines = (f"{digests[path]}  {_encoded(path)}\n" for path in sorted(digests))
    return "".join(lines).encode("utf-8")


def parse_manifest(data: bytes, algorithm: str, place: str) -> dict[str, str]:
    """Digest by path; E721 for a line that is damaged, E725 for a path that leads outside."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AfenvError("E721", f"not UTF-8 from byte {error.start} on", place=place) from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        match = _LINE.match(line.rstrip("\r"))
        if match is None or len(match[1]) != LENGTHS[algorithm]:
            raise AfenvError("E721", f"line {number} is not a digest and a path", place=place)
        path = _decoded(match[2].removeprefix("./"))
        check_path(path, place)
        if path in found:
            raise AfenvError("E721", f"line {number} names {path} again", place=place)
        found[path] = match[1].lower()
        if len(found) > FILES:
            raise AfenvError("E725", f"it names more than {FILES:,} files", place=place)
    return found


def _encoded(path: str) -> str:
    return re.sub(r"[%\r\n]", lambda found: _CODED[found[0]], path)


def _decoded(path: str) -> str:
    return re.sub(r"%(0[AD]|25)", lambda found: chr(int(found[1], 16)), path, flags=re.I)


def dump_info(entries: Mapping[str, str | list[str]]) -> bytes:
    """``bag-info.txt`` out of labels and values, in their order."""
    lines = []
    for label, value in entries.items():
        values = [value] if isinstance(value, str) else value
        lines += [f"{label}: {' '.join(one.split())}\n" for one in values]
    return "".join(lines).encode("utf-8")
