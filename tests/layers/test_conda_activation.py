"""What activation comes to, and that a shell agrees with it."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from afenv.documents.lock import LockedEnvironment
from afenv.errors import AfenvError
from afenv.layers import conda_activation
from afenv.layers.conda_activation import activation, activation_files
from afenv.layers.conda_plan import open_packages, tree_of
from afenv.layers.conda_shell import NotStatic, exported

BASE = {"CONDA_PREFIX": "/opt/conda", "PATH": "/opt/conda/bin:/bin", "LANG": "C.UTF-8", "EMPTY": ""}
PLACES = {"/opt/conda/share/gdal": "folder", "/opt/conda/lib/x.so": "file"}


def exists(path):
    return PLACES.get(path, "")


GDAL = """\
#!/bin/bash
# Store existing values and set to this conda env
if [[ -n "$GDAL_DATA" ]]; then
    export _CONDA_SET_GDAL_DATA=$GDAL_DATA
fi
if [ -d "$CONDA_PREFIX/share/gdal" ]; then
  export GDAL_DATA=$CONDA_PREFIX/share/gdal
  export GDAL_DRIVER_PATH="${CONDA_PREFIX}/lib/gdalplugins"
elif [ -d "${CONDA_PREFIX}/Library/share/gdal" ]; then
  export GDAL_DATA=$CONDA_PREFIX/Library/share/gdal
fi
export CPL_ZIP_ENCODING=UTF-8
"""


@pytest.mark.parametrize(
    ("script", "changes"),
    [
        ("", {}),
        ("# only a comment", {}),
        ("export A=1", {"A": "1"}),
        ("A=1", {}),
        ("A=1; export A", {"A": "1"}),
        ("export A='it'\\''s \"here\"; $HOME'", {"A": 'it\'s "here"; $HOME'}),
        ('export A="x y" B=$CONDA_PREFIX/b', {"A": "x y", "B": "/opt/conda/b"}),
        ('export PATH="$CONDA_PREFIX/sbin${PATH:+:$PATH}"', {"PATH": "/opt/conda/sbin:/opt/conda/bin:/bin"}),
        ("export A=${NOT_SET:-x}${EMPTY:-y}${EMPTY-z}${NOT_SET-w}", {"A": "xyw"}),
        ("export A=${PATH+p}${EMPTY:+q}${NOT_SET+r}", {"A": "p"}),
        ('if [ -z "${A+x}" ]; then export A=5; fi', {"A": "5"}),
        ("[ -f $CONDA_PREFIX/lib/x.so ] && export A=1 || export A=2", {"A": "1"}),
        ("[ -f $CONDA_PREFIX/share/gdal ] && export A=1", {}),
        ("test \"$EMPTY\" = '' && export A=1", {"A": "1"}),
        ("[ ! -e /opt/conda/none ] && export A=1", {"A": "1"}),
        ("[ a != b ] && ! false && { export A=1; }", {"A": "1"}),
        ("export A=1\nreturn 0\nexport A=2", {"A": "1"}),
        ("unset LANG; export A=${LANG:-none}", {"LANG": None, "A": "none"}),
        ("export A=1 \\\n  B=2", {"A": "1", "B": "2"}),
        (": ; true; export A=", {"A": ""}),
        (
            GDAL,
            {
                "GDAL_DATA": "/opt/conda/share/gdal",
                "GDAL_DRIVER_PATH": "/opt/conda/lib/gdalplugins",
                "CPL_ZIP_ENCODING": "UTF-8",
            },
        ),
    ],
)
def test_scripts_that_only_set_variables(script, changes, tmp_path):
    expected = {key: value for key, value in {**BASE, **changes}.items() if value is not None}
    assert exported(script, BASE, exists) == expected
    # and bash thinks so too
    prefix = tmp_path / "conda"
    (prefix / "share/gdal").mkdir(parents=True)
    (prefix / "lib").mkdir()
    (prefix / "lib/x.so").touch()
    here = script.replace("/opt/conda", str(prefix))
    variables = {key: value.replace("/opt/conda", str(prefix)) for key, value in BASE.items()}
    bash = shutil.which("bash")
    done = subprocess.run(
        [bash, "--norc", "-c", 'eval "f() {\n:\n$1\n}"; f; /usr/bin/env -0', "bash", here],
        env=variables,
        capture_output=True,
        check=True,
    )
    found = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    found = {key: value for key, value in found.items() if key not in ("PWD", "SHLVL", "_", "OLDPWD")}
    assert {key: value.replace(str(prefix), "/opt/conda") for key, value in found.items()} == expected


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("export A=$(pwd)", "command inside"),
        ("export A=`pwd`", "command inside"),
        ("export A=$((1+1))", "command inside"),
        ("export A=$HOME/x", "$HOME"),
        ("export A=~/x", "home"),
        ("export A=$1", "$1"),
        ("f() { export A=1; }; f", "function"),
        ("for a in 1 2; do export A=$a; done", "for"),
        ("while false; do :; done", "loop"),
        ("case $PATH in *x*) export A=1;; esac", "case"),
        (". $CONDA_PREFIX/x.sh", "runs ."),
        ("source x.sh", "runs source"),
        ("eval 'export A=1'", "runs eval"),
        ("python -c 1", "runs python"),
        ("$CMD x", "not known"),
        ("(export A=1)", "group"),
        ("export A=1 &", "background"),
        ("export A=1 > /dev/null", "redirects"),
        ("true | export A=1", "pipe"),
        ("A=1 true", "for one command"),
        ("export A", "no value"),
        ("export -n PATH", "changes -n"),
        ("export HOME=/x", "changes HOME"),
        ("export BASH_ENV=/x", "changes BASH_ENV"),
        ("export A='x\ny'", "cannot hold"),
        ("[ $NOT_SET = x ] && export A=1", "empty word"),
        ("A='a b'; [ $A = x ] && export B=1", "is split"),
        ("[[ $PATH == *conda* ]] && export A=1", "pattern"),
        ("[ -x /opt/conda/lib/x.so ] && export A=1", "not understood"),
        ("[ 1 -lt 2 ] && export A=1", "not understood"),
        ("[ a = b", "not understood"),
        ("[[ -n a && -n b ]] && export A=1", "not understood"),
        ("export A=${PATH%%:*}", "%%"),
        ("export A=${NOT_SET:?no}", ":?"),
        ("if true; then", "not understood"),
        ("exit 0", "runs exit"),
        ("set -e", "runs set"),
        ("export A='", "not understood"),
        ("if true; then " * 200 + "export A=1" + "; fi" * 200, "less nesting"),
    ],
)
def test_scripts_that_do_more(script, why):
    with pytest.raises(NotStatic) as caught:
        exported(script, BASE, exists)
    assert why in str(caught.value)


def environment_of(*made, **changes):
    values = {"request": "", "platform": "linux/amd64", "as_of": "", "conda_prefix": "/opt/conda"}
    return LockedEnvironment(conda=tuple(locked for locked, _ in made), **{**values, **changes})


def activated(*made, lost=frozenset(), **changes):
    environment = environment_of(*made, **changes)
    opened = open_packages(environment, {locked.file.sha256: path for locked, path in made}, 1)
    files = {}
    for name in sorted(opened):
        files |= activation_files(opened[name], lost)
    return environment, activation(files, environment, tree_of(opened))


OLD = "/placeholder/" + "p" * 60


def test_variables_of_packages(make_conda):
    """Files with the prefix replaced, in the order of their names; what the manifest says stays."""
    made = make_conda(
        "x",
        {
            "etc/conda/env_vars.d/x.json": b'{"JSON": "a b", "GONE": "***unset***", "MINE": "0"}',
            "etc/conda/activate.d/b.sh": b"export SECOND=$FIRST$JSON\n",
            "etc/conda/activate.d/a.sh": f"export FIRST={OLD}/share MINE=2 LANG=xx\n".encode(),
            "etc/conda/activate.d/c.csh": b"setenv C 1\n",
            "etc/conda/deactivate.d/a.sh": b"unset FIRST\n",
            "lib/z": b"1" * 100,
        },
        prefixes={"etc/conda/activate.d/a.sh": (OLD, "text")},
    )
    _, found = activated(made, variables={"MINE": "1"})
    assert found.scripts == {}
    assert found.variables == {
        "CONDA_DEFAULT_ENV": "base",
        "CONDA_PREFIX": "/opt/conda",
        "CONDA_SHLVL": "1",
        "FIRST": "/opt/conda/share",
        "JSON": "a b",
        "PATH": "/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SECOND": "/opt/conda/shareab".replace("ab", "a b"),
    }


def test_files_of_losers_do_not_count(make_conda):
    made = make_conda("x", {"etc/conda/activate.d/a.sh": b"export A=1\n"})
    _, found = activated(made, lost=frozenset(("etc/conda/activate.d/a.sh",)))
    assert "A" not in found.variables


def test_scripts_that_look_outside_of_the_prefix(make_conda):
    made = make_conda("x", {"etc/conda/activate.d/a.sh": b"[ -d /usr/x ] && export A=1\n"})
    _, found = activated(made)
    assert found.scripts == {"etc/conda/activate.d/a.sh": "it looks for /usr/x, which is not in the prefix"}


@pytest.mark.parametrize("text", [b"[]", b"{", b'{"A": 1}', b'{"A=": "1"}', b'{"": "1"}', b"\xff"])
def test_damaged_variables(make_conda, text):
    with pytest.raises(AfenvError, match="E303"):
        activated(make_conda("x", {"etc/conda/env_vars.d/x.json": text}))


def test_scripts_that_run_at_the_start(make_conda, new_layer, tmp_path):
    """They are sourced once, by the wrapper, by bash and by apptainer; the others are not."""
    files = {
        "etc/conda/activate.d/a.sh": b"export STATIC=1\n",
        "etc/conda/activate.d/b it's.sh": b"export DYNAMIC=$(echo $STATIC)2 COUNT=${COUNT}1\n",
        "etc/conda/activate.d/link.sh": ("symlink", "a.sh"),
    }
    made = make_conda("x", files)
    environment, found = activated(made)
    assert list(found.scripts) == ["etc/conda/activate.d/b it's.sh", "etc/conda/activate.d/link.sh"]
    assert found.variables["STATIC"] == "1"
    assert found.variables["BASH_ENV"] == "/opt/conda/etc/conda/afenv-activate.sh"
    assert conda_activation.entrypoint(environment, found) == ("/opt/conda/bin/afenv-activate",)
    layer = new_layer()
    conda_activation.write_environment(environment, found, layer.writer)
    written = layer.files()
    assert written.keys() == {
        ".singularity.d/env/91-afenv-conda.sh",
        "etc/profile.d/afenv-conda.sh",
        "opt/conda/bin/afenv-activate",
        "opt/conda/conda-meta/history",
        "opt/conda/etc/conda/afenv-activate.sh",
    }
    prefix = tmp_path / "conda"
    for name, (mode, data) in written.items():
        path = tmp_path / name.removeprefix("opt/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.replace(b"/opt/conda", str(prefix).encode()))
        path.chmod(mode)
    for name, data in files.items():
        path = prefix / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else files["etc/conda/activate.d/a.sh"])
    variables = {"STATIC": "1", "PATH": "/usr/bin:/bin"}
    with_bash = {**variables, "BASH_ENV": str(prefix / "etc/conda/afenv-activate.sh")}
    sourced = f". {tmp_path}/.singularity.d/env/91-afenv-conda.sh; echo $DYNAMIC $COUNT"
    for command, given in (
        ([str(prefix / "bin/afenv-activate"), "bash", "-c", "echo $DYNAMIC $COUNT"], with_bash),
        ([str(prefix / "bin/afenv-activate"), "sh", "-c", "echo $DYNAMIC $COUNT"], variables),
        (["bash", "-c", "bash -c 'echo $DYNAMIC $COUNT'"], with_bash),
        (["sh", "-c", sourced], variables),
    ):
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("12 1\n", ""), command


def test_login_shells_have_the_whole_path(make_conda, new_layer):
    script = b'export PATH="$CONDA_PREFIX/share/x/bin:$PATH"\n'
    environment, found = activated(make_conda("x", {"etc/conda/activate.d/a.sh": script}))
    layer = new_layer()
    conda_activation.write_environment(environment, found, layer.writer)
    text = layer.files()["etc/profile.d/afenv-conda.sh"][1]
    command = ["/bin/sh", "-c", f"PATH=/bin\n{text.decode()}\necho $PATH"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == b"/opt/conda/share/x/bin:/opt/conda/bin:/bin\n"


def test_values_that_apptainer_does_not_copy_well(make_conda, new_layer):
    made = make_conda("x", {"etc/conda/activate.d/a.sh": b"export A='it'\\''s \"$B\"' C=plain\n"})
    environment, found = activated(made)
    layer = new_layer()
    conda_activation.write_environment(environment, found, layer.writer)
    text = layer.files()[".singularity.d/env/91-afenv-conda.sh"][1]
    done = subprocess.run(["sh", "-c", f"{text.decode()}\necho $A $C"], capture_output=True, check=True)
    assert done.stdout == b'it\'s "$B"\n'


def test_nothing_to_run_nothing_to_wrap(make_conda, new_layer):
    environment, found = activated(make_conda("x", {"etc/conda/activate.d/a.sh": b"export A=1\n"}))
    assert conda_activation.entrypoint(environment, found) == ()
    layer = new_layer()
    conda_activation.write_environment(environment, found, layer.writer)
    written = layer.files()
    assert list(written) == ["etc/profile.d/afenv-conda.sh", "opt/conda/conda-meta/history"]
    script = written["etc/profile.d/afenv-conda.sh"][1].decode()
    done = subprocess.run(
        ["sh", "-c", f"PATH=/usr/bin:/bin\n{script}\necho $PATH"], capture_output=True, check=True
    )
    assert done.stdout == b"/opt/conda/bin:/usr/bin:/bin\n"
