"""Why conda packages cannot be had together, said to the person who asked for them.

py-rattler explains the whole search as a tree; that tree is kept, for the smallest set of requirements that
collide. What is recognised in it are virtual packages, whose names say nothing to a physicist.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from afenv.errors import AfenvError, Problem
from afenv.resolve.conda.channels import without_secrets
from afenv.resolve.conda.records import name_of

_VIRTUAL = re.compile(
    r"(__[a-z0-9_]+) ([^,\n]*?)(?:, for which no candidates were found|, which conflicts with)"
)
_NEEDS = re.compile(r"[├└]─ (\S+) (\S+) would (?:require|constrain)")
_WORDS = (
    (" * ", " "),
    (" cannot be installed because there are no viable options:", " cannot be installed:"),
    (
        ", which cannot be installed because there are no viable options:",
        ", of which no version can be installed:",
    ),
    (", for which no candidates were found", ", which no package fits"),
    (", which conflicts with any installable versions previously reported", ", which fits none of the above"),
    (" can be installed with any of the following options:", " may be:"),
    (" would require\n", " needs\n"),
    (" would constrain\n", " goes only with\n"),
)
_NEWER = re.compile(r"is excluded because the package is uploaded after the cutoff date of ([0-9-]+ [0-9:]+)")
_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3}[^)]*)\)")
_URL = re.compile(r"(?:https?|file)://[^\s`')]+")


GPU_REMEDY = 'Set gpu: {cuda: ">=12.2"} in the environment, or choose a variant without CUDA.'


def clean(text: str) -> str:
    """The solver's words without its preamble and without secrets, each line as it stands."""
    text = text.removeprefix("Cannot solve the request because of: ")
    text = text.removeprefix("The following packages are incompatible").strip("\n")
    for theirs, ours in _WORDS:
        text = text.replace(theirs, ours)
    return without_secrets(_NEWER.sub(r"is newer than \1 UTC", text)).rstrip()


def no_solution(
    failure: Mapping[str, Any], virtual: Mapping[str, str], *, base: str, as_of: str, channels: Sequence[str]
) -> AfenvError:
    """The error for a question without a solution.

    ``base`` is what a person calls the base, ``as_of`` the time that is locked as of. E101 for a package or
    version that does not exist, E102 for requirements that collide.
    """
    if "missing" in failure:
        where = ", ".join(without_secrets(channel) for channel in channels)
        return AfenvError.many(
            [
                Problem(
                    "E101",
                    f"there is no conda package {name!r} in {where}",
                    path="conda.dependencies",
                    remedy=f"Did you mean {' or '.join(near)}?" if near else None,
                )
                for name, near in sorted(failure["missing"].items())
            ]
        )
    text, collide = clean(failure["text"]), failure["collide"]
    found = _of_virtual_packages(failure["text"], collide, virtual, base)
    if found is not None:
        return found
    if len(collide) == 1 and collide[0].startswith("__"):
        name = name_of(collide[0])
        state = f"is {virtual[name]}" if name in virtual else "is absent"
        return AfenvError(
            "E102", f"{collide[0]!r} is asked for, and {name} {state}", path="conda.dependencies"
        )
    too_new = "is newer than" in text and " needs\n" not in text
    if len(collide) == 1 and (too_new or text.startswith("No candidates were found for")):
        versions = ", ".join(failure["versions"])
        there = f"there are: {versions}" if versions else f"none was there as of {as_of}"
        if too_new:
            there += f" (as of {as_of})"
        return AfenvError(
            "E101",
            f"there is no version that fits {collide[0]!r}; {there}",
            path="conda.dependencies",
            remedy=None if versions else "Lock as of a later time (--as-of).",
        )
    if len(collide) == 1:
        message = f"{collide[0]} cannot be installed:\n{_indented(text)}"
    else:
        named = " and ".join([", ".join(collide[:-1]), collide[-1]])
        message = f"{named} cannot be installed together:\n{_indented(text)}"
    return AfenvError("E102", message)


def _indented(text: str) -> str:
    return "\n".join("  " + line for line in text.splitlines())


def _of_virtual_packages(
    text: str, collide: Sequence[str], virtual: Mapping[str, str], base: str
) -> AfenvError | None:
    """The error where a virtual package is all that is in the way."""
    match = _VIRTUAL.search(text)
    if match is None:
        return None
    name, wanted = match[1], match[2].strip()
    needs = _NEEDS.findall(text[: match.start()])
    package = " ".join(needs[-1]) if needs else collide[0]
    asked = "" if package.split()[0] == name_of(collide[0]) else f" (for {collide[0]})"
    limit = f" {wanted}" if wanted and wanted != "*" else ""
    if name == "__cuda":
        least = re.search(r"[0-9]+(?:\.[0-9]+)*", wanted)
        message = f"{package}{asked} needs a GPU with CUDA{limit}"
        if name in virtual:
            message += f"; the environment's gpu section allows CUDA {virtual[name]}"
        say = least[0] if least else "12.2"
        remedy = GPU_REMEDY.replace("12.2", say)
        return AfenvError("E102", message, path="conda.dependencies", remedy=remedy)
    if name == "__glibc":
        has = virtual.get(name, "unknown")
        message = f"{package}{asked} needs the C library (glibc){limit}; {base} has {has}"
        remedy = "Choose a newer base, or an older version of the package."
        return AfenvError("E102", message, path="conda.dependencies", remedy=remedy)
    state = f"is {virtual[name]}" if name in virtual else "is absent"
    message = f"{package}{asked} needs {name}{limit}, which {state} in this environment"
    return AfenvError(
        "E102",
        message,
        path="conda.dependencies",
        remedy="Set it under conda.virtual-packages if that is true.",
    )


def failed(error: Mapping[str, Any], *, offline: bool) -> AfenvError:
    """The error for a solver that raised: E013, E103, E201, E202, E203 or E120."""
    text = " ".join(without_secrets(str(error.get("text", ""))).split())
    kind = error.get("kind")
    if kind == "InvalidMatchSpecError":
        spec = error.get("spec")
        return AfenvError("E013", f"{spec!r} is not a conda requirement: {text}", path="conda.dependencies")
    if kind in ("InvalidVersionError", "InvalidPackageNameError"):
        return AfenvError("E013", f"a virtual package has no version: {text}", path="conda.virtual-packages")
    if kind == "InvalidChannelError":
        return AfenvError("E013", f"a channel cannot be understood: {text}", path="conda.channels")
    url = _URL.search(text)
    place = url[0].rstrip(".,") if url else None
    if offline and "no usable repodata cache" in text:
        return AfenvError("E203", "offline, and the cache has no copy of the channel's index", place=place)
    if "could not find subdir" in text:
        return AfenvError(
            "E101",
            "there is no conda channel here: it has no index (noarch/repodata.json and that of the platform)",
            place=place,
            remedy="Check the name or the URL of the channel.",
        )
    if re.search(r"failed to (?:parse repodata|extract repodata|decode|decompress)", text):
        return AfenvError(
            "E202",
            f"the index of a channel is damaged: {text}",
            place=place,
            remedy="Try again later, or use another mirror (AFENV_MIRRORS).",
        )
    if "No space left" in text or "os error 28" in text:
        return AfenvError("E402", f"the conda solver: {text}")
    if status := _STATUS.search(text):
        return AfenvError("E202", f"the channel answered {status[1]}", place=place)
    if kind in ("GatewayError", "FetchRepoDataError") and re.search(
        r"error sending request|error decoding response|error reading a body|connection|timed? ?out|tls",
        text,
        re.I,
    ):
        return AfenvError("E201", f"cannot read the channel: {text}", place=place)
    return AfenvError("E120", f"the conda solver failed ({kind}): {text}")
