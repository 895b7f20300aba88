from __future__ import annotations

import pytest

from afenv.errors import AfenvError
from afenv.resolve.debian.index import compact_form, open_index

PACKAGES = b"""\
Package: libb
Source: b-src (1.0)
Version: 1.0+b1
Architecture: amd64
Provides: libb-abi (= 1), libb-virtual:any,
 libb-folded
Depends: libc6 (>= 2.36),
\tgcc-base
Filename: pool/main/b/b-src/libb_1.0+b1_amd64.deb
Size: 1234
SHA256: abc
Description: it says
 Package: nothing
Tag: a::b

Package: init
Version: 2
Architecture: all
Essential: yes
Filename: pool/main/i/init/init_2_all.deb
Size: 1
SHA256: def

Package: libb
Version: 0.9
Architecture: amd64
Filename: pool/main/b/b-src/libb_0.9_amd64.deb
Size: 1
SHA256: 012
"""


def test_compact_form_keeps_what_resolving_needs() -> None:
    index = open_index(compact_form(PACKAGES))
    assert set(index.names) == {"libb", "init"}
    assert index.essential == ("init",)
    assert index.provides == {"libb-abi": ["libb"], "libb-virtual": ["libb"], "libb-folded": ["libb"]}
    newer, older = index.stanzas_of("libb")
    assert older["Version"] == "0.9"
    assert newer == {
        "Package": "libb",
        "Source": "b-src (1.0)",
        "Version": "1.0+b1",
        "Architecture": "amd64",
        "Provides": "libb-abi (= 1), libb-virtual:any, libb-folded",
        "Depends": "libc6 (>= 2.36), gcc-base",
        "Filename": "pool/main/b/b-src/libb_1.0+b1_amd64.deb",
        "Size": "1234",
        "SHA256": "abc",
    }
    assert index.stanzas_of("nothing") == []


@pytest.mark.parametrize("packages", [b"", b"\n", b"\n\n\n"])
def test_no_packages(packages: bytes) -> None:
    index = open_index(compact_form(packages))
    assert not index.names
    assert index.stanzas_of("a") == []


@pytest.mark.parametrize("field", [b"Version", b"Filename", b"Size", b"SHA256"])
def test_damaged_stanza(field: bytes) -> None:
    with pytest.raises(AfenvError, match="E303"):
        compact_form(PACKAGES.replace(b"\n" + field + b":", b"\nX-" + field + b":"))


def test_stanza_without_a_name() -> None:
    with pytest.raises(AfenvError, match="E303"):
        compact_form(PACKAGES.replace(b"Package: init", b"X-Package: init"))
