"""The file of a catalogue: its bytes, read piece by piece, and made of records.

The norm is ``specs/catalogue/v1``. Design goals of the format: to choose among ten thousand images, one small
piece is read; a person reads it with ``zstd -d``; the same records give the same bytes. The file is a row of
zstd frames: a header on one line, with an index of what selection asks for, by columns; then the records, one
a line, some hundred to a frame. Everything in the index follows from the records.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from afenv import canonical
from afenv.catalogue.needs_tree import LINE, NEEDS
from afenv.catalogue.record import STATES, ImageRecord
from afenv.catalogue.record_tree import check_record, check_version, dump_record, record_of_tree, record_tree
from afenv.catalogue.shape import Misshapen, Shape, choice, fields, integer, kind, listed, mapped, text
from afenv.digest import sha256_bytes
from afenv.errors import AfenvError

FORMAT_VERSION = 1
LARGEST = 64 << 20  # bytes of a file
LARGEST_FRAME = 64 << 20  # bytes of a frame, decompressed
BLOCK = 128  # records in a frame
LEVEL = 12  # of zstd
SKIPPABLE = 0x184D2A50  # begins a frame that decompressors skip (RFC 8878, 3.1.2)
NONE = -1  # in a column: not known, or none

MACHINE = ("architecture", "level", "level-of", "glibc", "kernel")
PLACE = ("cvmfs", "network", "jupyterhub", "packages")
NUMBERS = ("machine", "gpu", "place", "data", "carrier", "size", "unpacked", "layers", "state")
WORDS = ("name", "environment", "created")
_TABLES = ("machine", "gpu", "place", "data", "carrier")

_TIME = text("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", "a time")
_HEADER = fields(
    {
        "name": text(LINE, "one line of text", 200),
        "serial": integer,
        "count": integer,
        "frames": lambda value: None,
        "index": lambda value: None,
        "tables": lambda value: None,
    },
    {"removed": mapped(text(r"\S{1,600}", "a repository and a digest"), _TIME)},
    more=True,
)
_CARRIER = fields({}, {"forms": listed(choice("oci", "sif")), "compression": listed(choice("gzip", "zstd"))})


def _without(tree: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key not in names}


def _row(value: ImageRecord) -> dict[str, Any]:
    """What the index says of a record; the entries of tables are still whole."""
    tree = record_tree(value)
    needs = tree["needs"]
    place = {key: needs[key] for key in PLACE if key in needs}
    place["registry"] = value.needs.registry
    if value.needs.unpacked_at:
        place["unpacked-at"] = "/".join(value.needs.unpacked_at.split("/")[:3])
    known = (value.needs.size, value.needs.unpacked, value.needs.layers)
    size, unpacked, layers = (NONE if number is None else number for number in known)
    return {
        "name": value.name,
        "environment": value.environment,
        "created": value.origin.created or value.added,
        "machine": {key: needs[key] for key in MACHINE if key in needs},
        "gpu": needs.get("gpu"),
        "place": place,
        "data": needs.get("data"),
        "carrier": {"forms": list(value.needs.forms), "compression": list(value.needs.compression)},
        "size": size,
        "unpacked": unpacked,
        "layers": layers,
        "state": STATES.index(value.checked.state) if value.checked else NONE,
    }


def order(value: ImageRecord) -> tuple[str, ...]:
    """Where a record stands in the file."""
    return value.name, value.environment, value.key


def make_catalogue(
    name: str,
    records: Iterable[ImageRecord],
    *,
    serial: int = 1,
    removed: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Catalogue:
    """The catalogue of some records, each key once; ``removed`` are keys and when they were taken out."""
    import zstandard

    ordered = sorted(records, key=order)
    rows = [_row(one) for one in ordered]
    tables: dict[str, dict[bytes, int]] = {table: {} for table in _TABLES}
    for row in rows:
        for table, known in tables.items():
            entry = row[table]
            row[table] = NONE if entry is None else known.setdefault(canonical.compact(entry), len(known))
    pack = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True).compress
    lines = [dump_record(one) + b"\n" for one in ordered]
    frames = [pack(b"".join(lines[start : start + BLOCK])) for start in range(0, len(lines), BLOCK)]
    header: dict[str, Any] = {
        **(more or {}),
        "afenv-catalogue": FORMAT_VERSION,
        "name": name,
        "serial": serial,
        "count": len(rows),
        "frames": [len(frame) for frame in frames],
        "index": {column: [row[column] for row in rows] for column in (*WORDS, *NUMBERS)},
        "tables": {table: [json.loads(entry) for entry in known] for table, known in tables.items()},
        **({"removed": dict(removed)} if removed else {}),
    }
    return Catalogue(b"".join((pack(canonical.compact(header) + b"\n"), *frames)), name)


class Catalogue:
    """A catalogue as it was read: its header at once, records when they are asked for.

    E015 for a newer version, E622 for what is damaged or too large. ``place`` is what messages show.
    """

    def __init__(self, data: bytes, place: str) -> None:
        self.data = data
        self.place = place
        if len(data) > LARGEST:
            message = f"it has {len(data) >> 20} MiB, more than {LARGEST >> 20}"
            raise AfenvError("E622", message, place=place)
        first, length = self._first_frame(data)
        try:
            header = json.loads(first)
        except (ValueError, RecursionError):
            raise AfenvError("E622", "its first line is not JSON", place=place) from None
        check_version(header, "afenv-catalogue", FORMAT_VERSION, place)
        try:
            _HEADER(_without(header, "afenv-catalogue"))
            _check_index(header)
        except Misshapen as error:
            raise AfenvError("E622", error.message, place=place, path=error.path or None) from None
        starts = [length]
        for size in header["frames"]:
            starts.append(starts[-1] + size)
        self._starts = starts
        self.signature = self._last_frame()
        self._lines: dict[int, list[bytes]] = {}
        self.header: Mapping[str, Any] = header
        self.name: str = header["name"]
        self.serial: int = header["serial"]
        self.count: int = header["count"]
        self.removed: Mapping[str, str] = header.get("removed", {})
        self.index: Mapping[str, Sequence[Any]] = header["index"]
        self.tables: Mapping[str, Sequence[Any]] = header["tables"]

    @property
    def digest(self) -> str:
        """The digest of the file, with its signature."""
        return sha256_bytes(self.data)

    @property
    def signed(self) -> bytes:
        """The file without its signature: what is signed."""
        return self.data[: self._starts[-1]]

    def with_signature(self, bundle: bytes) -> Catalogue:
        """The file with a signature in the place of its own."""
        frame = SKIPPABLE.to_bytes(4, "little") + len(bundle).to_bytes(4, "little") + bundle
        return Catalogue(self.signed + frame, self.place)

    def _last_frame(self) -> bytes | None:
        """The signature, in a frame that programs skip which know zstd only; None if there is none."""
        rest = self.data[self._starts[-1] :]
        expected = self._starts[-1] + 8 + int.from_bytes(rest[4:8], "little") if rest else self._starts[-1]
        if len(self.data) != expected:
            message = f"it should have {expected} bytes and has {len(self.data)}"
            raise AfenvError("E622", message, place=self.place)
        if rest and int.from_bytes(rest[:4], "little") != SKIPPABLE:
            raise AfenvError("E622", "what follows its records is no signature", place=self.place)
        return rest[8:] or None

    @property
    def more(self) -> dict[str, Any]:
        """Keys of the header that this version does not know."""
        ours = ("afenv-catalogue", "name", "serial", "count", "frames", "index", "tables", "removed")
        return _without(self.header, *ours)

    def _first_frame(self, data: bytes) -> tuple[bytes, int]:
        found = self._unpack(data)
        return found[0], len(data) - len(found[1])

    def _unpack(self, data: bytes | memoryview) -> tuple[bytes, bytes]:
        """The first frame of some bytes, decompressed, and what follows it."""
        import zstandard

        message = "it is not compressed by zstd, or it is cut off"
        try:
            size = zstandard.frame_content_size(bytes(data[:18]))
            if not 0 <= size <= LARGEST_FRAME:
                message = f"a frame of it has more than {LARGEST_FRAME >> 20} MiB, or does not say how many"
                raise zstandard.ZstdError(message)
            unpacker = zstandard.ZstdDecompressor().decompressobj()
            content = unpacker.decompress(data)
            if len(content) == size and unpacker.eof:
                return content, unpacker.unused_data
        except zstandard.ZstdError:
            pass
        raise AfenvError("E622", message, place=self.place)

    def _block(self, number: int) -> list[bytes]:
        if number not in self._lines:
            part = self.data[self._starts[number] : self._starts[number + 1]]
            content, rest = self._unpack(part)
            lines = content.split(b"\n")
            wanted = min(BLOCK, self.count - number * BLOCK)
            if rest or lines.pop() != b"" or len(lines) != wanted:
                raise AfenvError(
                    "E622", f"frame {number + 1} does not hold {wanted} records", place=self.place
                )
            self._lines[number] = lines
        return self._lines[number]

    def line(self, row: int) -> bytes:
        """The text of a record."""
        return self._block(row // BLOCK)[row % BLOCK]

    def record(self, row: int) -> ImageRecord:
        """The record of a row; E622 if it is damaged, or the index says something else of it."""
        path = f"records[{row}]"
        try:
            tree = json.loads(self.line(row))
            check_version(tree, "afenv-record", 1, f"{self.place}, {path}")
            check_record(tree)
        except (ValueError, RecursionError):
            raise AfenvError("E622", "a record is not JSON", place=self.place, path=path) from None
        except Misshapen as error:
            inner = f"{path}.{error.path}" if error.path else path
            raise AfenvError("E622", error.message, place=self.place, path=inner) from None
        found = record_of_tree(tree)
        said = _row(found)
        for column in (*WORDS, *NUMBERS):
            entry = self.index[column][row]
            if column in self.tables:
                entry = None if entry == NONE else self.tables[column][entry]
            if entry != said[column]:
                message = f"its index has another {column}"
                raise AfenvError("E622", message, place=self.place, path=path)
        return found

    def records(self) -> Iterator[ImageRecord]:
        """All records, checked; E622 also if they are not in order or one stands twice."""
        last: tuple[str, ...] = ()
        seen = set()
        for row in range(self.count):
            found = self.record(row)
            if order(found) <= last or found.key in seen:
                message = "records are not in order, or one stands twice"
                raise AfenvError("E622", message, place=self.place, path=f"records[{row}]")
            last = order(found)
            seen.add(found.key)
            yield found


def _check_index(header: Mapping[str, Any]) -> None:
    count, frames, index, tables = (header[key] for key in ("count", "frames", "index", "tables"))
    if not _whole(frames, 0) or len(frames) != -(-count // BLOCK):
        raise Misshapen(f"expected the sizes of {-(-count // BLOCK)} frames", "frames")
    for name, value, keys in (("index", index, (*WORDS, *NUMBERS)), ("tables", tables, _TABLES)):
        if not isinstance(value, dict) or not value.keys() >= set(keys):
            raise Misshapen(f"expected an object with {', '.join(keys)}", name)
    for table in _TABLES:
        if not isinstance(tables[table], list):
            raise Misshapen(f"expected a list, found {kind(tables[table])}", f"tables.{table}")
    for column in (*WORDS, *NUMBERS):
        values = index[column]
        if not isinstance(values, list) or len(values) != count:
            raise Misshapen(f"expected a list of {count} entries", f"index.{column}")
        if column in WORDS and not set(map(type, values)) <= {str}:
            raise Misshapen("expected a list of text", f"index.{column}")
        if column in NUMBERS and not _whole(values, NONE):
            raise Misshapen("expected a list of whole numbers", f"index.{column}")
        most = {**{table: len(tables[table]) for table in _TABLES}, "state": len(STATES)}.get(column)
        if most is not None and max(values, default=NONE) >= most:
            raise Misshapen("a number leads nowhere", f"index.{column}")
        if column in ("machine", "place", "carrier") and min(values, default=0) < 0:
            raise Misshapen("a number leads nowhere", f"index.{column}")
    checks = {
        "machine": _part(MACHINE),
        "gpu": lambda one: NEEDS({"gpu": one}),
        "place": _part(PLACE, _PLACED),
        "data": lambda one: NEEDS({"data": one}),
        "carrier": _CARRIER,
    }
    for table, check in checks.items():
        for number, entry in enumerate(tables[table]):
            try:
                check(entry)
            except Misshapen as error:
                raise error.within(f"tables.{table}[{number}]") from None


def _whole(values: Any, least: int) -> bool:
    return (
        isinstance(values, list)
        and set(map(type, values)) <= {int}
        and min(values, default=0) >= least
        and max(values, default=0) < 1 << 53
    )


def _part(keys: Sequence[str], beside: Mapping[str, Shape] | None = None) -> Shape:
    """The shape of a part of needs."""
    beside = beside or {}

    def check(entry: Any) -> None:
        if not isinstance(entry, dict):
            raise Misshapen(f"expected an object, found {kind(entry)}")
        for key, value in entry.items():
            if key in beside:
                try:
                    beside[key](value)
                except Misshapen as error:
                    raise error.within(key) from None
            elif key not in keys:
                raise Misshapen(f"unknown key {key[:80]!r}", key[:80])
        NEEDS(_without(entry, *beside))

    return check


_PLACED: dict[str, Shape] = {
    "registry": text(r"[^\x00-\x20]+", "a registry"),
    "unpacked-at": text(r"/cvmfs/[^\x00-\x1f/]+", "a repository below /cvmfs"),
}
