from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from afenv.errors import AfenvError
from afenv.resolve.debian.release import read_release, trusted_keys
from tests.resolve.debian.conftest import clear_sign, in_release, make_key

KEY, CERTIFICATE = make_key()
TEXT = in_release(
    "bookworm", {"main/binary-amd64/Packages.xz": b"x"}, valid_until=datetime(2024, 3, 8, tzinfo=UTC)
)
SIGNED = clear_sign(TEXT, KEY)


def refused(data: bytes, *keys: bytes) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        read_release(data, keys or (CERTIFICATE,), "here")
    assert caught.value.problems[0].place == "here"
    return caught.value


def test_read() -> None:
    release = read_release(SIGNED, (CERTIFICATE,), "here")
    assert release.codename == "bookworm"
    assert release.date == datetime(2024, 3, 1, 12, tzinfo=UTC)
    assert release.valid_until == datetime(2024, 3, 8, tzinfo=UTC)
    assert release.by_hash
    assert list(release.files) == ["main/binary-amd64/Packages.xz"]
    assert release.files["main/binary-amd64/Packages.xz"][0] == 1
    assert release.signed_by == str(KEY.extract_certificate().fingerprint).upper()


def test_one_good_signer_among_the_trusted_keys_is_enough() -> None:
    _, other = make_key("Other <other@example.org>")
    assert read_release(SIGNED, (other, CERTIFICATE), "here").codename == "bookworm"


def test_tampered_text() -> None:
    error = refused(SIGNED.replace(b"Codename: bookworm", b"Codename: bookwurm"))
    assert error.code == "E104"
    assert error.exit_status == 5
    assert "\n" not in error.problems[0].message


def test_tampered_digest() -> None:
    digest = TEXT.splitlines()[-1].split()[0].encode()
    assert refused(SIGNED.replace(digest, b"0" * 64)).code == "E104"


def test_unknown_key_is_named() -> None:
    _, other = make_key("Other <other@example.org>")
    error = refused(SIGNED, other)
    assert error.code == "E104"
    assert "signatures by " in error.problems[0].message


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        b"",
        b"<html>log in first</html>",
        SIGNED[: SIGNED.index(b"-----BEGIN PGP SIGNATURE")],
        SIGNED[:-200],
    ],
)
def test_unsigned_or_cut(data: bytes) -> None:
    assert refused(data).code == "E104"


@pytest.mark.parametrize("outside", ["before", "after"])
def test_text_outside_the_signature_is_not_read(outside: str) -> None:
    signed = clear_sign(in_release("bookworm", {"main/x": b"x"}, by_hash=False), KEY)
    evil = b"Acquire-By-Hash: yes\nValid-Until: Sun, 01 Mar 2099 12:00:00 UTC\n"
    data = evil + signed if outside == "before" else signed + evil
    try:
        release = read_release(data, (CERTIFICATE,), "here")
    except AfenvError as error:
        assert error.code == "E104"
    else:
        assert not release.by_hash
        assert release.valid_until is None


def test_a_signature_made_before_its_key_expired_stays_valid() -> None:
    from pysequoia import Tsk

    key = Tsk.generate("Short", validity_seconds=61)  # keys are made 60 s back in time
    data = clear_sign(TEXT, key)
    certificate = key.extract_certificate()
    time.sleep(1.5)
    assert certificate.expiration < datetime.now(UTC)
    assert read_release(data, (str(certificate).encode(),), "here").codename == "bookworm"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Date: Fri, 01 Mar 2024 12:00:00 UTC\n", ""),
        ("Date: Fri, 01 Mar 2024 12:00:00 UTC\n", "Date: yesterday\n"),
        (" main/binary", " main binary"),
        (TEXT[TEXT.index("SHA256") :], ""),
    ],
)
def test_signed_but_not_an_index(old: str, new: str) -> None:
    assert old in TEXT
    assert refused(clear_sign(TEXT.replace(old, new), KEY)).code == "E303"


def test_the_keys_that_come_with_afenv() -> None:
    from pysequoia import Cert

    certificates = [Cert.from_bytes(key) for key in trusted_keys()]
    assert len({certificate.fingerprint for certificate in certificates}) == 9
    users = " ".join(str(user) for certificate in certificates for user in certificate.user_ids)
    for name in ("11/bullseye", "12/bookworm", "13/trixie"):
        assert users.count(name) == 3


def test_the_keys_readme_names_each_key() -> None:
    from pysequoia import Cert

    from afenv.resolve.debian.release import KEYS

    text = (KEYS / "README.md").read_text(encoding="utf-8")
    for path in KEYS.glob("*.asc"):
        fingerprint = str(Cert.from_bytes(path.read_bytes()).fingerprint).upper()
        assert f"| {path.name} | {fingerprint} |" in text
