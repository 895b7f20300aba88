"""Near misses: what somebody may have meant, and lists of words as a sentence has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# What people write for what they mean, where no letters tell.
_SYNONYMS = {
    "linux/x86_64": "linux/amd64",
    "x86_64": "linux/amd64",
    "linux/aarch64": "linux/arm64",
    "aarch64": "linux/arm64",
    "linux-64": "linux/amd64",
    "linux-aarch64": "linux/arm64",
    "11": "bullseye",
    "12": "bookworm",
    "13": "trixie",
}


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the nearest of the choices; empty if none is near."""
    import difflib

    options = {choice.casefold(): choice for choice in choices}
    if _SYNONYMS.get(word) in options:
        return f"; did you mean {_SYNONYMS[word]!r}?"
    near = difflib.get_close_matches(word.casefold(), list(options), n=1, cutoff=0.6)
    return f"; did you mean {options[near[0]]!r}?" if near else ""


def one_of(words: Sequence[str], conjunction: str = "or") -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}"
