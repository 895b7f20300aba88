"""The scripts of the runtime, run by a real shell; and keys in Apptainer's listing."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from afenv.errors import AfenvError
from afenv.layers.tar_header import FILE, FOLDER, SYMBOLIC_LINK
from afenv.testing import make_image
from afenv_builders.apptainer import runtime_files
from afenv_builders.apptainer.signing import key_number

WILD = 'it\'s $HOME "x" `id` \\ ! * \n second line'


def shell(script: str, *arguments: str, **variables: str) -> str:
    command = ["/bin/sh", "-c", script, "sh", *arguments]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    return done.stdout


def show(settings: dict[str, Any], name: str, **variables: str) -> str:
    return shell(runtime_files.variables(settings) + f'\nprintf %s "${name}"', **variables)


def test_variables_keep_every_character():
    assert show({"Env": [f"A={WILD}"]}, "A") == WILD


def test_a_variable_of_the_caller_wins_but_for_path():
    settings = {"Env": ["A=image", "PATH=/image/bin", "EMPTY=", "NO", "bad-name=1", "9=2"]}
    assert show(settings, "A", A="caller") == "caller"
    assert show(settings, "A", A="") == "image"
    assert show(settings, "PATH", PATH="/caller") == "/image/bin"
    assert show(settings, "EMPTY") == ""


def run(settings: dict[str, Any], *arguments: str) -> list[str]:
    """What ``apptainer run`` would execute."""
    script = runtime_files.runscript(settings).replace("exec ", "printf '%s\\0' ")
    return shell(script, *arguments).split("\0")[:-1]


@pytest.mark.parametrize(
    ("settings", "arguments", "expected"),
    [
        ({"Entrypoint": ["e", "x y"], "Cmd": ["c"]}, (), ["e", "x y", "c"]),
        ({"Entrypoint": ["e", "x y"], "Cmd": ["c"]}, ("a", "b c"), ["e", "x y", "a", "b c"]),
        ({"Entrypoint": ["e"]}, (), ["e"]),
        ({"Entrypoint": ["e"]}, ("$HOME", "`id`", 'q"q'), ["e", "$HOME", "`id`", 'q"q']),
        ({"Cmd": ["c", WILD]}, (), ["c", WILD]),
        ({"Cmd": ["c", "d"]}, ("a",), ["a"]),
        ({}, (), ["/bin/sh"]),
        ({}, ("a", ""), ["a", ""]),
        ({"Entrypoint": None, "Cmd": None}, (), ["/bin/sh"]),
    ],
)
def test_the_runscript_does_what_docker_does(settings, arguments, expected):
    assert run(settings, *arguments) == expected


def test_libraries_of_the_host_are_found():
    script = runtime_files._LIBRARIES + 'printf "%s|%s" "$LD_LIBRARY_PATH" "$PS1"'
    assert shell(script, PS1="") == "/.singularity.d/libs|Apptainer> "
    assert shell(script, LD_LIBRARY_PATH="/x", PS1="$ ") == "/x:/.singularity.d/libs|$ "


def test_what_the_caller_says_of_path():
    script = runtime_files._PATHS + 'printf %s "$PATH"'
    assert shell(script, PATH="/i") == "/i"
    more = {"SING_USER_DEFINED_PREPEND_PATH": "/a", "SING_USER_DEFINED_APPEND_PATH": "/z"}
    assert shell(script, PATH="/i", **more) == "/a:/i:/z"
    assert shell(script, PATH="/i", SING_USER_DEFINED_PATH="/only") == "/only"


@pytest.mark.parametrize("name", sorted(runtime_files._ACTIONS))
def test_scripts_are_well_formed(name):
    subprocess.run(["/bin/sh", "-n"], input=runtime_files._ACTIONS[name], text=True, check=True)


def test_what_is_added_is_what_lacks():
    everything = {path.encode(): FOLDER for path in runtime_files.MOUNT_POINTS}
    everything |= {path.encode(): FILE for path in (*runtime_files.MOUNT_FILES, *runtime_files.LINKS)}
    assert runtime_files.additions(everything) == {}
    added = runtime_files.additions({b"var": SYMBOLIC_LINK, b"etc": FOLDER, b"etc/hosts": FILE})
    assert "var/tmp" not in added  # /var leads elsewhere
    assert "etc/hosts" not in added
    assert added["etc/resolv.conf"][0] == FILE
    assert added["tmp"] == (FOLDER, 0o1777, "")
    assert added["singularity"] == (SYMBOLIC_LINK, 0o777, ".singularity.d/runscript")


def test_inspect_has_everything_that_apptainer_asks_for(store):
    image = make_image(store)
    found = json.loads(runtime_files.inspect_metadata(image))["data"]["attributes"]
    assert sorted(found) == ["deffile", "environment", "helpfile", "labels", "runscript", "startscript"]
    assert found["labels"]["org.afenv.analysis"] == "sample"
    assert found["labels"]["org.label-schema.build-arch"] == "amd64"
    assert "/.singularity.d/env/10-docker2singularity.sh" in found["environment"]
    assert image.image_id in found["deffile"]
    assert found["helpfile"].startswith("sample 1.0")


LISTING = """\
Private key listing (/home/x/.apptainer/keys/pgp-secret):

0)  User:              One () <one@example.org>
    Creation time:     2026-01-01 00:00:00 +0000 UTC
    Fingerprint:       04334A6977A51EBF00FA775EE7B6D70996ABB997
    Length (in bits):  2048

1)  User:              Two () <two@example.org>
    Creation time:     2026-01-01 00:00:00 +0000 UTC
    Fingerprint:       1111111111111111111111111111111196ABB997
    Length (in bits):  4096
"""


def test_a_key_is_found_by_its_fingerprint():
    assert key_number(LISTING, "04334A6977A51EBF00FA775EE7B6D70996ABB997") == 0
    assert key_number(LISTING, "0x1111 1111 96ab b997") == 1


@pytest.mark.parametrize("key", ["96ABB997", "FFFFFFFFFFFFFFFF", "me@example.org", "", "97"])
def test_keys_that_are_not_one(key):
    with pytest.raises(AfenvError) as caught:
        key_number(LISTING, key)
    assert caught.value.code == "E030"
