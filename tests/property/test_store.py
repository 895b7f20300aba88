"""Properties of the content store, of pruning, and of what a server may say."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from afenv.digest import sha256_bytes
from afenv.store import marks
from afenv.store.content import ContentStore
from afenv.store.transport import Answer, Patience, retry_after, without_secrets
from afenv.workflow.cache import choose_removed

BLOBS = st.dictionaries(
    st.text("0123456789abcdef", min_size=4, max_size=4),
    st.tuples(st.floats(0, 1000), st.integers(0, 1000)),
    max_size=20,
)


@given(st.lists(st.binary(max_size=300), max_size=8), st.booleans())
def test_any_pieces_give_the_digest_of_the_whole(pieces, durable):
    with tempfile.TemporaryDirectory() as name:
        store = ContentStore(Path(name))
        with store.writer(durable=durable) as writer:
            for piece in pieces:
                writer.write(piece)
            digest = writer.commit()
        whole = b"".join(pieces)
        assert digest == sha256_bytes(whole)
        assert store.read(digest) == whole
        assert store.trusted(digest, len(whole))
        assert not store.trusted(digest, len(whole) + 1)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_change_of_content_is_noticed(content, data):
    changed = data.draw(st.binary(max_size=250).filter(lambda other: other != content))
    with tempfile.TemporaryDirectory() as name:
        store = ContentStore(Path(name))
        digest = store.put(content)
        store.path(digest).chmod(0o644)
        store.path(digest).write_bytes(changed)
        assert not store.trusted(digest)
        assert store.put(content) == digest
        assert store.trusted(digest)


@given(st.binary(), st.binary())
def test_marks_lie_in_the_past(one, other):
    status = Path(__file__).stat()
    for digest in (sha256_bytes(one), sha256_bytes(other)):
        assert marks.EPOCH <= marks.mark(digest, status) < marks.EPOCH + marks.SPAN < time.time()


@given(BLOBS, st.none() | st.floats(0, 1000), st.none() | st.integers(0, 5000))
def test_pruning_keeps_the_limits_and_the_order_of_use(blobs, older_than, keep_bytes):
    removed = choose_removed(blobs, now=1000.0, older_than=older_than, keep_bytes=keep_bytes)
    kept = blobs.keys() - removed
    if older_than is None and keep_bytes is None:
        assert not removed
    if older_than is not None:
        assert all(1000.0 - blobs[digest][0] <= older_than for digest in kept)
    if keep_bytes is not None:
        assert sum(blobs[digest][1] for digest in kept) <= keep_bytes
    assert max((blobs[digest][0] for digest in removed), default=-1) <= min(
        (blobs[digest][0] for digest in kept), default=1e9
    )


@given(st.text(), st.floats(0, 4e9))
def test_retry_after_is_a_time_or_nothing(text, now):
    pause = retry_after(text, now)
    assert pause is None or pause >= 0
    assert 0 <= Patience().pause(1, pause) <= Patience().longest_wait


@given(st.integers(0, 100))
def test_pauses_are_bounded(failures):
    assert 0 < Patience().pause(failures, None) <= Patience().longest_pause


@given(st.text(), st.text(), st.sampled_from([200, 206]))
def test_headers_of_any_form_are_borne(length, span, status):
    answer = Answer(status, {"content-length": length, "content-range": span}, iter(()))
    assert answer.length is None or answer.length >= 0
    assert answer.range is None or answer.range[0] >= 0


@given(st.text(st.characters(categories=["L", "N"]), min_size=12), st.text(min_size=0))
def test_secrets_are_left_out(secret, rest):
    assert secret not in without_secrets(f"https://user:{secret}@example.org/path")
    assert secret not in without_secrets(f"https://example.org/path?token={secret}")
    assert without_secrets("file:events.root") == "file:events.root"
    assert without_secrets("file:///events.root") == "file:///events.root"
