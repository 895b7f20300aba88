"""Alternatives: what scripts install, found without running them."""

from __future__ import annotations

import pytest

from afenv.layers.alternatives import install, links, read_script


def read(script, exists=lambda path: False):
    return read_script("sample", "amd64", script.encode(), exists)


INSTALL = "update-alternatives --install /usr/bin/x x /usr/bin/x-1 10"
WORDS = tuple(INSTALL.split())


@pytest.mark.parametrize(
    "script",
    [
        INSTALL,
        INSTALL.replace(" x ", " \\\n   x "),
        INSTALL + " # comment",
        INSTALL + " || true",
        INSTALL + " >/dev/null 2>&1",
        f'if [ "$1" = configure ]; then\n{INSTALL}\nfi',
        f'if [ "$1" = "abort-upgrade" ] || [ "$1" = \'configure\' ] ; then {INSTALL}; fi',
        f'case "$1" in\n  abort-*) exit 1;;\n  configure|x) {INSTALL}\n  ;;\n *) exit 1;; esac',
        f"case $1 in (configure) {INSTALL};; esac",
        f'if test -z "$2"; then {INSTALL}; fi',
        f"f() {{\n  {INSTALL}\n}}\nf",
        'name=x; update-alternatives --install /usr/bin/$name ${name} /usr/bin/"$name"-1 10',
        "for n in x; do update-alternatives --install /usr/bin/$n $n /usr/bin/$n-1 10; done",
        "o='--install /usr/bin/x x'; update-alternatives $o /usr/bin/x-1 `expr 20 - 10`",
        f"cat <<EOF\nEOF2 ' \"\nEOF\n{INSTALL}",
        f"cat <<-'EOF'\n\tupdate-alternatives --install 'x\n\tEOF\n{INSTALL}",
        f"if something-unknown; then exit 1; fi\n{INSTALL}",
        f"f() {{ if something-unknown; then return; fi; }}; f; {INSTALL}",
        f"! false && {INSTALL}",
        f"( {INSTALL} )",
        f"{{ {INSTALL}; }}",
        f'if dpkg --compare-versions "$2" lt 2; then {INSTALL}; fi',
        f'if [ -z "$x" -a ! -e /none ]; then {INSTALL}; fi',
        f'if [ "$(uname -s)" = Linux ]; then {INSTALL}; fi',
        f"if false; then :; elif true; then {INSTALL}; else exit 1; fi",
        f"while read line; do echo $line; done < /etc/x\n{INSTALL}",
        "f() { update-alternatives --install /usr/bin/$1 $1 /usr/bin/$1-1 $2; }\nf x 10",
        f"/usr/bin/{INSTALL}",
        "set -- /usr/bin; p=/usr/bin/x.y; update-alternatives --install ${p%.y} x ${p%.*}-1 ${q:-10}",
    ],
)
def test_certain_invocations(script):
    found, warnings = read("#!/bin/sh\nset -e\n" + script + "\n")
    assert [words[-5:] for words in found] == [WORDS[1:]]
    assert warnings == []


@pytest.mark.parametrize(
    "script",
    [
        f'if [ "$1" = triggered ]; then {INSTALL}; fi',
        f'if [ -n "$2" ]; then {INSTALL}; fi',
        f"exit 0\n{INSTALL}",
        f"false && {INSTALL}",
        f"echo '{INSTALL}'",
        f"# {INSTALL}",
        f"f() {{ {INSTALL}; }}",
        f"case $2 in ?*) {INSTALL};; esac",
        f"if [ -e /absent ]; then {INSTALL}; fi",
        f"cat <<EOF\n{INSTALL}\nEOF",
    ],
)
def test_what_does_not_run(script):
    assert read("#!/bin/sh\n" + script + "\n") == ([], [])


@pytest.mark.parametrize(
    "script",
    [
        f"if something-unknown; then {INSTALL}; fi",
        f"something-unknown || {INSTALL}",
        f"if something-unknown; then exit 0; fi\n{INSTALL}",
        f"f() {{ something-unknown && return; {INSTALL}; }}; f",
        f'db_get x; if [ "$RET" = true ]; then {INSTALL}; fi',
        f'read x; if [ -z "$x" ]; then {INSTALL}; fi',
        f'if [ -z "$PATH" ]; then {INSTALL}; fi',
        f'if something-unknown; then shift; fi; if [ "$1" = configure ]; then {INSTALL}; fi',
        f"case $(unknown) in a) {INSTALL};; esac",
        "update-alternatives --install /usr/bin/x x $(unknown) 10",
        "for f in /usr/bin/x-*; do update-alternatives --install /usr/bin/x x $f 10; done",
        f"unknown | while read x; do {INSTALL}; done",
        "if unknown; then p=10; else p=20; fi; update-alternatives --install /usr/bin/x x /usr/bin/x-1 $p",
        f"if true; then {INSTALL}",
        f"{INSTALL} 'unfinished",
        f"f() {{ f; }}; f; {INSTALL}",
    ],
)
def test_what_is_not_certain_is_reported(script):
    found, warnings = read("#!/bin/sh\n" + script + "\n")
    assert found == []
    assert warnings
    assert all(warning.startswith("sample: ") for warning in warnings)


def test_a_script_in_another_language_is_reported():
    assert read("#!/usr/bin/perl\n" + INSTALL)[1]
    assert read("#!/bin/bash -e\n" + INSTALL)[0]


def test_files_that_exist_are_asked_for():
    script = f"#!/bin/sh\nif [ -e /usr/bin/x-1 ]; then {INSTALL}; fi\n"
    assert read(script, lambda path: path == "/usr/bin/x-1")[0]


def groups_of(*invocations):
    groups = {}
    for words in invocations:
        assert install(groups, ["update-alternatives", *words.split()], "sample") == []
    return groups


def test_the_highest_priority_wins_with_its_slaves():
    groups = groups_of(
        "--install /usr/bin/pager pager /usr/bin/more 50 --slave /m/pager.1 pager.1 /m/more.1",
        "--quiet --install /usr/bin/pager pager /usr/bin/less 77 --slave /m/pager.1 pager.1 /m/less.1"
        " --slave /m/x.1 x.1 /m/absent.1",
    )
    assert links(groups.values(), lambda path: path != "/m/absent.1") == {
        "/usr/bin/pager": "/etc/alternatives/pager",
        "/etc/alternatives/pager": "/usr/bin/less",
        "/m/pager.1": "/etc/alternatives/pager.1",
        "/etc/alternatives/pager.1": "/m/less.1",
    }
    assert groups["pager"].admin_file() == (
        b"auto\n/usr/bin/pager\npager.1\n/m/pager.1\nx.1\n/m/x.1\n\n"
        b"/usr/bin/less\n77\n/m/less.1\n/m/absent.1\n"
        b"/usr/bin/more\n50\n/m/more.1\n\n\n"
    )


def test_at_equal_priority_the_first_path_wins():
    for order in (["/b 5", "/a 5"], ["/a 5", "/b 5"]):
        groups = groups_of(*(f"--install /usr/bin/x x {item}" for item in order))
        assert groups["x"].best().path == "/a"


def test_nothing_to_remove():
    assert groups_of("--remove x /usr/bin/x", "--auto x") == {}


@pytest.mark.parametrize(
    "words",
    [
        "--install /usr/bin/x x /usr/bin/y high",
        "--install /usr/bin/x",
        "--install usr/bin/x x /usr/bin/y 1",
        "--install /usr/../x x /usr/bin/y 1",
        "--install /usr/bin/x ../x /usr/bin/y 1",
        "--set x /usr/bin/x",
        "unknown",
    ],
)
def test_what_cannot_be_applied_is_reported(words):
    groups = {}
    assert install(groups, ["update-alternatives", *words.split()], "sample")
    assert groups == {}
