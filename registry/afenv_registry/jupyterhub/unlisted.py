"""Images that no catalogue lists: the rule that says which of them a user may name.

The rule is a list of repositories. It is kept twice: as a regular expression for the form, which both
Python and a browser read (the ``pattern`` of HTML, compiled with the flag ``v``), and in Python, since what
arrives through JupyterHub's API has passed no form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from afenv.errors import AfenvError
from afenv.record import record
from afenv_registry.jupyterhub.labels import plain
from afenv_registry.reference import parse_reference

Pinned = Literal["digest", "tag"]
_DIGEST = "@sha256:[0-9a-f]{64}"
_TAG = r"[0-9A-Za-z_][0-9A-Za-z_.\-]{0,127}"
_PART = r"[a-z0-9]+(?:[._\-]+[a-z0-9]+)*"
_ALLOWED = re.compile(r"(?:[A-Za-z0-9.\-]+(?::[0-9]{1,5})?)(?:/[a-z0-9._\-]+)*(?:/\*)?\Z")
LONGEST = 500


@record
class Unlisted:
    """The rule: ``repositories`` are ``HOST/NAME``, or ``HOST/FOLDER/*`` for all below a folder.

    ``pinned`` says how an image has to be named: by its ``digest``, with or without a tag (the default:
    what the user starts tomorrow is what was started today), or by ``tag`` as well. ``hardware`` are the
    keys of the hardware that such images can have; nothing is known of their needs, so by default it is the
    first choice without a GPU.
    """

    repositories: tuple[str, ...]
    pinned: Pinned = "digest"
    hardware: tuple[str, ...] = ()

    @property
    def regex(self) -> str:
        """The rule for a form: anchored, and without what only one of Python and browsers understands."""
        names = "|".join(_pattern(one) for one in self.repositories)
        pinned = f"(?::{_TAG})?{_DIGEST}"
        rest = pinned if self.pinned == "digest" else f"(?::{_TAG}|{pinned})"
        return f"^(?:{names}){rest}$(?!\\n)"  # Python's $ also fits before a final newline

    @property
    def message(self) -> str:
        """What the form tells somebody whose words do not fit."""
        how = "by its digest: NAME@sha256:…" if self.pinned == "digest" else "as NAME:TAG or NAME@sha256:…"
        return f"An image from {' or '.join(self.repositories)}, {how}"

    def check(self, text: object) -> str:
        """The image that a user names; E631 for one that the rule does not allow, or that is no reference."""
        if not isinstance(text, str) or len(text) > LONGEST or not re.fullmatch(self.regex, text):
            shown = plain(text[:80]) if isinstance(text, str) else "what was sent"
            raise AfenvError(
                "E631", f"the image {shown!r} is not allowed", remedy=f"Name {self._in_words()}."
            )
        parse_reference(text, need_host=True)
        return text

    def _in_words(self) -> str:
        return self.message[0].lower() + self.message[1:]


def _pattern(repository: str) -> str:
    folder = repository.endswith("/*")
    name = repository.removesuffix("/*").replace(".", r"\.")
    return f"{name}(?:/{_PART})+" if folder else name


def unlisted(
    repositories: Iterable[str], *, pinned: Pinned = "digest", hardware: Iterable[str] = ()
) -> Unlisted:
    """The rule, checked; E632 for one that allows nothing, or everything, or is not understood."""
    found = (repositories,) if isinstance(repositories, str) else tuple(repositories)
    if not found:
        raise AfenvError("E632", "the rule for unlisted images allows nothing", place="unlisted")
    for one in found:
        host, slash, rest = one.partition("/")
        local = host == "localhost" or ":" in host or "." in host
        if not _ALLOWED.match(one) or not slash or not rest or not local:
            message = f"{one!r} is neither HOST/NAME nor HOST/FOLDER/*"
            raise AfenvError("E632", message, place="unlisted")
    if pinned not in ("digest", "tag"):
        raise AfenvError("E632", f"pinned is {pinned!r}, neither digest nor tag", place="unlisted")
    return Unlisted(repositories=found, pinned=pinned, hardware=tuple(hardware))
