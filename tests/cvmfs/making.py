"""Makes CVMFS repositories as the server's tools do, wrong ones too; and unpacks real ones.

``CvmfsMaker`` writes what a stratum serves: signed documents, catalogues, objects. Everything about it that
is a fact was checked against the repositories in ``data``.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import sqlite3
import tarfile
import zlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

DATA = Path(__file__).parent / "data"
NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)  # the clock of the tests
ALGORITHMS = ("sha1", "rmd160", "shake128")
NAME = "made.afenv.test"


def unpack_real(name: str, folder: Path) -> Path:
    """A repository that the server's tools made, unpacked into a folder; the file of its master key."""
    with tarfile.open(DATA / f"{name}.tar.xz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not in 3.11.2
        archive.extractall(folder)
    return DATA / f"{name}.pub"


def expected(name: str) -> dict[str, Any]:
    """What the real client showed of it."""
    found: dict[str, Any] = json.loads(lzma.decompress((DATA / f"{name}.json.xz").read_bytes()))
    return found


@cache
def _key(which: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


def digest(algorithm: str, data: bytes) -> str:
    """40 hexadecimal digits."""
    if algorithm == "shake128":
        return hashlib.shake_128(data).hexdigest(20)
    if algorithm == "sha1":
        return hashlib.sha1(data).hexdigest()
    from afenv.cvmfs.ripemd160 import Ripemd160

    try:
        return hashlib.new("ripemd160", data).hexdigest()
    except ValueError:
        made = Ripemd160()
        made.update(data)
        return made.hexdigest()


def _md5(path: str) -> tuple[int, int]:
    found = hashlib.md5(path.encode("utf-8", "surrogateescape")).digest()
    return tuple(int.from_bytes(found[i : i + 8], "little", signed=True) for i in (0, 8))  # type: ignore[return-value]


TABLES = """
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER,
 hardlinks INTEGER, hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER,
 name TEXT, symlink TEXT, uid INTEGER, gid INTEGER, xattr BLOB,
 CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB,
 CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER,
 CONSTRAINT pk_nested_catalogs PRIMARY KEY (path));
"""


class CvmfsMaker:
    """One repository in ``folder/NAME``. Revisions count up from 1.

    A tree maps paths (``/a/b``; folders come by themselves) to bytes, to text for a symbolic link's target,
    or to a tuple: ``("dir", mode)``, ``("hard", content, group)``, ``("mode", content, mode)``,
    ``("fifo",)``, ``("external", size)``.
    """

    def __init__(self, folder: Path, name: str = NAME, *, algorithm: str = "sha1", compressed: bool = True):
        self.name = name
        self.folder = folder / name
        self.algorithm = algorithm
        self.compressed = compressed
        self.revision = 0
        self.edit_history: Callable[[sqlite3.Connection], object] = lambda _: None
        self.tags: list[tuple[str, str, int, int]] = []
        self.chunk = 1 << 16  # bytes from which on files are in parts
        self.expiry = NOW + timedelta(days=30)
        self.time = int(NOW.timestamp()) - 3600
        self.mtime = 1_700_000_000
        self.roots: list[str] = []
        self.key = folder / f"{name}.pub"
        folder.mkdir(parents=True, exist_ok=True)
        self.key.write_bytes(
            _key("master")
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    @property
    def suffix(self) -> str:
        return "" if self.algorithm == "sha1" else f"-{self.algorithm}"

    def put(self, data: bytes, kind: str = "", *, compressed: bool = True) -> str:
        """Store an object; its digest without a suffix."""
        data = zlib.compress(data) if compressed else data
        found = digest(self.algorithm, data)
        path = self.object(found, kind)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return found

    def object(self, found: str, kind: str = "") -> Path:
        """Where an object is."""
        return self.folder / "data" / found[:2] / f"{found[2:]}{self.suffix}{kind}"

    def publish(
        self,
        tree: Mapping[str, Any],
        *,
        nested: tuple[str, ...] = (),
        tag: str | None = None,
        edit: Callable[[sqlite3.Connection, str], object] | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> str:
        """A new revision with these files; its root hash. ``edit`` may change each catalogue first."""
        self.revision += 1
        folders: dict[str, Any] = {"": ("dir", 0o755)}
        for path in sorted(tree):
            parts = path.split("/")[1:-1]
            for count in range(1, len(parts) + 1):
                folders.setdefault("/" + "/".join(parts[:count]), ("dir", 0o755))
        whole = folders | dict(tree)
        self._sizes = dict(sizes or {})
        root, size = self._catalogue("", whole, sorted(nested), edit)
        self.roots.append(root)
        if tag is not None:
            self.tags.append((tag, root, self.revision, self.time + self.revision))
        self.sign(root, size)
        return root + self.suffix

    def _catalogue(
        self,
        prefix: str,
        whole: Mapping[str, Any],
        nested: list[str],
        edit: Callable[[sqlite3.Connection, str], object] | None,
    ) -> tuple[str, int]:
        path = self.folder.parent / "catalogue.db"
        path.unlink(missing_ok=True)
        database = sqlite3.connect(path)
        database.executescript(TABLES)
        inner = [one for one in nested if one.startswith(prefix + "/")]
        direct = [one for one in inner if not any(one.startswith(o + "/") for o in inner if o != one)]
        for place, value in whole.items():
            if place != prefix and not place.startswith(prefix + "/"):
                continue
            if any(place.startswith(one + "/") for one in direct):
                continue
            self._row(database, place, value, mount=place in direct, root=place == prefix and prefix != "")
        values = {"schema": "2.5", "schema_revision": "7", "revision": str(self.revision)}
        values["last_modified"] = str(self.time)
        if prefix:
            values["root_prefix"] = prefix
        database.executemany("INSERT INTO properties VALUES (?, ?)", values.items())
        database.commit()
        content = path.read_bytes()
        database.close()
        rows = []
        for one in direct:
            found, size = self._catalogue(one, whole, nested, edit)
            rows.append((one, found + self.suffix, size))
        path.write_bytes(content)
        database = sqlite3.connect(path)
        database.executemany("INSERT INTO nested_catalogs VALUES (?, ?, ?)", rows)
        if edit is not None:
            edit(database, prefix)
        database.commit()
        database.close()
        data = path.read_bytes()
        path.unlink()
        return self.put(data, "C"), self._sizes.get(prefix, len(data))

    def _row(self, database: sqlite3.Connection, path: str, value: Any, *, mount: bool, root: bool) -> None:
        flag = ALGORITHMS.index(self.algorithm) << 8 | (0 if self.compressed else 1 << 11)
        name = path.rpartition("/")[2]
        hardlinks, found, size, mode, target = 1, b"", 0, 0o100644, ""
        if isinstance(value, str):
            flags, mode, target, size = 12, 0o120777, value, len(value)
        elif isinstance(value, tuple) and value[0] == "dir":
            flags, mode, size = 1 | (2 if mount else 0) | (32 if root else 0), 0o040000 | value[1], 4096
        elif isinstance(value, tuple) and value[0] == "fifo":
            flags, mode = 4 | 16, 0o010644
        elif isinstance(value, tuple) and value[0] == "external":
            flags, size, found = 4 | 128 | flag, value[1], bytes(20)
        else:
            content = value
            if isinstance(value, tuple):
                content = value[1]
                if value[0] == "hard":
                    hardlinks = value[2] << 32 | 2
                else:
                    mode = 0o100000 | value[2]
            flags, size = 4 | flag, len(content)
            if size > self.chunk:
                flags |= 64
                for start in range(0, size, self.chunk):
                    part = content[start : start + self.chunk]
                    one = bytes.fromhex(self.put(part, "P", compressed=self.compressed))
                    database.execute(
                        "INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", (*_md5(path), start, len(part), one)
                    )
            else:
                found = bytes.fromhex(self.put(content, compressed=self.compressed))
        parent = _md5(path.rpartition("/")[0]) if path else (0, 0)
        row = (
            *_md5(path),
            *parent,
            hardlinks,
            found,
            size,
            mode,
            self.mtime,
            None,
            flags,
            name,
            target,
            0,
            0,
            None,
        )
        database.execute(f"INSERT INTO catalog VALUES ({', '.join('?' * len(row))})", row)

    def history(self) -> str:
        """Store the tag history; its digest."""
        path = self.folder.parent / "history.db"
        path.unlink(missing_ok=True)
        database = sqlite3.connect(path)
        database.execute(
            "CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, "
            "description TEXT, size INTEGER, branch TEXT)"
        )
        for name, root, revision, time in self.tags:
            database.execute(
                "INSERT INTO tags VALUES (?, ?, ?, ?, 0, '', 0, '')",
                (name, root + self.suffix, revision, time),
            )
        self.edit_history(database)
        database.commit()
        database.close()
        data = path.read_bytes()
        path.unlink()
        return self.put(data, "H")

    def sign(
        self,
        root: str,
        size: int,
        *,
        signer: str = "release",
        certificate: str = "release",
        name: str | None = None,
    ) -> None:
        """Write the whitelist and the manifest."""
        end = NOW + timedelta(days=365)
        pem = self.certificate(certificate, end)
        stored = self.put(pem, "X")
        lines = [f"C{root}{self.suffix}", f"B{size}", "Rd41d8cd98f00b204e9800998ecf8427e", "D240"]
        lines += [f"S{self.revision}", "Gno", "Ano", f"N{name or self.name}", f"X{stored}{self.suffix}"]
        lines += [f"H{self.history()}{self.suffix}", f"T{self.time + self.revision}"]
        text = "".join(f"{line}\n" for line in lines).encode()
        letter = (digest(self.algorithm, text) + self.suffix).encode()
        signature = _key(signer).sign(letter, padding.PKCS1v15(), hashes.SHA1())
        (self.folder / ".cvmfspublished").write_bytes(text + b"--\n" + letter + b"\n" + signature)
        self.whitelist()

    def certificate(self, which: str, end: datetime) -> bytes:
        """A certificate in PEM."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{self.name} {which}")])
        made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject)
        made = made.public_key(_key(which).public_key()).serial_number(1)
        made = made.not_valid_before(NOW - timedelta(days=365)).not_valid_after(end)
        signed = made.sign(_key(which), hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def whitelist(self, *, signer: str = "master", allowed: str = "release", name: str | None = None) -> None:
        """Write a whitelist that allows one certificate."""
        certificate = x509.load_pem_x509_certificate(
            self.certificate(allowed, NOW + timedelta(days=365))
        ).public_bytes(serialization.Encoding.DER)
        found = digest(self.algorithm, certificate).upper()
        printed = ":".join(found[i : i + 2] for i in range(0, 40, 2)) + self.suffix.upper()
        lines = [f"{NOW:%Y%m%d%H%M%S}", f"E{self.expiry:%Y%m%d%H%M%S}", f"N{name or self.name}", printed]
        text = "".join(f"{line}\n" for line in lines).encode()
        letter = (digest(self.algorithm, text) + self.suffix).encode()
        # the digest itself is padded and signed, not a digest of it
        key = _key(signer).private_numbers()
        size = _key(signer).key_size // 8
        padded = b"\0\1" + b"\xff" * (size - len(letter) - 3) + b"\0" + letter
        n, d = key.public_numbers.n, key.d
        signature = pow(int.from_bytes(padded), d, n).to_bytes(size)
        (self.folder / ".cvmfswhitelist").write_bytes(text + b"--\n" + letter + b"\n" + signature)
