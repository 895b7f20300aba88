"""Sizes of wheels that an index or a lock file does not tell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from afenv.errors import AfenvError
from afenv.resolve.pypi_explain import without_credentials
from afenv.resolve.pypi_pylock import ChosenWheel
from afenv.settings import Settings
from afenv.store.content import ContentStore
from afenv.store.transport import CONNECTIONS, Patience, SourceError, Transport

_KEY = "pypi-size"


def sizes_of(wheels: Sequence[ChosenWheel], store: ContentStore, settings: Settings) -> tuple[int, ...]:
    """The size in bytes of each wheel, in order.

    Taken from the record, else from the content store, else from what was learnt before, else from the
    server's answer to a request for the first byte. E103, E201, E202 as for downloads; E203 offline.
    """
    known: list[int | None] = [_known(wheel, store) for wheel in wheels]
    missing = [wheel for wheel, size in zip(wheels, known, strict=True) if size is None]
    if not missing:
        return tuple(size for size in known if size is not None)
    if settings.offline:
        raise AfenvError(
            "E203", "the size is not known, and connections are not allowed", place=missing[0].url
        )
    transport = Transport(Patience())
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        asked = pool.map(lambda wheel: _ask(wheel, transport, settings), missing)
        answers = iter(list(asked))
    result = []
    for wheel, size in zip(wheels, known, strict=True):
        if size is None:
            size = next(answers)
            store.save_key(_KEY, f"sha256:{wheel.sha256}", {"size": size})
        result.append(size)
    return tuple(result)


def _known(wheel: ChosenWheel, store: ContentStore) -> int | None:
    if wheel.size is not None:
        return wheel.size
    digest = f"sha256:{wheel.sha256}"
    try:
        return store.path(digest).stat().st_size
    except FileNotFoundError:
        pass
    match store.load_key(_KEY, digest):
        case {"size": int(size)}:
            return size
    return None


def _ask(wheel: ChosenWheel, transport: Transport, settings: Settings) -> int:
    url = settings.rewrite(wheel.url)
    patience = Patience()
    for attempt in range(1, patience.attempts + 1):
        try:
            with transport.open(url, {"Range": "bytes=0-0"}) as answer:
                size = answer.range[1] if answer.range else answer.length
            if size is None:
                raise SourceError("E202", "the server does not tell the size of the file")
            return size
        except SourceError as error:
            if not error.again or attempt == patience.attempts:
                message = f"asked for the size: {error.reason}"
                raise AfenvError(error.code, message, place=without_credentials(url)) from None
            time.sleep(patience.pause(attempt, error.pause))
    raise AssertionError
