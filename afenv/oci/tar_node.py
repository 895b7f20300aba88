"""Members of a tar as things with their attributes, for those who write them anew in another form.

Passing members on as their raw blocks (:mod:`afenv.oci.tar_stream`) is faster; a node is for what changes
paths, modes or owners on the way, or makes files of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from afenv.errors import AfenvError
from afenv.layers.tar_header import FILE, FOLDER, HARD_LINK, SYMBOLIC_LINK, padding
from afenv.oci.tar_stream import (
    FILES,
    GNU_SPARSE,
    Piece,
    TarMember,
    field_text,
    number,
    owners,
    pax_number,
)

DEVICES = frozenset((b"3", b"4"))
PIPE = b"6"
_XATTR = b"SCHILY.xattr."
_SPARSE = b"GNU.sparse."
_BLOCK = 512


@dataclass(slots=True)
class Node:
    """One thing of a tree: a file, folder, link, device or pipe (``kind`` is tar's type flag).

    ``path`` is relative, ``target`` that of a link (of a hard link: a path of the same tree). ``content``
    is read once, before the next node is asked for, and ends in the padding of a tar. Owners, ``mode``
    and ``mtime`` (seconds since 1970) are as in the tar; ``attributes`` tells that it has extended ones.
    """

    path: bytes
    kind: bytes
    mode: int
    mtime: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    target: bytes = b""
    attributes: bool = False
    content: Iterator[Piece] = field(default_factory=lambda: iter(()), repr=False)

    def data(self) -> Iterator[Piece]:
        """The content without the padding."""
        left = self.size
        for piece in self.content:
            if left:
                yield piece[:left]
                left -= min(left, len(piece))


def file_node(path: bytes, data: bytes, mtime: int, mode: int = 0o644) -> Node:
    """A small file."""
    content = iter((memoryview(data + padding(len(data))),))
    return Node(path=path, kind=FILE, mode=mode, mtime=mtime, size=len(data), content=content)


def folder_node(path: bytes, mtime: int, mode: int = 0o755) -> Node:
    """A folder."""
    return Node(path=path, kind=FOLDER, mode=mode, mtime=mtime)


def link_node(path: bytes, target: bytes, mtime: int) -> Node:
    """A symbolic link."""
    return Node(path=path, kind=SYMBOLIC_LINK, mode=0o777, mtime=mtime, target=target)


def node_of(member: TarMember) -> Node:
    """The node of a member; E510 for numbers that are none and for sparse files, whose content is not all
    there."""
    head, records = bytes(member.raw[-1]), member.records
    if member.kind == GNU_SPARSE or any(key.startswith(_SPARSE) for key in records):
        raise AfenvError("E510", f"{member.path.decode(errors='replace')} is a sparse file in GNU's form")
    kind = FILE if member.kind in FILES else member.kind
    link = records.get(b"linkpath") or field_text(head[157:257])
    uid, gid = owners(head, records)
    return Node(
        path=member.path,
        kind=kind,
        mode=number(head[100:108]) & 0o7777,
        mtime=max(0, pax_number(records, b"mtime", number(head[136:148]))),
        uid=uid,
        gid=gid,
        size=pax_number(records, b"size", number(head[124:136])) if kind == FILE else 0,
        target=member.target if kind == HARD_LINK else link,
        attributes=any(key.startswith(_XATTR) for key in records),
        content=_content(member),
    )


def _content(member: TarMember) -> Iterator[Piece]:
    """The content, not asked for before it is read: what nobody reads, the stream skips itself."""
    yield from member.content()


def tar_pieces(node: Node) -> Iterator[Piece]:
    """The node as a member in GNU's form, which has names as their bytes.

    The names in pax records are text; readers that cannot show it in their locale give up (libarchive).
    """
    name = node.path + b"/" if node.kind == FOLDER else node.path
    if len(node.target) > 100:
        yield _long(b"K", node.target)
    if len(name) > 100:
        yield _long(b"L", name)
    yield memoryview(_header(node, name))
    yield from node.content


def _long(kind: bytes, text: bytes) -> Piece:
    body = text + b"\0"
    node = Node(path=b"././@LongLink", kind=kind, mode=0, mtime=0, size=len(body))
    return memoryview(_header(node, node.path) + body + padding(len(body)))


def _header(node: Node, name: bytes) -> bytes:
    head = bytearray(_BLOCK)
    head[: min(len(name), 100)] = name[:100]
    head[100:108] = b"%07o\0" % node.mode
    head[108:116] = _octal(node.uid, 8)
    head[116:124] = _octal(node.gid, 8)
    head[124:136] = _octal(node.size, 12)
    head[136:148] = _octal(node.mtime, 12)
    head[148:156] = b" " * 8
    head[156:157] = node.kind
    head[157 : 157 + min(len(node.target), 100)] = node.target[:100]
    head[257:265] = b"ustar  \0"
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def _octal(value: int, width: int) -> bytes:
    """Octal digits and a NUL, or GNU's binary form where they do not suffice."""
    if value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return b"\x80" + value.to_bytes(width - 1)
