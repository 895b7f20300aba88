"""``afenv submit BAG``: what is sent is worked out first, in whole; then it is sent, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from afenv.archive.fixity import read_small
from afenv.archive.parts import SUFFIX
from afenv.errors import AfenvError
from afenv.progress import Progress
from afenv.record import record
from afenv.store.transport import Patience
from afenv.submit.cap import URL as CAP
from afenv.submit.cap import CapDeposit, deposit_document
from afenv.submit.connection import Connection, check_url
from afenv.submit.description import Description, bag_identity, read_description
from afenv.submit.files import Sent, bag_files, check_zenodo, digested
from afenv.submit.invenio import MULTIPART_FROM, PART_SIZE, InvenioRecord
from afenv.submit.invenio_metadata import draft_document
from afenv.submit.state import State, state_path
from afenv.submit.tokens import find_token
from afenv.workflow.archive_bag import open_archive

ZENODO = "https://zenodo.org"
ZENODO_HOSTS = ("zenodo.org", "www.zenodo.org", "sandbox.zenodo.org")
TAG_MANIFEST = "tagmanifest-sha256.txt"


@record
class SubmitOptions:
    """What is asked for: ``to`` are the words of ``--to``; ``kind`` is the type of an analysis at CAP.

    ``multipart_from`` and ``part_size`` are in bytes; ``patience`` is with the repository.
    """

    to: tuple[str, ...]
    dry_run: bool = False
    publish: bool = False
    restricted: bool = False
    kind: str | None = None
    multipart_from: int = MULTIPART_FROM
    part_size: int = PART_SIZE
    patience: Patience | None = None


@record
class Submission:
    """How far it is: ``step`` is dry-run, draft, published or pushed; ``files`` are (name, size, md5)."""

    target: str
    step: str
    files: tuple[tuple[str, int, str], ...]
    sent: tuple[str, ...] = ()
    record: str | None = None
    url: str | None = None
    doi: str | None = None
    state: str | None = None
    metadata: Any = None
    notes: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that ``--json`` and ``--dry-run`` print."""
        return {
            "target": self.target,
            "step": self.step,
            "record": self.record,
            "url": self.url,
            "doi": self.doi,
            "state": self.state,
            "sent": list(self.sent),
            "files": [{"name": name, "size": size, "md5": md5} for name, size, md5 in self.files],
            "metadata": self.metadata,
            "notes": list(self.notes),
        }


@record
class _Target:
    """Where to: ``kind`` is invenio, cap or registry; ``url`` a service's URL or a registry's reference."""

    kind: str
    url: str

    @property
    def host(self) -> str:
        """The host, with its port if it names one."""
        return urlsplit(self.url).netloc

    @property
    def zenodo(self) -> bool:
        """Whether it is Zenodo, with its limits."""
        return self.kind == "invenio" and urlsplit(self.url).hostname in ZENODO_HOSTS


@record
class _Prepared:
    """A bag that can be sent: its files are not read yet."""

    described: Description
    files: tuple[Sent, ...]
    limited: tuple[str, ...]


def submit(bag: Path, options: SubmitOptions, *, quiet: bool = False) -> Submission:
    """Send a bag, or go on with that; E740 to E749.

    Also E720 to E730 of a bag that is no bag, or whose parts are missing or others.
    """
    target = _target(options.to)
    prepared = _prepare(bag, target)
    document = _document(prepared.described, target, options)
    notes = _notes(prepared, options)
    if options.dry_run:
        files = _read(prepared.files, quiet=quiet)
        return Submission(
            target=target.url, step="dry-run", files=_shown(files), metadata=document, notes=notes
        )
    if target.kind == "registry":
        return _push(prepared, target, notes, quiet=quiet)
    names = {"cap": ("CAP_ACCESS_TOKEN",), "invenio": ("ZENODO_TOKEN",) if target.zenodo else ()}
    token = find_token(target.host, names[target.kind])
    name = bag.with_name(bag.name.removesuffix(SUFFIX))
    state = State(state_path(name, target.host), target.url, prepared.described.identity).load()
    files = _read(prepared.files, quiet=quiet)
    connection = Connection(target.url, token, patience=options.patience)
    total = sum(file.size for file in files)
    with Progress("send", total, quiet=quiet) as progress:
        if target.kind == "cap":
            sent = _to_cap(connection, state, document, files, options, progress)
        else:
            sent = _to_invenio(connection, state, prepared.described, files, target, options, progress)
    return Submission(
        target=target.url,
        step=str(state["step"]),
        files=_shown(files),
        sent=tuple(sent),
        record=state["record"],
        url=state["url"],
        doi=state["doi"],
        state=str(state.path),
        notes=notes,
    )


def _target(words: Sequence[str]) -> _Target:
    first, rest = words[0], words[1:]
    if first == "zenodo" and not rest:
        return _Target(kind="invenio", url=ZENODO)
    if first == "invenio" and len(rest) == 1:
        return _Target(kind="invenio", url=check_url(rest[0]))
    if first == "cap" and len(rest) <= 1:
        return _Target(kind="cap", url=check_url(rest[0] if rest else CAP))
    if len(words) == 1 and "/" in first and "://" not in first:
        return _Target(kind="registry", url=first)
    raise AfenvError("E747", f"{' '.join(words)!r} is none of the places that are known", place="--to")


def _prepare(bag: Path, target: _Target) -> _Prepared:
    files = bag_files(bag)
    if target.zenodo:
        check_zenodo(files, str(bag))
    with open_archive(bag) as opened:
        tags = read_small(opened.source, TAG_MANIFEST)
        described = read_description(opened.crate(), bag_identity(tags), opened.place)
        restricted = () if opened.index.left_out else opened.index.restricted
        limited = tuple(one.name for one in restricted)
    return _Prepared(described=described, files=files, limited=limited)


def _document(described: Description, target: _Target, options: SubmitOptions) -> Any:
    if target.kind == "registry":
        return _annotations(described)
    if target.kind == "cap":
        if not options.kind:
            raise AfenvError(
                "E742",
                "the type of the analysis is not known",
                place="--type",
                remedy="Give one that your account may use, such as --type cms-analysis.",
            )
        return deposit_document(described, options.kind)
    return draft_document(described, publisher=_publisher(target), restricted=options.restricted)


def _publisher(target: _Target) -> str:
    return "Zenodo" if target.zenodo else str(urlsplit(target.url).hostname)


def _notes(prepared: _Prepared, options: SubmitOptions) -> tuple[str, ...]:
    """What the user should know before this is public; E743 if it may not be."""
    notes = []
    if prepared.limited:
        text = f"these may not be passed on freely: {', '.join(prepared.limited)}"
        if options.publish and not options.restricted and not options.dry_run:
            raise AfenvError("E743", text)
        notes.append(text)
    if not prepared.described.license:
        notes.append("the manifest states no licence")
    return tuple(notes)


def _read(files: Sequence[Sent], *, quiet: bool) -> tuple[Sent, ...]:
    with Progress("read", sum(file.size for file in files), quiet=quiet) as progress:
        return tuple(digested(file, progress) for file in files)


def _shown(files: Sequence[Sent]) -> tuple[tuple[str, int, str], ...]:
    return tuple((file.name, file.size, file.md5) for file in files)


def _to_invenio(
    connection: Connection,
    state: State,
    described: Description,
    files: Sequence[Sent],
    target: _Target,
    options: SubmitOptions,
    progress: Progress,
) -> list[str]:
    """Draft, DOI, metadata with the DOI, files, and if it is asked for, publishing."""
    server = InvenioRecord(
        connection, state, multipart_from=options.multipart_from, part_size=options.part_size
    )
    if server.is_published():
        return []
    publisher = _publisher(target)
    document = draft_document(described, publisher=publisher, restricted=options.restricted)
    server.ensure_draft(document, described.identity)
    doi = server.ensure_doi() or ""
    server.update(draft_document(described, publisher=publisher, restricted=options.restricted, doi=doi))
    sent = server.ensure_files(files, progress)
    if options.publish:
        server.publish()
    return sent


def _to_cap(
    connection: Connection,
    state: State,
    document: Any,
    files: Sequence[Sent],
    options: SubmitOptions,
    progress: Progress,
) -> list[str]:
    server = CapDeposit(connection, state)
    server.ensure_draft(document)
    if state["step"] == "published":
        return []
    sent = server.ensure_files(files, progress)
    if options.publish:
        server.publish()
    return sent


def _annotations(described: Description) -> dict[str, str]:
    from afenv.oci import media

    value = {
        "title": described.title,
        "version": described.version,
        "licenses": described.license,
        "authors": ", ".join(one.name for one in described.authors),
        "created": f"{described.date}T00:00:00Z",
    }
    return {f"{media.OCI_PREFIX}{key}": text for key, text in sorted(value.items()) if text}


def _push(prepared: _Prepared, target: _Target, notes: tuple[str, ...], *, quiet: bool) -> Submission:
    """Registries have no drafts: what is pushed is there. Blobs that are there are not sent again."""
    from afenv.oci.registries import find_registry
    from afenv.submit.artifact import bag_graph

    files = _read(prepared.files, quiet=quiet)
    graph, blobs = bag_graph(files, _annotations(prepared.described))
    digest = find_registry().push_graph(graph, blobs, target.url, quiet=quiet)
    return Submission(
        target=target.url, step="pushed", files=_shown(files), record=digest, url=target.url, notes=notes
    )
