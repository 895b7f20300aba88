"""Where a hub's catalogue comes from: asked again now and then, and never in the way of the hub.

A hub starts, and shows its forms, whether the registry answers or not. A catalogue is loaded in a thread of
its own; what was loaded last is kept in a file and used until there is something newer. What went wrong is
logged and is there for whoever has to tell a user why there is nothing to choose.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from afenv.catalogue.file import Catalogue
from afenv.errors import AfenvError

REFRESH = 600.0  # seconds after which a catalogue is asked for again
RETRY = 60.0  # seconds after a failure
PATIENCE = 15.0  # seconds that the first user waits for it, where nothing is kept

_log = logging.getLogger(__name__)


class CatalogueSource:
    """A catalogue, as new as can be had.

    ``load`` gives its bytes, and raises an :class:`AfenvError` if they cannot be had or trusted; ``kept``
    is the file with what was loaded last. :meth:`current` raises nothing.
    """

    def __init__(
        self,
        load: Callable[[], bytes],
        place: str,
        kept: Path,
        *,
        check: Callable[[Catalogue], None] = lambda found: None,
        refresh: float = REFRESH,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = place
        self.problem: AfenvError | None = None
        self._load = load
        self._kept = kept
        self._check = check
        self._refresh = refresh
        self._patience = patience
        self._clock = clock
        self._due = clock()
        self._lock = threading.Lock()
        self._loading: threading.Thread | None = None
        self._catalogue = self._read_kept()
        self._start()

    def current(self, *, wait: bool = True) -> Catalogue | None:
        """The newest catalogue that was had; None if there was none yet.

        Where nothing is kept, the first one is waited for, unless the caller cannot ``wait``.
        """
        thread = self._start()
        if wait and self._catalogue is None and thread is not None:
            thread.join(self._patience)
        return self._catalogue

    def wait(self) -> None:
        """Wait for the loading that is under way."""
        thread = self._loading
        if thread is not None:
            thread.join()

    def _start(self) -> threading.Thread | None:
        with self._lock:
            if self._loading is not None and self._loading.is_alive():
                return self._loading
            if self._clock() < self._due:
                return None
            self._due = self._clock() + self._refresh
            self._loading = threading.Thread(target=self._run, name="afenv catalogue", daemon=True)
            self._loading.start()
            return self._loading

    def _run(self) -> None:
        try:
            data = self._load()
            found = Catalogue(data, self.place)
        except AfenvError as error:
            self._failed(error)
            return
        except Exception as error:  # noqa: BLE001 -- a thread of a hub: whatever it is, the hub goes on
            self._failed(AfenvError("E900", f"{type(error).__name__}: {error}", place=self.place))
            return
        if self._catalogue is not None and found.digest == self._catalogue.digest:
            self.problem = None
            return
        self._catalogue = found
        self.problem = None
        _log.info("catalogue %s: %d images, serial %d", self.place, found.count, found.serial)
        self._keep(data)

    def _failed(self, error: AfenvError) -> None:
        self.problem = error
        self._due = min(self._due, self._clock() + RETRY)
        used = "what was loaded last is used" if self._catalogue is not None else "no image can be offered"
        _log.warning("catalogue %s: %s; %s", self.place, error.problems[0].render(), used)

    def _read_kept(self) -> Catalogue | None:
        try:
            found = Catalogue(self._kept.read_bytes(), str(self._kept))
            self._check(found)
            return found
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("%s cannot be read: %s", self._kept, error.strerror)
        except AfenvError as error:
            _log.warning("what was kept of the catalogue is not used: %s", error.problems[0].render())
        return None

    def _keep(self, data: bytes) -> None:
        """Replace the file at once; without it the hub goes on, and says so."""
        try:
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=self._kept.parent, prefix=f".{self._kept.name}.")
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self._kept)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            _log.warning("%s cannot be written: %s", self._kept, error.strerror)


def catalogue_source(
    place: str,
    *,
    trust: Sequence[Path | str],
    folder: Path | str,
    refresh: float = REFRESH,
    patience: float = PATIENCE,
) -> CatalogueSource:
    """The catalogue in a repository of a registry, or in a file, whose signature is checked each time.

    ``trust`` are files with public keys, ``folder`` is where the hub keeps what it loaded. E001 and E610 for
    a key that cannot be read, E620 for a place that is none, E632 without a key.
    """
    from afenv.attest.keys import load_public
    from afenv.catalogue.signed import check_signature, read_trusted
    from afenv.catalogue.sources import find_place, open_catalogue
    from afenv.store.content import ContentStore

    keys = read_trusted([Path(path) for path in trust])
    for key in keys:
        load_public(key.pem, place=key.place)
    if not keys:
        raise AfenvError("E632", "nothing says whose signature on the catalogue is trusted", place="trust")
    where = find_place(place, Path.cwd())
    kept = Path(folder).absolute()
    store = ContentStore(kept / "store")

    def load() -> bytes:
        opened = open_catalogue(where, keys, store)
        for remark in opened.remarks:
            _log.warning("%s", remark)
        return opened.catalogue.data

    def check(found: Catalogue) -> None:
        check_signature(found, keys)

    return CatalogueSource(
        load, str(where), kept / "catalogue.zst", check=check, refresh=refresh, patience=patience
    )
