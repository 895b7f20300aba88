"""How the environment's own Python is started on the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from afenv.errors import AfenvError
from afenv.layers import interpreter


@pytest.mark.parametrize("real", ["ld-linux-x86-64.so.2", "ld-2.31.so"])
def test_the_loader_is_found_under_its_own_name(tmp_path: Path, real: str) -> None:
    libraries = tmp_path / "lib" / "x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    (libraries / real).write_bytes(b"")
    if real != "ld-linux-x86-64.so.2":  # as in Debian before bookworm
        (libraries / "ld-linux-x86-64.so.2").symlink_to(real)
    (libraries / "libdl-2.31.so").write_bytes(b"")
    assert interpreter._command(tmp_path, "3.9") == (
        str(libraries / real),
        "--library-path",
        str(libraries),
        str(tmp_path / "usr/bin/python3.9"),
    )


def test_packages_without_a_loader(tmp_path: Path) -> None:
    with pytest.raises(AfenvError, match="dynamic loader") as raised:
        interpreter._command(tmp_path, "3.11")
    assert raised.value.code == "E404"
