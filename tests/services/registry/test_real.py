"""The real registry with passwords, tokens and TLS; the command lines of others as witnesses."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from afenv.cli import main
from afenv.digest import sha256_file
from afenv.errors import AfenvError
from afenv.oci.layout import write_layout
from afenv.oci.sif import sif_head
from afenv.store.content import ContentStore
from afenv.testing import Member, make_image
from afenv_registry.client import RegistryClient
from afenv_registry.transport import Patience

pytestmark = pytest.mark.services

CLIENT = RegistryClient(patience=Patience(attempts=2, first_pause=0.05))


@pytest.fixture
def image(store):
    return make_image(store, [[Member(path=f"f{count}", content=os.urandom(50_000))] for count in range(4)])


@pytest.fixture
def fresh(tmp_path):
    """An empty store."""
    return ContentStore(tmp_path / "fresh")


def program(name: str) -> str:
    import shutil

    found = shutil.which(name)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{name} is needed")
        pytest.skip(f"{name} is needed")
    return found


@pytest.fixture
def oras():
    """The command oras."""
    return program("oras")


def refused(reference, fresh) -> AfenvError:
    with pytest.raises(AfenvError) as caught:
        CLIENT.pull(reference, fresh, quiet=True)
    return caught.value


def test_a_password(guarded, image, store, fresh, log_in, call, skopeo):
    reference = f"{guarded}/a/b:1"
    assert refused(reference, fresh).code == "E601"
    log_in(guarded, password="wrong")
    assert refused(reference, fresh).code == "E601"
    log_in(guarded)
    CLIENT.push(image, store, reference, quiet=True)
    assert CLIENT.pull(reference, fresh, quiet=True).manifest == image.manifest
    shown = call(skopeo, "inspect", "--tls-verify=false", "--creds", "me:secret", f"docker://{reference}")
    assert json.loads(shown.stdout)["Digest"] == image.manifest_digest


def test_what_oras_saves_is_found(guarded, image, store, call, oras):
    call(oras, "login", "--plain-http", "-u", "me", "-p", "secret", guarded)
    CLIENT.push(image, store, f"{guarded}/a/b:1", quiet=True)


def test_tokens(with_tokens, token_server, image, store, fresh, log_in):
    reference = f"{with_tokens}/a/b:1"
    assert refused(reference, fresh).code == "E601"
    log_in(with_tokens)
    CLIENT.push(image, store, reference, quiet=True)
    assert token_server.scopes == [["repository:a/b:pull,push"]]
    CLIENT.push(image, store, f"{with_tokens}/a/c:1", quiet=True, mount_from="a/b")
    assert token_server.scopes[1] == ["repository:a/c:pull,push", "repository:a/b:pull"]
    assert CLIENT.pull(reference, fresh, quiet=True).manifest == image.manifest


def test_tokens_are_renewed(with_tokens, token_server, image, store, log_in, monkeypatch):
    log_in(with_tokens)
    minutes = itertools.count(0, 60)
    clock = SimpleNamespace(monotonic=lambda: float(next(minutes)))
    monkeypatch.setattr("afenv_registry.authorization.time", clock)
    CLIENT.push(image, store, f"{with_tokens}/a/b:1", quiet=True)
    assert len(token_server.scopes) > 2


def test_an_authority_of_our_own(encrypted, certificates, image, store, fresh, monkeypatch, tmp_path):
    reference = f"{encrypted}/a/b:1"
    error = refused(reference, fresh)
    assert (error.code, "not trusted" in str(error)) == ("E201", True)
    monkeypatch.setenv("AFENV_CA_BUNDLE", str(certificates / "ca.crt"))
    CLIENT.push(image, store, reference, quiet=True)
    monkeypatch.delenv("AFENV_CA_BUNDLE")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.crt"))
    assert CLIENT.pull(reference, fresh, quiet=True).manifest == image.manifest
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setattr("afenv_registry.tls.FOLDERS", (str(tmp_path / "certs.d"),))
    (tmp_path / "certs.d" / encrypted).mkdir(parents=True)
    (tmp_path / "certs.d" / encrypted / "ca.crt").write_bytes((certificates / "ca.crt").read_bytes())
    assert CLIENT.resolve(reference).digest == image.manifest_digest


def test_large_blobs_over_tls(encrypted, certificates, monkeypatch, store, fresh):
    from afenv_registry import upload

    monkeypatch.setenv("AFENV_CA_BUNDLE", str(certificates / "ca.crt"))
    monkeypatch.setattr(upload, "CHUNK", 3_000_000)
    image = make_image(store, [[Member(path="large", content=os.urandom(10_000_000))]])
    CLIENT.push(image, store, f"{encrypted}/a/b:1", quiet=True)
    assert CLIENT.pull(f"{encrypted}/a/b:1", fresh, quiet=True).manifest == image.manifest


@pytest.fixture
def several(registry, store, tmp_path, call, skopeo):
    """An index for two platforms at the registry, and its digest."""
    reference = f"{registry}/multi:1"
    entries = []
    for architecture in ("amd64", "arm64"):
        made = make_image(store, [[Member(path=architecture)]])
        config = json.loads(made.config) | {"architecture": architecture}
        from dataclasses import replace

        content = json.dumps(config).encode()
        document = json.loads(made.manifest)
        import hashlib

        document["config"] |= {
            "digest": "sha256:" + hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }
        made = replace(made, config=content, manifest=json.dumps(document).encode())
        CLIENT.push(made, store, f"{registry}/multi:{architecture}", quiet=True)
        entries.append(made.manifest_descriptor().as_json() | {"platform": made.platform()})
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": entries,
    }
    with CLIENT.repository(reference) as repository:
        stored = repository.put_manifest(json.dumps(index).encode(), index["mediaType"], "1")
    return reference, stored.digest, [one["digest"] for one in entries]


def test_indexes_go_round(several, registry, tmp_path, call, skopeo, monkeypatch):
    """Pulled by afenv, pushed again, copied by skopeo, pushed from there: always the same digest."""
    reference, digest, entries = several
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["-q", "pull", reference, "--all-platforms", "-o", str(tmp_path / "all.oci")]) == 0
    assert main(["-q", "push", str(tmp_path / "all.oci"), f"{registry}/again:1"]) == 0
    insecure = ("--src-tls-verify=false", "--quiet", "--all")
    call(skopeo, "copy", *insecure, f"docker://{registry}/again:1", f"oci-archive:{tmp_path}/skopeo.tar:x")
    assert main(["-q", "push", str(tmp_path / "skopeo.tar"), f"{registry}/third:1"]) == 0
    found = call(skopeo, "inspect", "--raw", "--tls-verify=false", f"docker://{registry}/third:1").stdout
    assert [one["digest"] for one in json.loads(found)["manifests"]] == entries
    assert CLIENT.resolve(f"{registry}/again:1", platform="linux/arm64").digest == entries[1]
    with CLIENT.repository(f"{registry}/again") as repository:
        assert repository.get_manifest("1").digest == digest


def test_what_skopeo_pushes_is_pulled(registry, store, image, fresh, tmp_path, call, skopeo):
    write_layout(image, store, tmp_path / "layout")
    call(
        *(skopeo, "copy", "--quiet", "--dest-tls-verify=false", "--format=v2s2"),
        *(f"oci:{tmp_path}/layout", f"docker://{registry}/skopeo:1"),
    )
    pulled = CLIENT.pull(f"{registry}/skopeo:1", fresh, quiet=True)
    assert pulled.image_id == image.image_id
    assert "docker" in pulled.manifest_media_type


@pytest.fixture
def sif(tmp_path, call, apptainer):
    """A small SIF that Apptainer made."""
    for name in ("bin", "etc", "dev", "proc", "sys", "tmp"):
        (tmp_path / "root" / name).mkdir(parents=True)
    (tmp_path / "root" / "etc" / "hello").write_text("hello")
    call(apptainer, "build", tmp_path / "one.sif", tmp_path / "root")
    return tmp_path / "one.sif"


def test_apptainer_pulls_a_sif_that_was_pushed(registry, sif, tmp_path, call, apptainer, capsys):
    assert main(["-q", "push", str(sif), f"oras://{registry}/sifs/one:1"]) == 0
    call(apptainer, "pull", "--no-https", tmp_path / "two.sif", f"oras://{registry}/sifs/one:1")
    assert sha256_file(tmp_path / "two.sif") == sha256_file(sif)


def test_a_sif_that_apptainer_pushed_is_pulled(registry, sif, tmp_path, call, apptainer, monkeypatch):
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    call(apptainer, "push", sif, f"oras://{registry}/sifs/one:1")
    assert main(["-q", "-C", str(tmp_path), "pull", f"oras://{registry}/sifs/one:1", "-o", "two.sif"]) == 0
    assert sha256_file(tmp_path / "two.sif") == sha256_file(sif)


def test_documents_go_by_oras(registry, tmp_path, call, oras, monkeypatch):
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "afenv.lock").write_text('{"afenv": 1}\n')
    assert main(["-q", "push", str(tmp_path / "afenv.lock"), f"{registry}/lock:1"]) == 0
    call(oras, "pull", "--plain-http", f"{registry}/lock:1", "-o", tmp_path / "oras")
    assert (tmp_path / "oras" / "afenv.lock").read_text() == '{"afenv": 1}\n'
    (tmp_path / "b.txt").write_text("b")
    monkeypatch.chdir(tmp_path)
    call(oras, "push", "--plain-http", f"{registry}/two:1", "afenv.lock:a/b", "b.txt:c/d")
    assert main(["-q", "pull", f"{registry}/two:1", "-o", str(tmp_path / "both")]) == 0
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["afenv.lock", "b.txt"]


MEMORY = r"""
import re, sys
from pathlib import Path
from afenv.cli import main
status = main(sys.argv[1:])
# not ru_maxrss, which the kernel takes over from the process that started this one
peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) // 1024, file=sys.stderr)
sys.exit(status)
"""


def test_memory_does_not_grow_with_the_blob(registry, tmp_path, call, monkeypatch):
    """400 MB, pushed in chunks and pulled, in less than 100 MB (resident, MiB)."""
    monkeypatch.setenv("AFENV_CACHE_DIR", str(tmp_path / "cache"))
    large = tmp_path / "large.sif"
    with large.open("wb") as file:
        head = sif_head(
            objects=(), partition_size=400 << 20, architecture="amd64", identity=uuid.UUID(int=1), created=0
        )
        file.write(head)
        file.truncate(len(head) + (400 << 20))
    for words in (["push", large, f"{registry}/l:1"], ["pull", f"{registry}/l:1", "-o", tmp_path / "x.sif"]):
        done = call(sys.executable, "-c", MEMORY, "-q", *words)
        assert int(done.stderr.split()[-1]) < 100
    assert sha256_file(tmp_path / "x.sif") == sha256_file(large)


def test_an_interrupted_pull_is_resumed_by_the_next(registry, tmp_path, store, call):
    """A process that is killed leaves what came in one place, where the next one goes on."""
    import signal
    import time

    image = make_image(store, [[Member(path="large", content=os.urandom(30_000_000))]])
    CLIENT.push(image, store, f"{registry}/a/b:1", quiet=True)
    cache = tmp_path / "another"
    (layer,) = image.layers
    part = cache / "tmp" / f"part-{layer.digest[7:]}"
    part.parent.mkdir(parents=True)
    environment = os.environ | {"AFENV_CACHE_DIR": str(cache)}
    words = [sys.executable, "-m", "afenv", "-q", "pull", f"{registry}/a/b:1", "-o", str(tmp_path / "o")]
    process = subprocess.Popen(words, env=environment)
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        if part.exists() and part.stat().st_size > 1_000_000:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    if process.returncode == -signal.SIGKILL:
        assert [path.name for path in part.parent.iterdir()] == [part.name]
        assert not Path(tmp_path / "o").exists()
    call(*words, env=environment)
    assert list(part.parent.iterdir()) == []
    assert ContentStore(cache).trusted(layer.digest, layer.size)
