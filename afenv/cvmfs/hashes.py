"""The digests by which CVMFS names objects: SHA-1, RIPEMD-160 and SHAKE-128, 160 bits each.

A digest is written as 40 hexadecimal digits and a suffix for its algorithm; none is SHA-1. An object lies in
``data/XX/REST-SUFFIX`` and a letter for its kind.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from typing import Any, Literal, NamedTuple, Protocol

from afenv.errors import AfenvError

Algorithm = Literal["sha1", "rmd160", "shake128"]
ALGORITHMS: tuple[Algorithm, ...] = ("sha1", "rmd160", "shake128")  # in the order of the catalogue's flags
BYTES = 20

_FORM = re.compile(r"([0-9a-f]{40})(?:-(rmd160|shake128))?\Z")


class Hashing(Protocol):
    """A digest that is being computed."""

    def update(self, data: bytes | bytearray | memoryview, /) -> Any:
        """Append some bytes."""

    def hexdigest(self) -> str:
        """The 40 hexadecimal digits."""


class ObjectHash(NamedTuple):
    """The digest of an object: its algorithm and 40 hexadecimal digits."""

    algorithm: Algorithm
    digits: str

    def __str__(self) -> str:
        return self.digits + suffix(self.algorithm)

    def path(self, kind: str = "") -> str:
        """Where the object lies below a repository's URL; ``kind`` is the letter of its kind."""
        return f"data/{self.digits[:2]}/{self.digits[2:]}{suffix(self.algorithm)}{kind}"

    def matches(self, data: bytes | memoryview) -> bool:
        """Whether these bytes have the digest."""
        return hash_of(self.algorithm, data) == self.digits


class _Shake:
    def __init__(self) -> None:
        self._hash = hashlib.shake_128()
        self.update = self._hash.update

    def hexdigest(self) -> str:
        return self._hash.hexdigest(BYTES)


@cache
def _has_ripemd() -> bool:
    try:
        hashlib.new("ripemd160")
    except ValueError:  # OpenSSL 3 without its legacy algorithms
        return False
    return True


def hashing(algorithm: Algorithm) -> Hashing:
    """A new digest of that algorithm."""
    if algorithm == "shake128":
        return _Shake()
    if algorithm == "sha1":
        return hashlib.sha1(usedforsecurity=False)
    if _has_ripemd():
        return hashlib.new("ripemd160", usedforsecurity=False)
    from afenv.cvmfs.ripemd160 import Ripemd160

    return Ripemd160()


def hash_of(algorithm: Algorithm, data: bytes | memoryview) -> str:
    """The 40 hexadecimal digits of some bytes' digest."""
    found = hashing(algorithm)
    found.update(data)
    return found.hexdigest()


def suffix(algorithm: Algorithm) -> str:
    """What follows the digits: nothing for SHA-1."""
    return "" if algorithm == "sha1" else f"-{algorithm}"


def parse_hash(text: str, place: str = "") -> ObjectHash:
    """The digest that some text is; E313 for what is none, E141 for one of nothing but zeros.

    A client that is given an all-zero root hash mounts the newest revision without a word: it pins nothing.
    """
    match = _FORM.match(text)
    if match is None:
        raise AfenvError("E313", f"{text[:80]!r} is not a digest of CVMFS", place=place or None)
    if set(match[1]) == {"0"}:
        raise AfenvError("E141", "a root hash of zeros pins no revision", place=place or None)
    algorithm: Algorithm = "sha1" if match[2] is None else "rmd160" if match[2] == "rmd160" else "shake128"
    return ObjectHash(algorithm=algorithm, digits=match[1])
