"""Whether CVMFS is mounted at the revision that was locked."""

from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv.run import cvmfs
from afenv.run.cvmfs import LABEL, REVISIONS, NeededRevision, check_revisions, needed_revisions

HASH = "d69e4785f9886e58e6a6eab3233e6a24bfa44336"
LABELS = {LABEL: "b.example.org a.example.org", REVISIONS: f"a.example.org=3:{HASH}"}


@pytest.fixture
def mount(tmp_path, monkeypatch):
    """A folder in the place of /cvmfs; what its repositories tell is as given."""
    told: dict[str, dict[str, str]] = {}
    monkeypatch.setattr(cvmfs, "attributes", lambda name, root: told.get(name, {}))
    return told


def test_what_an_image_tells():
    assert needed_revisions(LABELS) == (
        NeededRevision(name="a.example.org", revision=3, root_hash=HASH),
        NeededRevision(name="b.example.org"),
    )
    assert needed_revisions({}) == ()
    assert needed_revisions({LABEL: "a", REVISIONS: "a=x:1 nonsense"}) == (NeededRevision(name="a"),)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"root_hash": HASH, "revision": "3"}, None),
        ({"root_hash": "1" * 40, "revision": "4"}, "mounted at revision 4, and revision 3 is locked"),
        ({}, "does not tell its revision"),
    ],
)
def test_warning_or_error(mount, tmp_path, told, says):
    mount["a.example.org"] = told
    heard = []
    check_revisions(LABELS, strict=False, warn=heard.append, root=tmp_path)
    if says is None:
        check_revisions(LABELS, strict=True, warn=heard.append, root=tmp_path)
        assert heard == []
        return
    assert len(heard) == 1
    assert says in heard[0]
    with pytest.raises(AfenvError) as error:
        check_revisions(LABELS, strict=True, warn=heard.append, root=tmp_path)
    assert (error.value.code, error.value.exit_status) == ("E148", 1)
