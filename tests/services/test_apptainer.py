"""SIFs and the real Apptainer: listed, inspected, verified, started, as root and as an ordinary user."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from afenv.digest import sha256_file
from afenv.errors import AfenvError
from afenv.oci.diff import diff
from afenv.oci.inspect import inspect_image
from afenv.oci.layout import write_layout
from afenv.oci.sif import read_sif
from afenv.oci.sif_record import sif_record
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, hardlink, make_image
from afenv_builders.apptainer import ApptainerBuilder, packing

pytestmark = pytest.mark.services
NOBODY = pwd.getpwnam("nobody")


def needed(name: str) -> str:
    """The path of a program; its absence is a failure in CI and a skip elsewhere."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{name} is needed")
        pytest.skip(f"{name} is needed")
    return path


@pytest.fixture(scope="session")
def busybox() -> bytes:
    """A shell without libraries."""
    return Path(needed("busybox")).read_bytes()


@pytest.fixture
def mixed(store, program, busybox):
    """An image that runs the program, and has a shell, with what layers can do to one another."""
    variables = {"WORD": 'it\'s $HOME "x" `id`', "PLAIN": "plain"}
    return make_image(
        store,
        [
            (
                *(folder("bin"), Member(path="bin/program", content=program, mode=0o755), folder("gone")),
                *(Member(path="gone/a"), folder("etc"), Member(path="same", content=b"content", mode=0o600)),
                *(
                    folder("tmp", 0o1777),
                    hardlink("bin/again", "bin/program"),
                    folder("var"),
                    folder("data", 0o750),
                ),
                *(
                    Member(path="etc/passwd", content=b"root:x:0:0::/root:/bin/sh\n"),
                    Member(path="etc/group"),
                ),
            ),
            (Member(path=".wh.gone"), hardlink("other", "same"), folder("data", 0o711, 5, 6)),
            (Member(path="bin/sh", content=busybox, mode=0o755),),
            (Member(path="same", content=b"new"), Member(path="data/ü" + "x" * 120, content=b"y" * 300_000)),
        ],
        entrypoint=("/bin/program",),
        variables=variables,
    )


def build(image, store, path: Path, target: str = "sif", **options):
    built = ApptainerBuilder().build(image, store, {"target": target, "path": path, "quiet": True, **options})
    if path.is_file():
        path.chmod(0o755)
    return built


@pytest.mark.parametrize("compressor", ["zstd", "gzip"])
def test_a_sif_is_listed_inspected_and_started(apptainer, call, mixed, store, place, user, compressor):
    path = place / "a.sif"
    build(mixed, store, path, compressor=compressor)
    listed = call(apptainer, "sif", "list", path, **user).stdout
    assert [line.split("|")[-1].strip() for line in listed.splitlines() if line[:1].isdigit()] == [
        *("Def.FILE", "JSON.Generic", "JSON.Generic", "JSON.Generic", "FS (Squashfs/*System/amd64)")
    ]
    header = call(apptainer, "sif", "header", path, **user).stdout
    assert str(read_sif(path).identity) in header
    labels = call(apptainer, "inspect", "--labels", path, **user).stdout
    assert "org.afenv.analysis: sample" in labels
    assert mixed.image_id in call(apptainer, "inspect", "--deffile", path, **user).stdout
    assert "/bin/program" in call(apptainer, "inspect", "--runscript", path, **user).stdout
    assert "export PATH=" in call(apptainer, "inspect", "--environment", path, **user).stdout
    assert call(apptainer, "run-help", path, **user).stdout.startswith("sample 1.0")
    started = (apptainer, "--silent")
    assert call(*started, "exec", path, "/bin/program", **user).stdout == "hello\n"
    assert call(*started, "run", path, "variable", "WORD", **user).stdout == 'it\'s $HOME "x" `id`\n'
    assert call(*started, "exec", path, "program", "variable", "PATH", **user).stdout.startswith(
        "/usr/local/sbin:"
    )
    own = user.get("user", os.getuid())
    assert call(*started, "exec", path, "program", "who", **user).stdout.startswith(f"{own}:")
    call(*started, "exec", path, "program", "exit", "7", status=7, **user)


def test_variables_of_the_caller(apptainer, call, mixed, store, place, user):
    build(mixed, store, place / "a.sif")
    command = (apptainer, "--silent", "exec", "--env", "PLAIN=other", place / "a.sif", "program", "variable")
    assert call(*command, "PLAIN", **user).stdout == "other\n"
    assert "/.singularity.d/libs" in call(*command, "LD_LIBRARY_PATH", **user).stdout


@pytest.mark.parametrize("target", ["squashfs", "sandbox"])
def test_other_forms_are_started(apptainer, call, mixed, store, place, user, target):
    build(mixed, store, place / target, target)
    command = (apptainer, "--silent", "run", place / target, "variable", "WORD")
    assert call(*command, **user).stdout == 'it\'s $HOME "x" `id`\n'


def test_one_digest_of_all_forms(apptainer, call, mixed, store, place):
    """Among them what Apptainer itself makes of the layout, and what unsquashfs unpacks."""
    write_layout(mixed, store, place / "oci")
    for target in ("sif", "squashfs", "sandbox"):
        build(mixed, store, place / target, target)
    call(apptainer, "--silent", "build", place / "theirs.sif", f"oci:{place}/oci")
    call(needed("unsquashfs"), "-quiet", "-no-progress", "-dest", place / "unpacked", place / "squashfs")
    trees = set()
    for name in ("sif", "squashfs", "sandbox", "theirs.sif", "unpacked"):
        found = diff(place / "oci", place / name)
        assert not found.files, name
        assert found.trees is not None
        trees |= set(found.trees)
    assert len(trees) == 1


def test_another_user_builds_the_same_bytes(store, place):
    if os.getuid() != 0:
        pytest.skip("not root")
    own = place / "own"
    own.mkdir()
    os.chown(own, NOBODY.pw_uid, NOBODY.pw_gid)
    ours = build(make_image(store), store, place / "a.sif")  # from here on, everything is imported
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            os.umask(0o077)
            os.chdir(own)
            packing._works.cache_clear()
            theirs = ContentStore(own / "store")
            build(make_image(theirs), theirs, own / "a.sif")
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (own / "a.sif").stat().st_uid == NOBODY.pw_uid
    assert sha256_file(own / "a.sif") == ours.digest


def test_checking_through_spython(mixed, store, place, monkeypatch):
    pytest.importorskip("spython")
    build(mixed, store, place / "a.sif")
    builder = ApptainerBuilder()
    builder.check(mixed, place / "a.sif", store)
    with pytest.raises(AfenvError) as caught:
        builder.check(make_image(store), place / "a.sif", store)
    assert caught.value.code == "E406"
    from afenv_builders.apptainer import checking

    monkeypatch.setattr(checking, "labels", lambda _: {"other": "labels"})
    with pytest.raises(AfenvError, match="does not show the image's labels"):
        builder.check(mixed, place / "a.sif", store)


def test_an_image_that_does_not_start(store, place):
    pytest.importorskip("spython")
    image = make_image(store, [(folder("bin"), Member(path="bin/sh", content=b"\x7fELF no", mode=0o755))])
    build(image, store, place / "a.sif")
    with pytest.raises(AfenvError, match=r"cannot start a\.sif") as caught:
        ApptainerBuilder().check(image, place / "a.sif", store)
    assert caught.value.code == "E502"


@pytest.fixture(scope="module")
def key(tmp_path_factory, apptainer) -> Iterator[str]:
    """The fingerprint of a key without a passphrase, in a keyring of Apptainer's own kind."""
    needed("gpg")
    home = Path(tempfile.mkdtemp(prefix="afenv-gpg-"))
    keys = tmp_path_factory.mktemp("keys")
    environment = {**os.environ, "GNUPGHOME": str(home), "APPTAINER_KEYSDIR": str(keys)}

    def gpg(*words: str) -> str:
        command = ["gpg", "--batch", "--quiet", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    name = "Test <test@example.org>"
    gpg(
        "--pinentry-mode", "loopback", "--passphrase", "", "--quick-gen-key", name, "rsa2048", "sign", "never"
    )
    (keys / "secret.asc").write_text(gpg("--armor", "--export-secret-keys"))
    (fingerprint, *_) = [
        line.split(":")[9]
        for line in gpg("--with-colons", "--list-keys").splitlines()
        if line.startswith("fpr")
    ]
    subprocess.run(
        [apptainer, "key", "import", str(keys / "secret.asc")],
        env=environment,
        capture_output=True,
        check=True,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("APPTAINER_KEYSDIR", str(keys))
        yield fingerprint
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, capture_output=True, check=False)
    shutil.rmtree(home, ignore_errors=True)


def test_signing_and_verifying(apptainer, call, key, mixed, store, place):
    build(mixed, store, place / "signed.sif", sign=key)
    build(mixed, store, place / "plain.sif")
    verified = call(apptainer, "verify", "--local", place / "signed.sif")
    assert key in verified.stdout
    call(apptainer, "verify", "--local", place / "plain.sif", status=255)
    assert inspect_image(place / "signed.sif").as_json()["sif"]["signed_by"] == [key]
    assert inspect_image(place / "plain.sif").as_json()["sif"]["signed_by"] == []
    before = (place / "signed.sif").stat().st_ino
    build(mixed, store, place / "signed.sif", sign=key[-16:])
    build(mixed, store, place / "signed.sif")
    assert (place / "signed.sif").stat().st_ino == before  # it holds the image, and the signature is kept
    build(mixed, store, place / "plain.sif", sign=key)
    call(apptainer, "verify", "--local", place / "plain.sif")
    data = bytearray((place / "signed.sif").read_bytes())
    system = read_sif(place / "signed.sif").system()
    data[system.offset + 200] ^= 1
    (place / "signed.sif").write_bytes(data)
    call(apptainer, "verify", "--local", place / "signed.sif", status=255)


def test_a_key_that_is_not_there(key, mixed, store, place):
    with pytest.raises(AfenvError, match=key) as caught:
        build(mixed, store, place / "a.sif", sign="00112233445566778899AABBCCDDEEFF00112233")
    assert caught.value.code == "E030"
    assert not (place / "a.sif").exists()


def without(name: str, monkeypatch) -> None:
    """Make a program of the host one that is not found."""
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda one, **more: None if one == name else real(one, **more))
    packing._works.cache_clear()


def test_the_other_packer(apptainer, call, mixed, store, place, monkeypatch):
    needed("tar2sqfs")
    without("mksquashfs", monkeypatch)
    built = build(mixed, store, place / "a.sif", packer="tools")
    assert built.annotations["org.afenv.packed-by"].startswith("tar2sqfs ")
    assert build(mixed, store, place / "b.sif", packer="tools", threads=5).digest == built.digest
    write_layout(mixed, store, place / "oci")
    found = diff(place / "oci", place / "a.sif")
    assert not found.differs
    assert not found.times
    assert call(apptainer, "--silent", "run", place / "a.sif").stdout == "hello\n"


def test_a_packer_without_tar_is_replaced_by_apptainer(apptainer, call, mixed, store, place, monkeypatch):
    """As on an Enterprise Linux whose squashfs-tools are older."""
    old = place / "programs"
    old.mkdir()
    real = shutil.which("mksquashfs")
    (old / "mksquashfs").write_text(
        f'#!/bin/sh\nfor word in "$@"; do [ "$word" != -tar ] || {{ echo "invalid option"; exit 1; }}; done\n'
        f'exec {real} "$@"\n'
    )
    (old / "mksquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{old}:{os.environ['PATH']}")
    monkeypatch.setattr(packing, "ELSEWHERE", ())
    without("tar2sqfs", monkeypatch)
    built = build(mixed, store, place / "a.sif", packer="tools")
    assert "apptainer build was used" in built.annotations["org.afenv.fallback"]
    record = sif_record(read_sif(place / "a.sif"))
    assert record is not None
    assert record.fallback == built.annotations["org.afenv.fallback"]
    assert record.image.image_id == mixed.image_id
    assert call(apptainer, "--silent", "run", place / "a.sif").stdout == "hello\n"
    write_layout(mixed, store, place / "oci")
    assert not diff(place / "oci", place / "a.sif").differs
    packing._works.cache_clear()
