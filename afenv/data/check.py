"""Is data still there, and still the same: what storage states of it, or all bytes read again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal

from afenv.data.access import DataAccess
from afenv.data.parallel import for_each
from afenv.data.part import Incoming
from afenv.data.receive import receive
from afenv.documents.data import LockedData, LockedDataFile
from afenv.progress import Progress
from afenv.record import record, replace
from afenv.store.transport import SourceError, without_secrets

State = Literal["alive", "changed", "lost", "unreached"]
ORDER: tuple[State, ...] = ("alive", "changed", "unreached")
THREADS = 8


@record
class Replica:
    """One place of a file: what is wrong with it, or what was compared and is right."""

    uri: str
    state: State
    detail: str = ""
    compared: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "uri": without_secrets(self.uri) if "://" in self.uri else self.uri,
            "state": self.state,
            "detail": self.detail,
            "compared": list(self.compared),
        }


@record
class CheckedFile:
    """One file of data with its replicas."""

    name: str
    path: str
    replicas: tuple[Replica, ...]

    @property
    def state(self) -> State:
        """``alive`` if one replica is; else ``changed`` if one is; ``lost`` if all are gone."""
        states = {replica.state for replica in self.replicas}
        return next((state for state in ORDER if state in states), "lost")

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        replicas = [replica.as_json() for replica in self.replicas]
        return {"name": self.name, "path": self.path, "state": self.state, "replicas": replicas}


def check_data(
    wanted: Sequence[LockedData], access: DataAccess, *, deep: bool = False, quiet: bool = False
) -> list[CheckedFile]:
    """What became of every file. With ``deep`` all bytes of all replicas are read."""
    files = [(data.name, file) for data in wanted for file in data.files]
    found: dict[int, CheckedFile] = {}
    total = sum((file.size or 0) * len(file.uris) for _, file in files) if deep else len(files)
    with Progress("checking data", total, unit="B" if deep else "file", quiet=quiet) as progress:

        def work(position: int, stop: threading.Event) -> None:
            name, file = files[position]
            replicas = [
                _read(access, file, uri, progress, stop) if deep else _ask(access, file, uri, stop)
                for uri in access.replicas(file.uris)
            ]
            found[position] = CheckedFile(name=name, path=file.path, replicas=tuple(replicas))
            if not deep:
                progress.advance(1)

        for_each(range(len(files)), work, threads=4 if deep else THREADS)
    return [found[position] for position in range(len(files))]


def _ask(access: DataAccess, file: LockedDataFile, uri: str, stop: threading.Event) -> Replica:
    try:
        stated = access.look(uri, stop)
    except SourceError as error:
        return _failed(uri, error)
    if file.size is not None and stated.size not in (None, file.size):
        return Replica(uri=uri, state="changed", detail=f"expected {file.size} bytes, found {stated.size}")
    compared = ["size"] if file.size is not None and stated.size is not None else []
    for algorithm, digits in stated.checksums.items():
        expected = file.checksums.get(algorithm)
        if expected not in (None, digits):
            detail = f"expected {algorithm}:{expected}, found {algorithm}:{digits}"
            return Replica(uri=uri, state="changed", detail=detail)
        if expected is not None:
            compared.append(algorithm)
    return Replica(uri=uri, state="alive", compared=tuple(compared))


def _read(
    access: DataAccess, file: LockedDataFile, uri: str, progress: Progress, stop: threading.Event
) -> Replica:
    incoming = Incoming(file.checksums or ("sha256",), progress.advance)
    failures: list[tuple[str, SourceError]] = []
    try:
        came = receive(access, replace(file, uris=(uri,)), incoming, stop, failures, [uri])
    finally:
        incoming.close()
    if came is None:
        return _failed(uri, failures[0][1])
    compared = (["size"] if file.size is not None else []) + sorted(file.checksums)
    return Replica(uri=uri, state="alive", compared=tuple(compared))


def _failed(uri: str, error: SourceError) -> Replica:
    states: dict[str, State] = {"E103": "lost", "E641": "changed", "E302": "changed"}
    return Replica(uri=uri, state=states.get(error.code, "unreached"), detail=error.reason)
