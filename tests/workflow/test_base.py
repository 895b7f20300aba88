"""Base images in the whole way of a user: from a registry on this machine to an image on top."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from afenv.oci import media
from afenv.oci.model import Image
from afenv.oci.read import open_image
from afenv.store.content import ContentStore
from afenv.testing import Member, folder, make_foreign_image, symlink
from tests.workflow.test_conda import add_package

ELF = b"\x7fELF"
SITE = b"'/usr/local', 'dist-packages'"
STATUS = b"""\
Package: base-files
Status: install ok installed
Architecture: amd64
Version: 1.0
Conffiles:
 /etc/debian_version 0123456789abcdef0123456789abcdef
Description: the base
 of it all

Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Version: 2.36-9
Depends: not-there-in-this-image

Package: rival-two
Status: install ok installed
Architecture: amd64
Version: 1.0

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1.0
"""
DEBIAN = [
    folder("usr"),
    folder("usr/bin"),
    folder("usr/lib"),
    folder("usr/lib64"),
    *(symlink(name, f"usr/{name}") for name in ("bin", "lib", "lib64")),
    folder("etc"),
    Member(path="etc/os-release", content=b"ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\n"),
    Member(path="etc/passwd", content=b"root:x:0:0:root:/root:/bin/sh\n"),
    Member(path="etc/group", content=b"root:x:0:\n"),
    Member(path="etc/shadow", content=b"root:*:1::::::\n", mode=0o640, gid=42),
    folder("usr/local", mode=0o2775, gid=50),
    symlink("opt", "var/opt"),
    folder("var/opt"),
    folder("var/lib/dpkg/info"),
    Member(path="var/lib/dpkg/status", content=STATUS),
    Member(path="usr/bin/bash", content=b"bash", mode=0o755),
    folder("usr/lib/x86_64-linux-gnu"),
    Member(
        path="usr/lib/x86_64-linux-gnu/libc.so.6",
        content=ELF + b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n",
    ),
]
PYTHON = [
    Member(path="usr/bin/python3.11", content=ELF + b"\x003.11.2\x00", mode=0o755),
    symlink("usr/bin/python3", "python3.11"),
    Member(path="usr/lib/python3.11/os.py", content=b""),
    Member(path="usr/lib/python3.11/site.py", content=SITE),
    Member(path="usr/lib/x86_64-linux-gnu/libstdc++.so.6", content=ELF),
]
ALPINE = [
    Member(path="etc/os-release", content=b"ID=alpine\nVERSION_ID=3.20.0\n"),
    Member(path="lib/ld-musl-x86_64.so.1", content=ELF),
    Member(path="usr/bin/python3.12", content=ELF + b"\x003.12.1\x00", mode=0o755),
    symlink("usr/bin/python3", "python3.12"),
    Member(path="usr/lib/python3.12/os.py", content=b""),
]
SETTINGS = {
    "Env": ["PATH=/usr/local/bin:/usr/bin", "SETUP=done", "OURS=base"],
    "Cmd": ["bash", "-l"],
    "Entrypoint": ["/usr/bin/start"],
    "ExposedPorts": {"8888/tcp": {}},
    "Volumes": {"/scratch": {}},
    "WorkingDir": "/work",
    "Labels": {"maintainer": "someone", "org.opencontainers.image.title": "the base"},
    "OnBuild": ["RUN x"],
}


@pytest.fixture
def images(tmp_path: Path) -> ContentStore:
    """Where the images of the registry are made."""
    return ContentStore(tmp_path / "elsewhere")


def serve(world: Any, images: ContentStore, image: Image, name: str = "base", tag: str = "1") -> str:
    """Let the registry have an image; its reference."""
    for digest in (image.manifest_digest, tag):
        world.contents[f"/v2/{name}/manifests/{digest}"] = (image.manifest_media_type, image.manifest)
    for digest in (image.image_id, *(layer.digest for layer in image.layers)):
        world.contents[f"/v2/{name}/blobs/{digest}"] = ("application/octet-stream", images.read(digest))
    return f"{world.url.removeprefix('http://')}/{name}:{tag}"


def serve_index(world: Any, images: ContentStore, by_platform: dict[str, Image], tag: str) -> tuple[str, str]:
    """Let the registry have an index; the reference and the digest."""
    manifests = []
    for platform, image in by_platform.items():
        serve(world, images, image)
        system, architecture = platform.split("/")
        descriptor = image.manifest_descriptor().as_json()
        manifests.append(descriptor | {"platform": {"os": system, "architecture": architecture}})
    data = json.dumps({"schemaVersion": 2, "mediaType": media.IMAGE_INDEX, "manifests": manifests}).encode()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    for name in (tag, digest):
        world.contents[f"/v2/base/manifests/{name}"] = (media.IMAGE_INDEX, data)
    return f"{world.url.removeprefix('http://')}/base:{tag}", digest


def manifest(world: Any, reference: str, rest: str = "", packages: str = "") -> None:
    also = f", packages: [{packages}]" if packages else ""
    world.write(
        "afenv.yaml",
        f"afenv: 1\nname: small\ncode:\n  - {{path: src}}\nenvironments:\n  default:\n"
        f'    base: {{oci: "{reference}"{also}}}\n    bytecode: false\n    variables: {{OURS: "1"}}\n{rest}',
    )


WHEELS = "    pypi: {dependencies: [alpha]}\n"


def built_files(world: Any) -> tuple[Image, dict[str, Any]]:
    from afenv.oci.files import merged

    with open_image(world.project / ".afenv" / "default.oci") as opened:
        return opened.image, merged(opened, keep=lambda path: True)


@pytest.mark.parametrize(("docker", "compression"), [(False, "gzip"), (True, "gzip"), (False, "zstd")])
def test_wheels_on_an_image(world: Any, images: ContentStore, docker: bool, compression: str) -> None:
    base = make_foreign_image(
        images, [DEBIAN, PYTHON], settings=SETTINGS, docker=docker, compression=compression
    )
    reference = serve(world, images, base)
    manifest(world, reference, WHEELS)
    (built,) = world.afenv_json("build", "--check")
    locked = world.lock()["environments"]["default"]
    assert locked["base"]["digest"] == base.manifest_digest
    assert (locked["base"]["system"], locked["base"]["glibc"]) == ("debian 12", "2.36")
    assert locked["python"]["version"] == "3.11.2"
    assert "debs" not in locked
    image, files = built_files(world)
    below = image.layers[: len(base.layers)]
    assert [(one.digest, one.diff_id) for one in below] == [(one.digest, one.diff_id) for one in base.layers]
    wanted = media.LAYER_ZSTD if compression == "zstd" else media.LAYER_GZIP
    assert {one.media_type for one in below} == {wanted}
    assert [one["source"] for one in built["layers"]][:3] == [f"base:{reference}"] * 2 + ["system"]
    assert "usr/local/lib/python3.11/dist-packages/alpha/__init__.py" in files
    assert (files["usr/local"].mode, files["usr/local"].gid) == (0o2775, 50)
    assert files["opt"].kind == "l"
    assert b"\nanalyst:x:1000:1000:" in files["etc/passwd"].content
    assert (files["etc/shadow"].mode, files["etc/shadow"].content.count(b"\n")) == (0o640, 2)
    assert files["home/analyst"].mode == 0o1777


def test_the_config_is_that_of_the_base_and_ours(world: Any, images: ContentStore) -> None:
    history = [{"created_by": "first", "created": "2020-01-01T00:00:00Z"}, {"empty_layer": True}]
    base = make_foreign_image(images, [DEBIAN], settings=SETTINGS, history=history)
    manifest(world, reference := serve(world, images, base))
    world.afenv_json("build")
    image, _ = built_files(world)
    config = image.configuration()
    settings = config["config"]
    assert settings["User"] == "1000:1000"
    assert sorted(settings["Env"]) == [
        "LANG=C.UTF-8",
        "OURS=1",
        "PATH=/usr/local/bin:/usr/bin",
        "SETUP=done",
    ]
    assert (settings["Entrypoint"], settings["Cmd"]) == (["/usr/bin/start"], ["bash", "-l"])
    assert (settings["WorkingDir"], settings["ExposedPorts"]) == ("/analysis", {"8888/tcp": {}})
    assert settings["Volumes"] == {"/scratch": {}}
    assert "OnBuild" not in settings
    labels = settings["Labels"]
    assert (labels["maintainer"], labels["org.opencontainers.image.title"]) == ("someone", "small")
    assert labels["org.opencontainers.image.base.name"] == reference
    assert labels["org.opencontainers.image.base.digest"] == base.manifest_digest
    assert config["history"][:2] == history
    shown = world.afenv("inspect", str(world.project / ".afenv" / "default.oci"))[1]
    assert f"{reference}@{base.manifest_digest}" in shown


def test_our_entrypoint_takes_the_place_of_that_of_the_base(world: Any, images: ContentStore) -> None:
    reference = serve(world, images, make_foreign_image(images, [DEBIAN], settings=SETTINGS))
    manifest(world, reference, "    entrypoint: [python3]\n    workdir: /tmp\n")
    world.afenv_json("build")
    settings = built_files(world)[0].configuration()["config"]
    assert (settings["Entrypoint"], settings.get("Cmd")) == (["python3"], None)
    assert settings["WorkingDir"] == "/tmp"


def test_the_user_of_the_base_stays(world: Any, images: ContentStore) -> None:
    base = make_foreign_image(images, [DEBIAN], settings={"User": "jovyan"})
    manifest(world, serve(world, images, base))
    (built,) = world.afenv_json("build")
    image, files = built_files(world)
    settings = image.configuration()["config"]
    assert (settings["User"], settings["Cmd"]) == ("jovyan", ["/bin/bash"])
    assert b"analyst" not in files["etc/passwd"].content
    assert [one["source"] for one in built["layers"]][1:] == ["code:/analysis"]


def test_debian_packages_on_debian(world: Any, images: ContentStore) -> None:
    base = make_foreign_image(images, [DEBIAN])
    manifest(world, serve(world, images, base), packages="shell, python3")
    world.afenv_json("build", "--check")
    locked = world.lock()["environments"]["default"]
    names = {deb["name"]: deb.get("requested", False) for deb in locked["debs"]}
    assert names == {
        "shell": True,
        "python3": True,
        "python3.11-minimal": False,
        "libpython3.11-stdlib": False,
    }
    assert locked["suite"] == "bookworm"
    assert locked["python"]["executable"] == "/usr/bin/python3.11"
    _, files = built_files(world)
    status = files["var/lib/dpkg/status"].content
    assert status.startswith(STATUS)
    assert status.count(b"\nPackage: shell\n") == 1
    assert b"\n\n\n" not in status
    assert "usr/bin/golden-sh" in files
    assert files["bin"].kind == "l"
    assert files["etc/alternatives/pager"].target == "/bin/less"
    shown = world.afenv_json("inspect", str(world.project / ".afenv" / "default.oci"))
    assert {"base-files", "libc6", "shell", "python3"} <= {one["name"] for one in shown["packages"]}
    assert "gone" not in {one["name"] for one in shown["packages"]}


def test_what_is_installed_stands_against_what_is_added(world: Any, images: ContentStore) -> None:
    manifest(world, serve(world, images, make_foreign_image(images, [DEBIAN])), packages="rival-one")
    status, _, err = world.afenv("lock")
    assert (status, "E102" in err) == (2, True)
    assert "installed rival-two" in err
    assert "requested rival-one (1.0) → breaks rival-two" in err


def test_debian_packages_on_something_else(world: Any, images: ContentStore) -> None:
    manifest(world, serve(world, images, make_foreign_image(images, [ALPINE])), packages="shell")
    status, _, err = world.afenv("lock")
    assert (status, "E114" in err) == (2, True)
    assert "the base image is alpine 3.20.0" in err


def test_wheels_on_musl(world: Any, images: ContentStore) -> None:
    manifest(world, serve(world, images, make_foreign_image(images, [ALPINE])), WHEELS)
    status, _, err = world.afenv("lock")
    assert (status, "E113" in err) == (2, True)
    assert "musl" in err


def test_wheels_without_a_python(world: Any, images: ContentStore) -> None:
    base = make_foreign_image(images, [[folder("etc")]])
    manifest(world, serve(world, images, base), WHEELS)
    err = world.afenv("lock")[2]
    assert "E106" in err
    assert "Choose a base that has python3" in err


def test_wheels_for_a_python_that_is_too_old(world: Any, images: ContentStore) -> None:
    old = [
        Member(path="usr/libexec/platform-python3.6", content=ELF + b"\x003.6.8\x00", mode=0o755),
        symlink("usr/bin/python3", "../libexec/platform-python3.6"),
        Member(path="usr/lib64/python3.6/os.py", content=b""),
    ]
    manifest(world, serve(world, images, make_foreign_image(images, [DEBIAN, old])), WHEELS)
    status, _, err = world.afenv("lock")
    assert (status, "E106" in err) == (2, True)
    assert "the base image has 3.6.8" in err


def test_commands_of_wheels_are_found(world: Any, images: ContentStore) -> None:
    image = make_foreign_image(images, [DEBIAN, PYTHON], settings={"Env": ["PATH=/usr/bin:/app/bin"]})
    manifest(world, reference := serve(world, images, image), WHEELS)
    world.afenv_json("build")
    settings = built_files(world)[0].configuration()["config"]
    assert "PATH=/usr/local/bin:/usr/bin:/app/bin" in settings["Env"]
    manifest(world, reference)
    world.afenv_json("build")
    assert "PATH=/usr/bin:/app/bin" in built_files(world)[0].configuration()["config"]["Env"]


def test_an_image_of_nothing_but_files(world: Any, images: ContentStore) -> None:
    base = make_foreign_image(images, [[Member(path="app", content=b"program", mode=0o755)]], compression="")
    manifest(world, serve(world, images, base))
    world.afenv_json("build", "--check")
    image, files = built_files(world)
    assert "Cmd" not in image.configuration()["config"]
    assert b"analyst:x:1000:1000" in files["etc/passwd"].content
    assert {"app", "etc/group", "analysis/fit.py"} <= files.keys()


def test_a_moved_tag_stays_where_it_was(world: Any, images: ContentStore) -> None:
    first = make_foreign_image(images, [DEBIAN])
    manifest(world, reference := serve(world, images, first))
    world.afenv_json("lock")
    before = world.lock()["environments"]["default"]
    shutil.copy(world.project / "afenv.lock", world.folder / "before.lock")
    second = make_foreign_image(images, [DEBIAN, [folder("srv")]])
    serve(world, images, second)

    def base() -> str:
        return str(world.lock()["environments"]["default"]["base"]["digest"])

    assert world.afenv("lock", "--check")[0] == 0
    world.afenv_json("lock")
    assert world.lock()["environments"]["default"] == before
    manifest(world, reference, "    workdir: /tmp\n")
    world.afenv_json("lock")
    assert base() == before["base"]["digest"]
    world.afenv_json("lock", "--as-of", world.AS_OF)
    assert base() == before["base"]["digest"]
    world.afenv_json("lock", "--update", reference)
    assert base() == second.manifest_digest
    status, out, _ = world.afenv("diff", str(world.folder / "before.lock"), "afenv.lock")
    assert (status, f"base {reference} {first.manifest_digest} → {second.manifest_digest}" in out) == (
        1,
        True,
    )
    third = make_foreign_image(images, [DEBIAN, [folder("mnt")]])
    serve(world, images, third)
    world.afenv_json("lock", "--upgrade")
    assert base() == third.manifest_digest


def test_an_update_of_the_base_alone_keeps_the_packages(world: Any, images: ContentStore) -> None:
    manifest(world, reference := serve(world, images, make_foreign_image(images, [DEBIAN, PYTHON])), WHEELS)
    world.afenv_json("lock")
    world.publish_wheel("alpha", "2.0")
    world.afenv_json("lock", "--update", reference)
    (wheel,) = world.lock()["environments"]["default"]["wheels"]
    assert (wheel["name"], wheel["version"]) == ("alpha", "1.0")


def test_a_build_without_network_and_from_an_empty_cache(
    world: Any, images: ContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_foreign_image(images, [DEBIAN, PYTHON])
    manifest(world, serve(world, images, base), WHEELS)
    (first,) = world.afenv_json("build")
    shutil.rmtree(world.project / ".afenv")
    world.asked.clear()
    (second,) = world.afenv_json("build", "--offline")
    assert world.asked == []
    monkeypatch.setenv("AFENV_CACHE_DIR", str(world.folder / "another cache"))
    shutil.rmtree(world.project / ".afenv")
    status, _, err = world.afenv("build", "--offline", "--locked")
    assert (status, "E203" in err) == (4, True)
    (third,) = world.afenv_json("build", "--locked")
    assert first["image_id"] == second["image_id"] == third["image_id"]
    assert first["manifest_digest"] == third["manifest_digest"]
    assert world.afenv("lock", "--check")[0] == 0


def test_a_base_that_vanished(world: Any, images: ContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_foreign_image(images, [DEBIAN, PYTHON])
    manifest(world, reference := serve(world, images, base), WHEELS)
    world.afenv_json("lock")
    del world.contents[f"/v2/base/manifests/{base.manifest_digest}"]
    monkeypatch.setenv("AFENV_CACHE_DIR", str(world.folder / "another cache"))
    status, _, err = world.afenv("build", "--locked")
    assert (status, "E103" in err) == (4, True)
    assert f"afenv lock --update {reference}" in err


def test_a_blob_with_another_content(world: Any, images: ContentStore) -> None:
    base = make_foreign_image(images, [DEBIAN, PYTHON])
    manifest(world, serve(world, images, base), WHEELS)
    digest = base.layers[1].digest
    data = world.contents[f"/v2/base/blobs/{digest}"][1]
    world.contents[f"/v2/base/blobs/{digest}"] = ("application/octet-stream", data[:-1] + b"x")
    status, _, err = world.afenv("lock")
    assert (status, "E301" in err) == (5, True)
    assert not (world.project / "afenv.lock").exists()
    assert not ContentStore(world.cache).has(digest)


def test_a_layer_that_is_no_archive(world: Any, images: ContentStore) -> None:
    manifest(world, reference := serve(world, images, make_foreign_image(images, [DEBIAN, b"no tar" * 200])))
    status, _, err = world.afenv("lock")
    assert (status, "E510" in err, f"{reference}, layer 2" in err) == (2, True, True)
    assert "This image is damaged" in err
    assert not (world.project / "afenv.lock").exists()


def test_a_foreign_layer_is_not_even_asked_for(world: Any, images: ContentStore) -> None:
    image = make_foreign_image(images, [DEBIAN])
    document = json.loads(image.manifest)
    document["layers"][0]["urls"] = ["https://example.org/layer"]
    data = json.dumps(document).encode()
    reference = serve(world, images, image)
    for name in ("1", "sha256:" + hashlib.sha256(data).hexdigest()):
        world.contents[f"/v2/base/manifests/{name}"] = (media.IMAGE_MANIFEST, data)
    manifest(world, reference)
    status, _, err = world.afenv("lock")
    assert (status, "E112" in err) == (2, True)
    assert not any(image.layers[0].digest in path for path in world.asked)


def test_a_config_that_lies(world: Any, images: ContentStore) -> None:
    lie = {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}
    manifest(world, serve(world, images, make_foreign_image(images, [DEBIAN], rootfs=lie)))
    status, _, err = world.afenv("lock")
    assert (status, "E301" in err) == (5, True)


def test_an_index_gives_the_image_of_the_platform(world: Any, images: ContentStore) -> None:
    amd64 = make_foreign_image(images, [DEBIAN, PYTHON])
    arm64 = make_foreign_image(images, [DEBIAN], platform="linux/arm64")
    reference, digest = serve_index(world, images, {"linux/amd64": amd64, "linux/arm64": arm64}, "multi")
    manifest(world, reference)
    world.afenv_json("build")
    base = world.lock()["environments"]["default"]["base"]
    assert (base["digest"], base["index"]) == (amd64.manifest_digest, digest)
    text = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", text.replace("    bytecode", "    platform: linux/arm64\n    bytecode"))
    world.afenv_json("build")
    base = world.lock()["environments"]["default"]["base"]
    assert base["digest"] == arm64.manifest_digest
    assert built_files(world)[0].platform() == {"architecture": "arm64", "os": "linux", "variant": "v8"}


def test_a_platform_that_the_registry_does_not_have(world: Any, images: ContentStore) -> None:
    arm64 = make_foreign_image(images, [DEBIAN], platform="linux/arm64")
    reference, _ = serve_index(world, images, {"linux/arm64": arm64}, "arm")
    manifest(world, reference)
    status, _, err = world.afenv("lock")
    assert status in (2, 4)
    assert "linux/amd64" in err
    manifest(world, serve(world, images, arm64, tag="one"))
    status, _, err = world.afenv("lock")
    assert status in (2, 4)
    assert "linux/arm64" in err


def test_an_index_that_contains_itself(world: Any, images: ContentStore) -> None:
    reference, digest = serve_index(world, images, {}, "loop")
    entry = {"mediaType": media.IMAGE_INDEX, "digest": digest, "size": 10}
    loop = json.dumps({"schemaVersion": 2, "mediaType": media.IMAGE_INDEX, "manifests": [entry]}).encode()
    for name in ("loop", digest):
        world.contents[f"/v2/base/manifests/{name}"] = (media.IMAGE_INDEX, loop)
    manifest(world, reference)
    status, _, err = world.afenv("lock")
    assert status in (4, 5)
    assert "E900" not in err


def test_a_pinned_reference(world: Any, images: ContentStore) -> None:
    base = make_foreign_image(images, [DEBIAN])
    reference = f"{serve(world, images, base)}@{base.manifest_digest}"
    serve(world, images, make_foreign_image(images, [PYTHON]))
    manifest(world, reference)
    world.afenv_json("build")
    assert world.lock()["environments"]["default"]["base"]["digest"] == base.manifest_digest


def test_an_image_with_a_conda_environment(world: Any, images: ContentStore) -> None:
    base = make_foreign_image(
        images, [DEBIAN, [Member(path="var/opt/conda/conda-meta/history", content=b"")]]
    )
    manifest(world, serve(world, images, base), "    conda: {channels: [./channel], dependencies: [tool]}\n")
    status, _, err = world.afenv("lock")
    assert (status, "E112" in err) == (2, True)
    assert "/opt/conda" in err


def test_distributions_of_the_base_are_not_replaced(world: Any, images: ContentStore) -> None:
    site = "usr/local/lib/python3.11/dist-packages"
    beta = [Member(path=f"{site}/beta-1.0.dist-info/METADATA", content=b"Name: beta\n")]
    manifest(
        world,
        serve(world, images, make_foreign_image(images, [DEBIAN, PYTHON, beta])),
        "    pypi: {dependencies: [alpha, beta]}\n",
    )
    world.afenv_json("lock")
    assert [one["name"] for one in world.lock()["environments"]["default"]["wheels"]] == ["alpha"]
    world.publish_wheel("beta", "2.0")
    text = (world.project / "afenv.yaml").read_text()
    world.write("afenv.yaml", text.replace("alpha, beta", 'alpha, "beta>=2"'))
    status, _, err = world.afenv("lock")
    assert (status, "E102" in err) == (2, True)
    assert "beta 1.0, which the base" in err


def test_wheels_that_need_the_library_of_c_plus_plus(world: Any, images: ContentStore) -> None:
    reference = serve(world, images, make_foreign_image(images, [DEBIAN, PYTHON[:-1]]))
    manifest(world, reference, WHEELS)
    world.afenv_json("lock")
    assert [deb["name"] for deb in world.lock()["environments"]["default"]["debs"]] == ["libstdc++6"]


def test_the_c_library_of_the_base_decides_about_conda_packages(world: Any, images: ContentStore) -> None:
    channel = world.project / "channel"
    add_package(channel, "tool", "1.0", "0", ["__glibc >=2.17"])
    add_package(channel, "tool", "2.0", "0", ["__glibc >=2.36"])
    add_package(channel, "tool", "3.0", "0", ["__glibc >=2.38"])
    conda = "    conda: {channels: [./channel], dependencies: [tool]}\n"
    manifest(world, serve(world, images, make_foreign_image(images, [DEBIAN])), conda)
    world.afenv_json("build")
    environment = world.lock()["environments"]["default"]
    assert [one["version"] for one in environment["conda"]] == ["2.0"]
    assert environment["virtual-packages"]["__glibc"] == "2.36"
    assert "tool-2.0-0.tar.bz2#" in world.afenv("export", "explicit")[1]
    image, files = built_files(world)
    assert "var/opt/conda/share/tool.txt" in files  # /opt is a link in this base
    assert image.configuration()["config"]["Env"][2].startswith("CONDA_SHLVL=")
    (path,) = [one for one in image.configuration()["config"]["Env"] if one.startswith("PATH=")]
    assert path.startswith("PATH=/opt/conda/bin:/usr/local/sbin:")
    old = Member(
        path="usr/lib/x86_64-linux-gnu/libc.so.6",
        content=ELF + b"GNU C Library (GNU libc) stable release version 2.17.\n",
    )
    manifest(world, serve(world, images, make_foreign_image(images, [DEBIAN, [old]]), tag="old"), conda)
    world.afenv_json("lock")
    assert [one["version"] for one in world.lock()["environments"]["default"]["conda"]] == ["1.0"]
    manifest(world, serve(world, images, make_foreign_image(images, [ALPINE]), tag="musl"), conda)
    status, _, err = world.afenv("lock")
    assert (status, "E113" in err) == (2, True)


def test_conda_packages_on_a_c_library_alone(world: Any) -> None:
    channel = world.project / "channel"
    add_package(channel, "tool", "1.0", "0", ["__glibc >=2.28"])
    add_package(channel, "tool", "2.0", "0", ["__glibc >=2.36"])
    add_package(channel, "dash", "0.5", "0", [])
    add_package(channel, "ca-certificates", "1", "0", [])
    text = "afenv: 1\nname: small\nenvironments:\n  default:\n    base: {conda: {glibc: '2.35'}}\n"
    conda = "    conda: {channels: [./channel], dependencies: [tool]}\n"
    world.write("afenv.yaml", text + conda)
    world.afenv_json("build", "--check")
    environment = world.lock()["environments"]["default"]
    assert (environment["minimal"], environment["suite"]) == (True, "bookworm")
    assert [deb["name"] for deb in environment["debs"]] == ["busybox-static", "libc6"]
    assert [one["version"] for one in environment["conda"]] == ["1.0"]
    image, files = built_files(world)
    assert (files["usr/bin/sh"].target, files["usr/bin/env"].target) == ("busybox", "busybox")
    assert files["tmp"].mode == 0o1777
    assert b"analyst:x:1000:1000" in files["etc/passwd"].content
    assert b"hosts: files dns" in files["etc/nsswitch.conf"].content
    assert image.configuration()["config"]["Cmd"] == ["/bin/sh"]
    world.write("afenv.yaml", text + conda.replace("[tool]", "[tool, dash, ca-certificates]"))
    world.afenv_json("build", "--check")
    assert [deb["name"] for deb in world.lock()["environments"]["default"]["debs"]] == ["libc6"]
    _, files = built_files(world)
    assert files["usr/bin/sh"].target == "/opt/conda/bin/dash"
    assert files["etc/ssl/certs/ca-certificates.crt"].target == "/opt/conda/ssl/cacert.pem"
    assert "usr/bin/env" not in files


def test_a_base_of_conda_needs_conda(world: Any) -> None:
    world.write(
        "afenv.yaml", 'afenv: 1\nname: a\nenvironments: {default: {base: {conda: {glibc: "2.36"}}}}\n'
    )
    status, _, err = world.afenv("lock")
    assert (status, "E014" in err) == (2, True)
    text = 'afenv: 1\nname: a\nenvironments: {default: {base: {conda: {glibc: "3.0"}}, '
    world.write("afenv.yaml", text + "conda: {channels: [./channel], dependencies: [tool]}}}\n")
    status, _, err = world.afenv("lock")
    assert (status, "E013" in err) == (2, True)
