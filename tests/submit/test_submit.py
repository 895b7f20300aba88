"""``afenv submit`` to InvenioRDM: the whole way, each step failing in turn, and what is never told."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afenv.cli import main
from afenv.errors import AfenvError
from afenv.store.transport import Patience
from afenv.workflow.submit import Submission, SubmitOptions, submit

from .bags import METADATA, make_bag
from .server import TOKEN, CapServer, InvenioServer, Listener

ONCE = Patience(connect=20, stall=20, attempts=1, first_pause=0, longest_wait=0)
OFTEN = Patience(connect=20, stall=20, attempts=4, first_pause=0, longest_wait=0)


def options(server: InvenioServer | CapServer, **more: Any) -> SubmitOptions:
    if isinstance(server, CapServer):
        return SubmitOptions(to=("cap", server.url), kind="cms-analysis", patience=ONCE, **more)
    return SubmitOptions(
        **{"to": ("invenio", server.url), "patience": ONCE, "multipart_from": 5000, "part_size": 4000, **more}
    )


def state_of(bag: Path) -> Any:
    (path,) = bag.parent.glob("*.submission-*.json")
    return json.loads(path.read_bytes())


def failing(action: Callable[[], Submission]) -> str:
    """The code of the error, or an empty text if it went well."""
    try:
        action()
    except AfenvError as error:
        return error.code
    return ""


def test_a_draft_with_its_doi_its_files_and_metadata(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    done = submit(bag, options(invenio), quiet=True)
    (record,) = invenio.records.values()
    assert (done.step, done.record, done.doi) == ("draft", record["id"], f"10.5072/{record['id']}")
    assert not record["is_published"]
    assert record["pids"]["doi"]["identifier"] == done.doi
    assert f"https://doi.org/{done.doi}" in record["metadata"]["description"]
    assert invenio.contents[record["id"], "bag.zip"] == bag.read_bytes()
    state = state_of(bag)
    assert state["doi"] == done.doi and state["record"] == record["id"] and state["url"] == done.url


def test_the_doi_is_written_down_before_anything_is_published(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    submit(bag, options(invenio), quiet=True)
    number = len(invenio.log) + 8
    invenio.faults = dict.fromkeys(range(number, number + 50), "drop")
    invenio.faults = {}
    done = submit(bag, options(invenio, publish=True), quiet=True)
    paths = [path for _, path in invenio.log]
    assert paths.index(f"/api/records/{done.record}/draft/pids/doi") < paths.index(
        f"/api/records/{done.record}/draft/actions/publish"
    )
    (record,) = invenio.records.values()
    assert record["is_published"] and done.step == "published" and done.sent == ()
    before = len(invenio.log)
    again = submit(bag, options(invenio, publish=True), quiet=True)
    assert again.step == "published" and again.doi == done.doi
    assert len(invenio.log) == before + 1  # it asked, and did nothing


def test_parts_are_sent_with_their_index(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip", parts=3000)
    done = submit(bag, options(invenio, publish=True), quiet=True)
    names = sorted(one.name for one in tmp_path.glob("bag.zip.*") if "submission" not in one.name)
    assert "bag.zip.parts.json" in names and len(names) > 2
    for name in names:
        assert invenio.contents[str(done.record), name] == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("multipart", [True, False])
@pytest.mark.parametrize("kind", ["500", "drop", "lost", "cut", "429"])
def test_whatever_step_fails_nothing_is_lost_or_sent_again(
    tmp_path: Path, kind: str, multipart: bool
) -> None:
    bag = make_bag(tmp_path / "bag.zip", parts=0 if multipart else 7000)
    server = InvenioServer(multipart=multipart)
    submit(bag, options(server, publish=True), quiet=True)
    steps = list(server.log)
    contents = {name: content for (_, name), content in server.contents.items()}
    once = set(server.stored)
    server.close()
    (tmp_path / f"bag.zip.submission-{server.url.removeprefix('http://').replace(':', '_')}.json").unlink()
    assert len(steps) > 9
    for number, (method, path) in enumerate(steps):
        server = InvenioServer(multipart=multipart)
        server.faults = {number: kind}
        try:
            code = failing(lambda server=server: submit(bag, options(server, publish=True), quiet=True))
            assert code in ("E745", "E746", ""), path
            if code:
                assert sum(one["is_published"] for one in server.records.values()) <= 1
            done = submit(bag, options(server, publish=True), quiet=True)
            where = f"{kind} at {number}: {method} {path}"
            assert len(server.records) == 1, where  # no second draft
            assert done.step == "published" and server.records[str(done.record)]["is_published"], where
            assert {name: content for (_, name), content in server.contents.items()} == contents, where
            assert set(server.stored) == once, where
            # Of a part whose answer was lost nobody can tell whether it is there: it alone goes twice.
            lost = path.rpartition("/")[2] if kind == "lost" and "/content/" in path else None
            for name, count in server.stored.items():
                assert count == 1 or (count == 2 and lost and name.endswith(f"#{lost}")), (where, name)
        finally:
            server.close()
            for state in tmp_path.glob("*.submission-*"):
                state.unlink()


@pytest.mark.parametrize("kind", ["500", "drop", "lost", "cut", "429"])
def test_each_step_at_cap_failing(tmp_path: Path, kind: str) -> None:
    bag = make_bag(tmp_path / "bag.zip", parts=7000)
    number = 0
    while True:
        server = CapServer()
        server.faults = {number: kind}
        try:
            failing(lambda server=server: submit(bag, options(server, publish=True), quiet=True))
            if server.faults:
                break
            done = submit(bag, options(server, publish=True), quiet=True)
            (deposit,) = server.deposits.values()
            assert deposit["status"] == "published" and done.step == "published"
            assert deposit["metadata"] == {"general_title": METADATA["title"]}
            sizes = {one["key"]: one["size"] for one in deposit["files"]}
            assert sizes == {name: size for name, size, _ in done.files}
            assert set(server.stored.values()) == {1}
        finally:
            server.close()
            for state in tmp_path.glob("*.submission-*"):
                state.unlink()
        number += 1
    assert number > 5


def test_a_busy_or_failing_server_is_borne_with(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    invenio.faults = {1: "429", 3: "429", 5: "500", 7: "drop", 10: "cut"}
    done = submit(bag, options(invenio, patience=OFTEN), quiet=True)
    assert done.step == "draft" and not invenio.faults and len(invenio.records) == 1


def test_the_time_that_a_server_asks_for_is_given(tmp_path: Path, invenio: InvenioServer) -> None:
    from afenv.submit.connection import Connection

    waited: list[float] = []
    invenio.faults = {0: "429"}
    connection = Connection(invenio.url, TOKEN, patience=Patience(), wait=waited.append)
    connection.ask("GET", "api/user/records?q=metadata.identifiers.identifier:%22x%22")
    assert waited == [1.0]


def test_a_file_written_anew_is_sent_anew(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    submit(bag, options(invenio, multipart_from=1 << 30), quiet=True)
    same = bag.read_bytes()
    bag.write_bytes(same)
    assert submit(bag, options(invenio, multipart_from=1 << 30), quiet=True).sent == ()
    make_bag(bag, filler=5000)
    with pytest.raises(AfenvError, match="another bag") as caught:
        submit(bag, options(invenio), quiet=True)
    assert caught.value.code == "E749"


def test_what_the_server_has_otherwise_is_replaced(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    whole = options(invenio, multipart_from=1 << 30)
    done = submit(bag, whole, quiet=True)
    entry = invenio.records[str(done.record)]["entries"]["bag.zip"]
    entry["checksum"] = "md5:" + "0" * 32
    assert submit(bag, whole, quiet=True).sent == ("bag.zip",)
    invenio.records[str(done.record)]["entries"]["other.txt"] = {**entry, "key": "other.txt"}
    with pytest.raises(AfenvError, match=r"other\.txt") as caught:
        submit(bag, whole, quiet=True)
    assert caught.value.code == "E748"


def test_damage_on_the_way_is_found(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    real = invenio.content

    def damaging(request: Any, body: bytes, identifier: str, key: str) -> tuple[int, Any]:
        return real(request, body[:-1] + b"?", identifier, key)

    invenio.content = damaging  # type: ignore[method-assign]
    with pytest.raises(AfenvError) as caught:
        submit(bag, options(invenio, multipart_from=1 << 30), quiet=True)
    assert caught.value.code == "E748"
    assert not invenio.contents


def test_a_draft_that_was_removed_is_made_anew(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    first = submit(bag, options(invenio), quiet=True)
    del invenio.records[str(first.record)]
    invenio.records["abcde-99999"] = {"is_published": True, "metadata": {}}
    second = submit(bag, options(invenio), quiet=True)
    assert second.record != first.record or second.sent == ("bag.zip",)


def test_a_server_without_dois_is_served_too(tmp_path: Path) -> None:
    server = InvenioServer(doi=False)
    try:
        done = submit(make_bag(tmp_path / "bag.zip"), options(server, publish=True), quiet=True)
        assert done.doi is None and done.step == "published"
    finally:
        server.close()


def test_a_file_that_the_server_finds_too_large(tmp_path: Path, invenio: InvenioServer) -> None:
    invenio.largest = 100
    with pytest.raises(AfenvError, match="413 Maximum file size") as caught:
        submit(make_bag(tmp_path / "bag.zip"), options(invenio), quiet=True)
    assert caught.value.code == "E745"


def test_a_dry_run_shows_everything_and_sends_nothing(
    tmp_path: Path,
    invenio: InvenioServer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.delenv("AFENV_SUBMIT_TOKEN")
    bag = make_bag(tmp_path / "bag.zip")
    assert main(["-C", str(tmp_path), "submit", "bag.zip", "--to", "invenio", invenio.url, "--dry-run"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert invenio.log == [] and list(tmp_path.iterdir()) == [bag]
    monkeypatch.setenv("AFENV_SUBMIT_TOKEN", TOKEN)
    created: list[Any] = []
    real = invenio.create

    def noting(request: Any, body: bytes) -> tuple[int, Any]:
        created.append(json.loads(body))
        return real(request, body)

    invenio.create = noting  # type: ignore[method-assign]
    assert main(["-C", str(tmp_path), "submit", "bag.zip", "--to", "invenio", invenio.url, "--json"]) == 0
    assert created == [shown["metadata"]]
    assert json.loads(capsys.readouterr().out)["files"] == shown["files"]


def test_the_token_is_nowhere(
    tmp_path: Path, invenio: InvenioServer, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bag(tmp_path / "bag.zip")
    words = ["-C", str(tmp_path), "submit", "bag.zip", "--to", "invenio", invenio.url]
    invenio.faults = {0: "500"}  # it repeats the token in its message
    assert main(words) == 4
    assert main([*words, "--publish"]) == 0
    seen = "".join(capfd.readouterr())
    assert "Internal error" in seen and "[token]" in seen
    assert TOKEN not in seen
    for path in tmp_path.rglob("*"):
        assert TOKEN.encode() not in path.read_bytes()
    assert TOKEN not in " ".join(sys.orig_argv)


def test_a_redirect_to_another_host_gets_no_token(
    tmp_path: Path, invenio: InvenioServer, listener: Listener
) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    invenio.redirects = {"/api/records": f"{listener.url}/api/records"}
    with pytest.raises(AfenvError):
        submit(bag, options(invenio), quiet=True)
    assert listener.other_tokens == [None]


def test_no_token_and_no_netrc(
    tmp_path: Path, invenio: InvenioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password secret\n")
    assert submit(bag, options(invenio), quiet=True).step == "draft"
    monkeypatch.delenv("AFENV_SUBMIT_TOKEN")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(AfenvError) as caught:
        submit(bag, options(invenio), quiet=True)
    assert caught.value.code == "E744"


def test_a_wrong_token_is_told_plainly(
    tmp_path: Path, invenio: InvenioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AFENV_SUBMIT_TOKEN", "another")
    with pytest.raises(AfenvError, match="401") as caught:
        submit(make_bag(tmp_path / "bag.zip"), options(invenio), quiet=True)
    assert caught.value.code == "E745"


@pytest.mark.parametrize(
    "words",
    [
        ("invenio", "http://repository.example.org"),
        ("invenio", "https://user:secret@repository.example.org"),
        ("invenio", "ftp://repository.example.org"),
        ("invenio",),
        ("zenodo", "https://example.org"),
        ("elsewhere",),
        ("invenio", "https://[::1"),
    ],
)
def test_places_that_a_token_must_not_go_to(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(AfenvError) as caught:
        submit(make_bag(tmp_path / "bag.zip"), SubmitOptions(to=words), quiet=True)
    assert caught.value.code == "E747"
    assert "secret" not in str(caught.value)


def test_limits_of_zenodo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = make_bag(tmp_path / "bag.zip", filler=40_000, parts=300)
    with pytest.raises(AfenvError, match="at most 100 files") as caught:
        submit(bag, SubmitOptions(to=("zenodo",), dry_run=True), quiet=True)
    assert caught.value.code == "E741"
    large = tmp_path / "large.zip"
    with large.open("wb") as file:
        file.truncate(50 * 10**9 + 1)
    with pytest.raises(AfenvError, match="at most 50 GB"):
        submit(large, SubmitOptions(to=("zenodo",), dry_run=True), quiet=True)


def test_what_may_not_be_passed_on_is_not_published(tmp_path: Path, invenio: InvenioServer) -> None:
    bag = make_bag(tmp_path / "bag.zip", restricted=True)
    with pytest.raises(AfenvError, match="cuda") as caught:
        submit(bag, options(invenio, publish=True), quiet=True)
    assert caught.value.code == "E743" and invenio.log == []
    assert "cuda" in submit(bag, options(invenio), quiet=True).notes[0]
    submit(bag, options(invenio, publish=True, restricted=True), quiet=True)
    (record,) = invenio.records.values()
    assert record["access"] == {"record": "public", "files": "restricted"}


def test_bags_that_cannot_be_sent(tmp_path: Path, invenio: InvenioServer) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/bagit.txt").write_text("")
    bag = make_bag(tmp_path / "bag.zip", parts=3000)
    (tmp_path / "text.zip").write_text("no bag")
    made = make_bag(tmp_path / "nobody.zip", metadata={"title": "T"})
    cases = [(tmp_path / "folder", "E740"), (tmp_path / "no.zip", "E001"), (tmp_path / "text.zip", "E720")]
    cases += [(tmp_path / "store#bag", "E740"), (made, "E742")]
    for path, code in cases:
        assert failing(lambda path=path: submit(path, options(invenio), quiet=True)) == code, path
    part = tmp_path / "bag.zip.002"
    content = part.read_bytes()
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert failing(lambda: submit(bag, options(invenio), quiet=True)) in ("E721", "E724")
    part.unlink()
    assert failing(lambda: submit(bag, options(invenio), quiet=True)) == "E730"
    assert invenio.log == []


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"afenv-submission": 2}', b'{"afenv-submission": 1}', b"[" * 100_000]
)
def test_a_damaged_state_is_not_believed(tmp_path: Path, invenio: InvenioServer, content: bytes) -> None:
    bag = make_bag(tmp_path / "bag.zip")
    submit(bag, options(invenio), quiet=True)
    (path,) = tmp_path.glob("*.submission-*")
    path.write_bytes(content)
    before = len(invenio.log)
    assert failing(lambda: submit(bag, options(invenio), quiet=True)) == "E749"
    assert len(invenio.log) == before


@pytest.mark.parametrize("answer", [[], "text", {"id": None}, {}, {"links": 3}, None])
def test_answers_of_no_form_are_one_clear_error(tmp_path: Path, invenio: InvenioServer, answer: Any) -> None:
    invenio.create = lambda *_: (201, answer)  # type: ignore[method-assign]
    code = failing(lambda: submit(make_bag(tmp_path / "bag.zip"), options(invenio), quiet=True))
    assert code == "E745"


ODD: tuple[Any, ...] = (None, 5, "text", [5], {"a": None}, "\ud800")


def without(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """The value with something else at that path."""
    if not path:
        return odd
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = without(value[path[0]], path[1:], odd)
    return copy


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get_draft", ()),
        ("get_draft", ("errors",)),
        ("list_files", ()),
        ("list_files", ("entries",)),
        ("start", ()),
        ("start", ("entries",)),
        ("start", ("entries", 0)),
        ("start", ("entries", 0, "transfer")),
        ("start", ("entries", 0, "links")),
        ("start", ("entries", 0, "links", "parts")),
        ("start", ("entries", 0, "links", "parts", 0)),
        ("start", ("entries", 0, "links", "parts", 0, "part")),
        ("start", ("entries", 0, "links", "parts", 0, "url")),
        ("commit", ()),
        ("commit", ("size",)),
        ("commit", ("checksum",)),
    ],
)
def test_parts_of_answers_that_are_odd(
    tmp_path: Path, invenio: InvenioServer, method: str, path: tuple[Any, ...], odd: Any
) -> None:
    whole = getattr(invenio, method)

    def other(*arguments: Any) -> tuple[int, Any]:
        status, value = whole(*arguments)
        value = json.loads(json.dumps(value))
        return status, without({"errors": None, **value} if path == ("errors",) else value, path, odd)

    setattr(invenio, method, other)
    code = failing(lambda: submit(make_bag(tmp_path / "bag.zip"), options(invenio), quiet=True))
    assert code in ("", "E742", "E745", "E748")


@pytest.mark.parametrize("answer", [b"[" * 100_000, b'{"a": NaN}', b"\xff"])
def test_answers_that_are_no_json(tmp_path: Path, listener: Listener, answer: bytes) -> None:
    from afenv.submit.connection import Connection

    def say(request: Any) -> None:
        request.send_response(200 if request.path == "/good" else 400)
        request.send_header("Content-Length", str(len(answer)))
        request.end_headers()
        request.wfile.write(answer)

    listener.handle = say  # type: ignore[method-assign]
    for path in ("good", "bad"):
        with pytest.raises(AfenvError) as caught:
            Connection(listener.url, TOKEN, patience=ONCE).ask("GET", path)
        assert caught.value.code == "E745"


def test_an_answer_that_is_cut(tmp_path: Path, listener: Listener) -> None:
    from afenv.submit.connection import Connection

    def cut(request: Any) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "100")
        request.end_headers()
        request.wfile.write(b'{"id": ')
        request.close_connection = True

    listener.handle = cut  # type: ignore[method-assign]
    with pytest.raises(AfenvError) as caught:
        Connection(listener.url, TOKEN, patience=ONCE).ask("GET", "x")
    assert caught.value.code == "E746"


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "[::1", "127.0.0.1:99999"])
def test_a_redirect_to_what_is_no_host(tmp_path: Path, invenio: InvenioServer, host: str) -> None:
    invenio.redirects["/api/records"] = f"https://{host}/api/records"
    code = failing(lambda: submit(make_bag(tmp_path / "bag.zip"), options(invenio), quiet=True))
    assert code == "E745"


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    from afenv.submit.connection import Window

    told: list[int] = []
    window = Window(io.BytesIO(bytes(5 << 20)), 1 << 20, 3 << 20, told.append)
    pieces = []
    while data := window.read(16384):
        pieces.append(len(data))
    assert sum(pieces) == 3 << 20 == sum(told) and max(pieces) <= 1 << 20
    window.rewind()
    assert len(window.read()) == 1 << 20 and sum(told) == 3 << 20  # what goes again is not counted again
