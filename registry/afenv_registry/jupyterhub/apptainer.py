"""The command that runs a single-user server with Apptainer, for spawners that start processes or batch jobs.

The command is ``/bin/sh -c SCRIPT NAME``, to which a spawner adds the server's own arguments: the hub knows
neither the home folder nor the variables of the machine on which it will run. The options of Apptainer are
those of ``afenv run`` (:mod:`afenv.run.apptainer`): nothing of the host comes along but what is named here,
which is

- the user's home folder, which is ``HOME`` and the working directory;
- CVMFS where the image takes software from it; folders that the operator names;
- the variables that JupyterHub gives its servers. They hold the server's token, so they are handed over in
  the environment, where other users do not see them, and never as words of a command;
- the GPU, if there is to be one.

Sources: JupyterHub's reference, "Spawner.get_env"; batchspawner, ``batchspawner_singleuser_cmd``; Apptainer
user guide, "Environment and metadata".
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from afenv.errors import AfenvError
from afenv.run.apptainer import PASSED_ON, Apptainer, for_jobs, launch
from afenv.run.request import Mount, RunRequest, parse_bind

SERVER = ("jupyterhub-singleuser",)
HANDED_OVER = r"\|".join(
    (
        "JUPYTERHUB_[A-Z0-9_]*",
        "JUPYTER_[A-Z0-9_]*",
        "JPY_[A-Z0-9_]*",
        "MEM_LIMIT",
        "MEM_GUARANTEE",
        "CPU_LIMIT",
        "CPU_GUARANTEE",
    )
)
_HOME = "/afenv-home-folder"
_SCRATCH = "/afenv-scratch-folder"
_USER = "afenv-user-name"
_CHECK_HOME = (
    'case "$HOME" in /*[:,\\"]* | [!/]* | "") '
    'echo "afenv: the home folder $HOME cannot be shown in a container" >&2; exit 1;; esac'
)
_NO_SHELL = frozenset("\0\n")


def apptainer_command(
    image: Path | str,
    *,
    command: Sequence[str] = SERVER,
    config: Mapping[str, Any] | None = None,
    gpu: bool = False,
    cvmfs: bool = False,
    binds: Iterable[str] = (),
    variables: Mapping[str, str] | None = None,
    runtime: Apptainer | None = None,
) -> list[str]:
    """The words that run ``command`` in an image: a SIF, an unpacked folder such as one on CVMFS, or a URI.

    ``config`` is the image's own configuration, where it is at hand; what Apptainer finds in the image
    serves else. ``binds`` are ``SRC[:DST[:ro]]``, as ``afenv run --bind`` has them, and have to be there on
    every machine. E632 for an image that is neither a path from the root nor a URI, and for what a script
    cannot hold.
    """
    name = str(image)
    if not (name.startswith("/") or "://" in name) or any(letter in _NO_SHELL for letter in name):
        raise AfenvError("E632", f"{name!r} is neither an absolute path nor a URI such as docker://…")
    mounts = [_bind(text) for text in binds]
    if cvmfs and not any(mount.target == "/cvmfs" for mount in mounts):
        mounts.append(Mount(Path("/cvmfs"), "/cvmfs", read_only=True))
    request = RunRequest(
        command=tuple(command),
        workdir=Path(_HOME),
        uid=0,
        gid=0,
        env={"HOME": _HOME, "USER": _USER, "LOGNAME": _USER, **(variables or {})},
        mounts=tuple(mounts),
        gpu=gpu,
        entrypoint=False,
    )
    words = list(launch(runtime or for_jobs(), name, config or {}, request, _SCRATCH))[1:]  # after env
    return ["/bin/sh", "-c", _script(words), "afenv-singleuser"]


def shell_line(words: Sequence[str]) -> str:
    """Words as a spawner takes them that puts its command into a script (``batchspawner_singleuser_cmd``)."""
    return shlex.join(words)


def _bind(text: str) -> Mount:
    """A bind whose source is not looked for here: it is another machine's."""
    parts = text.split(":")
    source = PurePosixPath(parts[0])
    if not source.is_absolute() or ".." in source.parts:
        raise AfenvError("E632", f"{text!r} does not begin with an absolute path", place="binds")
    found = parse_bind(":".join(["/", *(parts[1:] if len(parts) > 1 else [parts[0]])]))
    return Mount(Path(parts[0]), found.target, read_only=found.read_only)


def _script(words: list[str]) -> str:
    """One line of shell: batch systems put it into files in which a line is a statement."""
    while words[0] == "-u":
        del words[:2]
    exports = []
    while "=" in words[0]:
        variable, _, value = words.pop(0).partition("=")
        exports.append(f"export {variable}={_placed(shlex.quote(value))}")
    prefix = exports[0].split()[1].partition("_")[0] if exports else "APPTAINERENV"
    run = _placed(shlex.join(words))
    hand_over = (
        f"for name in $(env | sed -n 's/^\\({HANDED_OVER}\\)=.*/\\1/p'); do "
        # Apptainer's shell reads values between double quotes
        f'export "{prefix}_$name=$(printenv "$name" | sed \'s/[\\\\$`]/\\\\&/g\')"; done'
    )
    return "; ".join(
        (
            _CHECK_HOME,
            f"unset {' '.join(PASSED_ON)}",
            "scratch=$(mktemp -d) || exit 1",
            *exports,
            hand_over,
            f'{run} "$@" & server=$!',
            # a spawner ends the shell: the server has to hear of it, and the scratch folder has to go
            "trap 'kill -TERM $server 2>/dev/null' TERM INT HUP",
            "while wait $server; status=$?; kill -0 $server 2>/dev/null; do :; done",
            # a signal may have ended the wait, and the server be gone since: its own status is still kept
            "wait $server 2>/dev/null; again=$?; [ $again = 127 ] || status=$again",
            'rm -rf "$scratch"; exit $status',
        )
    )


def _placed(text: str) -> str:
    """Placeholders, which no quoting changes, as variables of the shell."""
    return text.replace(_HOME, '"$HOME"').replace(_SCRATCH, '"$scratch"').replace(_USER, '"$USER"')
