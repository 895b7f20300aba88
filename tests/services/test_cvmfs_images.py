"""Published images and the real Apptainer, as root and as an ordinary user; and the kernel's overlay."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from afenv.oci.diff import diff
from afenv.oci.layout import write_layout
from afenv.oci.publishing import folder_target
from afenv.testing import Member, folder, make_image
from afenv_builders.cvmfs import CvmfsBuilder
from afenv_builders.cvmfs.names import layer_path
from tests.services.conftest import tool

pytestmark = pytest.mark.services
NOBODY = pwd.getpwnam("nobody")
NAME = "registry.example.org/group/analysis:1.0"
VARIABLES = {"ODD": 'a b$c"d', "WORD": 'it\'s $HOME "x" `id`'}


@pytest.fixture
def image(store, program):
    """An image that runs the program, with variables and arguments that are hard to quote."""
    return make_image(
        store,
        [
            (
                *(folder("bin"), Member(path="bin/program", content=program, mode=0o755)),
                Member(path="bin/sh", content=Path(tool("busybox")).read_bytes(), mode=0o755),
                *(folder("etc"), Member(path="etc/passwd", content=b"root:x:0:0::/root:/bin/sh\n")),
                *(folder("data"), Member(path="data/old", content=b"old")),
            ),
            (Member(path="data/old", content=b"new"), Member(path="data/more"), folder("data", 0o711)),
        ],
        entrypoint=("/bin/program",),
        variables=VARIABLES,
    )


@pytest.fixture
def root(image, store, place) -> Path:
    """A folder with the published image."""
    CvmfsBuilder().publish(image, store, NAME, folder_target(place / "unpacked"), quiet=True)
    return place / "unpacked"


def test_apptainer_runs_the_tree_and_the_name(apptainer, call, image, root, user):
    flat = (root / NAME).resolve()
    for path in (flat, root / NAME):
        silent = (apptainer, "--silent")
        assert call(*silent, "exec", path, "/bin/program", **user).stdout == "hello\n"
        for name, value in VARIABLES.items():
            assert call(*silent, "exec", path, "program", "variable", name, **user).stdout == f"{value}\n"
            assert call(*silent, "run", path, "variable", name, **user).stdout == f"{value}\n"
        own = user.get("user", os.getuid())
        assert call(*silent, "exec", path, "program", "who", **user).stdout.startswith(f"{own}:")
        call(*silent, "exec", path, "program", "exit", "7", status=7, **user)
    assert image.image_id in call(apptainer, "inspect", "--deffile", root / NAME, **user).stdout


def test_afenv_runs_the_name(apptainer, call, root, place):
    """With an empty cache, so that nothing but the tree can be run."""
    (place / "work").mkdir()
    environment = {**os.environ, "AFENV_CACHE_DIR": str(place / "cache")}
    words = [sys.executable, "-m", "afenv", "run", "--image", root / NAME, "--runtime", "apptainer", "--"]
    done = call(*words, "variable", "ODD", cwd=place / "work", env=environment)
    assert done.stdout == VARIABLES["ODD"] + "\n"
    call(*words, "write", "result", cwd=place / "work", env=environment)
    assert (place / "work/result").read_text() == "written\n"
    call(*words, "exit", "7", cwd=place / "work", env=environment, status=7)


def test_an_ordinary_user_publishes_the_same_files(apptainer, call, image, store, place):
    if os.getuid() != 0:
        pytest.skip("not root")
    write_layout(image, store, place / "image.oci")
    CvmfsBuilder().publish(image, store, NAME, folder_target(place / "warm"), quiet=True)  # all is imported
    own = place / "own"
    own.mkdir()
    os.chown(own, NOBODY.pw_uid, NOBODY.pw_gid)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            os.umask(0o077)
            from afenv.oci.read import open_image

            with open_image(place / "image.oci") as opened:
                CvmfsBuilder().publish(
                    opened.image, opened.blobs, NAME, folder_target(own / "out"), quiet=True
                )
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    published = own / "out" / NAME
    assert published.resolve().stat().st_uid == NOBODY.pw_uid
    assert not diff(place / "image.oci", published).differs
    assert (own / "out").stat().st_mode & 0o777 == 0o700  # the caller's umask decides on the folder itself
    assert (own / "out/.flat").stat().st_mode & 0o777 == 0o755
    silent = (apptainer, "--silent")
    user = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": [], "cwd": own}
    environment = {"PATH": os.environ["PATH"], "HOME": str(own)}
    assert call(*silent, "exec", published, "program", env=environment, **user).stdout == "hello\n"


def test_layers_laid_on_one_another_are_the_image(call, image, store, root, place):
    """As the containerd snapshotter and Podman use ``.layers``: the lower folders of an overlay."""
    if os.getuid() != 0:
        pytest.skip("not root")
    lower = ":".join(str(root / layer_path(layer.digest) / "layerfs") for layer in reversed(image.layers))
    (place / "merged").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", f"ro,lowerdir={lower}", place / "merged"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert mounted.returncode == 0, mounted.stderr
    try:
        write_layout(image, store, place / "image.oci")
        found = diff(place / "image.oci", place / "merged")
        assert not found.files
    finally:
        subprocess.run(["umount", place / "merged"], check=True)
