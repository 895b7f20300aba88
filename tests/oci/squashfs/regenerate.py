"""Pack the tree of the tests anew: needs mksquashfs with -tar, and its zstd and xz compressors."""

import io
import subprocess
import tarfile
from pathlib import Path

MEMBERS = (
    ("folder", tarfile.DIRTYPE, 0o711, b"", "", {}),
    ("folder/small", tarfile.REGTYPE, 0o640, b"small\n", "", {"SCHILY.xattr.user.note": "a value"}),
    ("folder/same", tarfile.LNKTYPE, 0o640, b"", "folder/small", {}),
    ("empty", tarfile.REGTYPE, 0o600, b"", "", {}),
    ("large", tarfile.REGTYPE, 0o755, b"large " * 50_000, "", {}),
    ("zeros", tarfile.REGTYPE, 0o644, bytes(300_000), "", {}),
    ("link", tarfile.SYMTYPE, 0o777, b"", "../somewhere", {}),
    ("pipe", tarfile.FIFOTYPE, 0o644, b"", "", {}),
    ("null", tarfile.CHRTYPE, 0o666, b"", "", {}),
    ("disk", tarfile.BLKTYPE, 0o660, b"", "", {}),
    ("ü", tarfile.REGTYPE, 0o644, b"u", "", {}),
)


def tree() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for count, (name, kind, mode, content, target, headers) in enumerate(MEMBERS):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.linkname, member.size = kind, mode, target, len(content)
            member.uid, member.gid, member.mtime = count % 3 * 1000, count % 2, 1_000_000_000 + count
            member.devmajor, member.devminor = (8, 300) if name == "disk" else (1, 3)
            member.pax_headers = headers
            tar.addfile(member, io.BytesIO(content))
        for count in range(400):  # more than a block of metadata
            tar.addfile(tarfile.TarInfo(f"many/file-with-a-name-of-some-length-{count:03}"))
    return stream.getvalue()


TIMES = ("-all-time", "1000000000", "-mkfs-time", "1000000000")
OPTIONS = {
    "gzip": ("-comp", "gzip"),
    "xz": ("-comp", "xz"),
    "zstd": ("-comp", "zstd"),
    # tables in which it is not the compressor that finds damage, and small, as nothing is compressed
    "plain": ("-comp", "zstd", "-noI", "-noId", "-noX"),
}

if __name__ == "__main__":
    for name, options in OPTIONS.items():
        path = Path(__file__).with_name(f"{name}.squashfs")
        path.unlink(missing_ok=True)
        command = ["mksquashfs", "-", str(path), "-tar", "-quiet", "-no-progress", "-nopad", *TIMES, *options]
        subprocess.run([*command, "-root-mode", "755"], input=tree(), check=True)
