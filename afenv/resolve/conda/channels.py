"""Conda channels: what a manifest calls them, where they are, and how this host reaches them.

A channel is a name (``conda-forge``, also with labels or organisations such as ``org/label/dev``), a URL, or
a folder, which begins with ``.`` or ``/``. The names are those of https://conda.anaconda.org (CEP 26);
``defaults`` stands for the two channels of https://repo.anaconda.com that conda gives it on Linux.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from afenv.errors import AfenvError
from afenv.settings import Settings

ALIAS = "https://conda.anaconda.org/"
DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
SUBDIRS = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9._-]+)*\Z")
_SUBDIR = re.compile(r"/(?:noarch|(?:linux|osx|win|freebsd|zos|emscripten|wasi)-[a-z0-9_]+)\Z")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")
_TOKEN = re.compile(r"(?<=[/])t/[A-Za-z0-9-]+/(?=\S)")


def without_secrets(text: str) -> str:
    """``text`` with user names, passwords and tokens (``/t/TOKEN/``) of its URLs removed."""
    return re.sub(r"[a-z]+://\S+", lambda url: _TOKEN.sub("", _CREDENTIALS.sub("", url[0])), text)


@dataclass(frozen=True, kw_only=True, slots=True)
class CondaChannel:
    """A channel: its name in the lock, its base URL for everyone, and its URL on this host.

    All end without a slash. The ``url`` of a folder that is given relative to the manifest is so too, so that
    a lock does not depend on where the project lies; see :meth:`afenv.settings.Settings.beside`.
    """

    name: str
    url: str
    source: str

    def on_host(self, url: str) -> str:
        """The URL on this host of a file of the channel, with the credentials that a solver hides."""
        plain, base = without_secrets(url), without_secrets(self.source + "/")
        return f"{self.source}/{plain[len(base) :]}" if plain.startswith(base) else url

    def canonical(self, url: str, settings: Settings) -> str:
        """The URL for everyone of a file that was found at ``url`` on this host."""
        url, base = without_secrets(url), without_secrets(self.source + "/")
        if url.startswith(base):
            return f"{self.url}/{url[len(base) :]}"
        for prefix, replacement in settings.mirrors:
            if url.startswith(replacement):
                return without_secrets(prefix + url[len(replacement) :])
        return without_secrets(url)


def subdir_of(platform: str) -> str:
    """The conda subdirectory of a platform; E016 for one that is not supported."""
    if platform not in SUBDIRS:
        raise AfenvError("E016", f"conda packages for {platform} are not supported yet")
    return SUBDIRS[platform]


def is_folder(channel: str) -> bool:
    """Whether a channel is a folder by the way it is written."""
    return channel in (".", "..") or channel.startswith(("./", "../", "/"))


def channels_of(names: Iterable[str], folder: Path, settings: Settings) -> tuple[CondaChannel, ...]:
    """The channels in their order, each once; E013 for what is no channel, E203 if one is out of reach."""
    found: dict[str, CondaChannel] = {}
    for name in names:
        for part in DEFAULTS if name == "defaults" else (name,):
            channel = _channel(part.rstrip("/"), folder, settings)
            found.setdefault(channel.url, channel)
    return tuple(found.values())


def _channel(name: str, folder: Path, settings: Settings) -> CondaChannel:
    if is_folder(name):
        path = Path(os.path.normpath(folder / name))
        if not path.is_dir():
            raise AfenvError("E001", "there is no such channel folder", place=str(path))
        relative = quote(name if name.startswith(("./", "../")) else name + "/.")
        url = path.as_uri() if name.startswith("/") else relative
        return CondaChannel(name=name, url=url, source=path.as_uri())
    if "://" in name:
        url = _SUBDIR.sub("", name)
        if urlsplit(url).scheme not in ("http", "https", "file"):
            raise AfenvError("E013", f"{without_secrets(name)!r} is not a channel that can be read")
        plain = without_secrets(url)
        source = settings.rewrite(url)
        if source == url:
            source = settings.rewrite(plain) if settings.rewrite(plain) != plain else url
        return CondaChannel(name=plain, url=plain, source=source.rstrip("/"))
    if not _NAME.match(name):
        raise AfenvError(
            "E013",
            f"{name!r} is not a channel",
            remedy="Write a name such as conda-forge, a URL, or a folder beginning with ./ or /.",
        )
    url = ALIAS + name
    source = settings.rewrite(url + "/").rstrip("/")
    return CondaChannel(name=name, url=url, source=source)


def spec_for_host(spec: str, channels: Iterable[CondaChannel], folder: Path, settings: Settings) -> str:
    """A match specification whose ``CHANNEL::`` is said as this host reaches it; E014 if it is not listed."""
    prefix, separator, rest = spec.partition("::")
    if not separator:
        return spec
    name = prefix.strip()
    subdir = _SUBDIR.search(name)
    if subdir:
        name = name[: subdir.start()]
    wanted = {channel.url for channel in channels_of([name], folder, settings)}
    for channel in channels:
        if channel.url in wanted:
            return f"{channel.source}{subdir[0] if subdir else ''}::{rest}"
    raise AfenvError(
        "E014",
        f"{spec!r} names the channel {without_secrets(name)}, which is not among the channels",
        remedy="Add it to the channels, in the place of its priority.",
    )
