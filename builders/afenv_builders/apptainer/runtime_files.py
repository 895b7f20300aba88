"""What Apptainer and Singularity look for in an image beside the image's own files, and its metadata.

The names and the order in which they are read are those of `apptainer build` (Apptainer 1.4); the
contents are ours. Entrypoint, Cmd and Env mean what they mean to Docker: arguments replace Cmd, nothing is
evaluated by a shell, and a variable that the caller sets wins.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

from afenv import canonical
from afenv.layers.tar_header import FILE, FOLDER, SYMBOLIC_LINK, header, padding
from afenv.oci import sif
from afenv.oci.model import Image
from afenv.oci.sif_record import TREE_RECORD, SifRecord

ROOT = ".singularity.d"
DEFINITION = f"{ROOT}/Singularity"
LABELS = f"{ROOT}/labels.json"
HELP = f"{ROOT}/runscript.help"
RUNSCRIPT = f"{ROOT}/runscript"
STARTSCRIPT = f"{ROOT}/startscript"
VARIABLES = f"{ROOT}/env/10-docker2singularity.sh"
CUSTOM = f"{ROOT}/env/90-environment.sh"
FOLDERS = (ROOT, f"{ROOT}/actions", f"{ROOT}/env", f"{ROOT}/libs")

LINKS = {
    ".exec": f"{ROOT}/actions/exec",
    ".run": f"{ROOT}/actions/run",
    ".shell": f"{ROOT}/actions/shell",
    ".test": f"{ROOT}/actions/test",
    "environment": CUSTOM,
    "singularity": RUNSCRIPT,
}
# where runtimes mount or write, so that it can be done without an overlay; made where the image lacks it
MOUNT_POINTS = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "proc": 0o755,
    "root": 0o700,
    "sys": 0o755,
    "tmp": 0o1777,
    "var": 0o755,
    "var/tmp": 0o1777,
}
MOUNT_FILES = ("etc/hosts", "etc/resolv.conf")

_SH = "#!/bin/sh\n"
_SOURCE = 'for file in /.singularity.d/env/*.sh; do\n    [ -f "$file" ] && . "$file"\ndone\n'
_SHELL = """\
for shell in "${SINGULARITY_SHELL:-}" /bin/bash /bin/sh; do
    [ -n "$shell" ] && [ -x "$shell" ] || continue
    SHELL=$shell
    export SHELL
    case $shell in
    */bash) exec "$shell" --norc "$@" ;;
    *) exec "$shell" "$@" ;;
    esac
done
echo "this image has no shell" >&2
exit 1
"""

# read by runtimes that do not bring these scripts themselves (before Singularity 3.7)
_ACTIONS = {
    "exec": _SH + _SOURCE + 'exec "$@"\n',
    "run": _SH + _SOURCE + f'exec /{RUNSCRIPT} "$@"\n',
    "shell": _SH + _SOURCE + _SHELL,
    "start": _SH + "kill -CONT 1\n" + _SOURCE + f"exec /{STARTSCRIPT}\n",
    "test": _SH + _SOURCE + f"[ -x /{ROOT}/test ] || exit 0\n" + f'exec /{ROOT}/test "$@"\n',
}

_LIBRARIES = (
    _SH
    + f"""\
# the host's libraries, such as those of GPU drivers, are mounted in /{ROOT}/libs
LD_LIBRARY_PATH="${{LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}}/{ROOT}/libs"
PS1="${{PS1:-Apptainer> }}"
export LD_LIBRARY_PATH PS1
"""
)
_PATHS = (
    _SH
    + """\
# what the caller says of PATH: in front of it, behind it, or in its place
PATH="${SING_USER_DEFINED_PREPEND_PATH:+$SING_USER_DEFINED_PREPEND_PATH:}$PATH"
PATH="$PATH${SING_USER_DEFINED_APPEND_PATH:+:$SING_USER_DEFINED_APPEND_PATH}"
PATH="${SING_USER_DEFINED_PATH:-$PATH}"
unset SING_USER_DEFINED_PREPEND_PATH SING_USER_DEFINED_APPEND_PATH SING_USER_DEFINED_PATH
export PATH
"""
)

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def variables(settings: Mapping[str, Any]) -> str:
    """The script that sets the image's variables; PATH in full, others unless they are set."""
    lines = [_SH.strip()]
    for entry in settings.get("Env") or ():
        name, _, value = entry.partition("=")
        if not _NAME.fullmatch(name):
            continue  # a shell cannot have such a variable
        quoted = shlex.quote(value)
        lines.append(
            f"export PATH={quoted}" if name == "PATH" else f'[ -n "${{{name}:-}}" ] || export {name}={quoted}'
        )
    return "\n".join(lines) + "\n"


def runscript(settings: Mapping[str, Any]) -> str:
    """The script of ``apptainer run``: Entrypoint, then the arguments or else Cmd (config.md)."""
    lines = [_SH.strip()]
    entrypoint, command = settings.get("Entrypoint") or [], settings.get("Cmd") or []
    if command:
        lines.append(f"[ $# -gt 0 ] || set -- {shlex.join(command)}")
    if not entrypoint:
        lines.append("[ $# -gt 0 ] || set -- /bin/sh")
    lines.append(" ".join(filter(None, ["exec", shlex.join(entrypoint), '"$@"'])))
    return "\n".join(lines) + "\n"


def definition(image: Image) -> str:
    """The definition from which `apptainer build` would make the same, given the image's layout."""
    return (
        f"# made by afenv from the layers of the image {image.image_id}\n"
        f"bootstrap: oci\nfrom: {image.reference or 'image'}\n"
    )


def labels(image: Image) -> dict[str, str]:
    """The image's labels, and those that Apptainer adds, apart from its own version."""
    config = image.configuration()
    own = {key: str(value) for key, value in ((config.get("config") or {}).get("Labels") or {}).items()}
    return own | {
        "org.label-schema.build-arch": str(config.get("architecture", "")),
        "org.label-schema.build-date": str(config.get("created", "")),
        "org.label-schema.schema-version": "1.0",
        "org.label-schema.usage.singularity.deffile.bootstrap": "oci",
        "org.label-schema.usage.singularity.deffile.from": image.reference or "image",
    }


def help_text(image: Image) -> str:
    """What ``apptainer run-help`` shows: title, version and description, as far as there are any."""
    found = labels(image)
    texts = [found.get(f"org.opencontainers.image.{key}", "") for key in ("title", "version", "description")]
    title = " ".join(filter(None, texts[:2])) or image.reference or image.image_id
    return "\n".join(filter(None, [title, texts[2]])) + "\n"


def runtime_files(image: Image, record: SifRecord) -> dict[str, tuple[int, bytes]]:
    """Mode and content of every file in ``.singularity.d``, by path."""
    found = {path: (0o755, text.encode()) for path, text in _scripts(image).items()}
    texts = {
        DEFINITION: definition(image).encode(),
        HELP: help_text(image).encode(),
        LABELS: canonical.indented(labels(image)),
        TREE_RECORD: record.as_bytes(),
    }
    return found | {path: (0o644, content) for path, content in texts.items()}


def _scripts(image: Image) -> dict[str, str]:
    settings = image.configuration().get("config") or {}
    return {
        VARIABLES: variables(settings),
        CUSTOM: _SH,
        f"{ROOT}/env/99-base.sh": _LIBRARIES,
        f"{ROOT}/env/99-runtimevars.sh": _PATHS,
        RUNSCRIPT: runscript(settings),
        STARTSCRIPT: _SH,
        **{f"{ROOT}/actions/{name}": text for name, text in _ACTIONS.items()},
    }


def additions(present: Mapping[bytes, bytes]) -> dict[str, tuple[bytes, int, str]]:
    """Links and mount points that an image lacks: tar's kind, mode and target of a link, by path.

    ``present`` tells the kind of what the image has, by path.
    """
    found: dict[str, tuple[bytes, int, str]] = {}

    def free(path: str) -> bool:
        folder = path.rpartition("/")[0]
        inside = not folder or folder in found or present.get(folder.encode()) == FOLDER
        return inside and path.encode() not in present

    for path, mode in MOUNT_POINTS.items():
        if free(path):
            found[path] = (FOLDER, mode, "")
    for path in MOUNT_FILES:
        if free(path):
            found[path] = (FILE, 0o644, "")
    for path, target in LINKS.items():
        if free(path):
            found[path] = (SYMBOLIC_LINK, 0o777, target)
    return found


def first_members(image: Image, record: SifRecord, mtime: int) -> dict[bytes, bytes]:
    """The tar members of ``.singularity.d``, which win over an image's own files at these paths."""
    found = {path: header(f"{path}/".encode(), 0o755, mtime, FOLDER) for path in FOLDERS}
    for path, (mode, content) in sorted(runtime_files(image, record).items()):
        head = header(path.encode(), mode, mtime, FILE, len(content))
        found[path] = head + content + padding(len(content))
    return {path.encode(): member for path, member in found.items()}


def last_members(present: Mapping[bytes, bytes], mtime: int) -> dict[bytes, bytes]:
    """The tar members of :func:`additions`."""
    return {
        path.encode(): header(
            f"{path}/".encode() if kind == FOLDER else path.encode(),
            mode,
            mtime,
            kind,
            target=target.encode(),
        )
        for path, (kind, mode, target) in additions(present).items()
    }


def inspect_metadata(image: Image) -> bytes:
    """The JSON object from which ``apptainer inspect`` answers without starting a container."""
    scripts = _scripts(image)
    return canonical.compact(
        {
            "data": {
                "attributes": {
                    "deffile": definition(image),
                    "environment": {f"/{path}": scripts[path].rstrip("\n") for path in (VARIABLES, CUSTOM)},
                    "helpfile": help_text(image),
                    "labels": labels(image),
                    "runscript": scripts[RUNSCRIPT],
                    "startscript": scripts[STARTSCRIPT],
                }
            },
            "type": "container",
        }
    )


def sif_objects(image: Image, record: SifRecord) -> list[tuple[int, str, bytes]]:
    """Type, name and content of what stands in a SIF before its partition, as Apptainer orders them."""
    settings = image.configuration().get("config") or {}
    return [
        (sif.DEFINITION, "", definition(image).encode()),
        (sif.JSON, sif.METADATA, inspect_metadata(image)),
        (sif.JSON, sif.OCI_CONFIG, canonical.compact(settings)),
        (sif.JSON, sif.OUR_RECORD, record.as_bytes()),
    ]
