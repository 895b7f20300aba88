"""Packages with whatever is hard to install. Tiny, made of nothing; their ``python`` does not run."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from packages import OLD_PLACEHOLDER, PLACEHOLDER, TIME, File, Package

SHORT = "/short/prefix_placehold"


def _text(path: str, text: str, *, mode: int = 0o644, placeholder: str = PLACEHOLDER) -> File:
    """A file with a text placeholder."""
    content = text.replace("@", placeholder).encode()
    return File(path=path, content=content, mode=mode, prefix="text", placeholder=placeholder)


def _binary(path: str, *parts: str | bytes, mode: int = 0o755, placeholder: str = PLACEHOLDER) -> File:
    """A file with binary placeholders; text parts stand for what follows the placeholder."""
    content = b"".join(
        part.replace("@", placeholder).encode() if isinstance(part, str) else part for part in parts
    )
    return File(path=path, content=content, mode=mode, prefix="binary", placeholder=placeholder)


def _link(path: str, target: str) -> File:
    return File(path=path, kind="symlink", target=target)


def _names() -> Package:
    composed = unicodedata.normalize("NFC", "Müon–µ.txt")
    decomposed = unicodedata.normalize("NFD", "Gerät.txt")
    long = "/".join(f"{'long' * 20}-{number}" for number in range(4))
    paths = (
        composed,
        decomposed,
        "名前 with space/データ.txt",
        "quotes ' and \".txt",
        "back\\slash",
        "tab\there",
        "percent%20.txt",
        "-dash",
        ".hidden/.file",
        f"{long}/end.txt",
        "x" * 200,
    )
    return Package(
        name="hard-names",
        version="1.0",
        noarch="generic",
        files=tuple(File(path=f"share/hard-names/{path}", content=path.encode()) for path in paths),
    )


def _empty() -> Package:
    return Package(
        name="hard-empty",
        version="1.0",
        noarch="generic",
        files=(
            File(path="share/hard-empty/nothing"),
            File(path="share/hard-empty/nothing.py"),
            File(path="bin/hard-empty", mode=0o755),
            File(path="share/hard-empty/unlisted", kind="directory", listed=False),
        ),
    )


def _directories() -> Package:
    """Folders that ``paths.json`` lists, as rattler-build writes them; py-rattler cannot install them."""
    return Package(
        name="hard-directories",
        version="1.0",
        noarch="generic",
        files=(
            File(path="share/hard-directories/folder", kind="directory"),
            File(path="share/hard-directories/deep/er/folder", kind="directory"),
            File(path="share/hard-directories/full", kind="directory"),
            File(path="share/hard-directories/full/file", content=b"x"),
        ),
    )


def _links(extension: str) -> Package:
    suffix = "" if extension == ".conda" else "-bz2"
    folder = f"share/hard-links{suffix}"
    return Package(
        name=f"hard-links{suffix}",
        version="1.0",
        noarch="generic",
        extension=extension,
        files=(
            File(path=f"{folder}/file", content=b"content\n"),
            File(path=f"{folder}/sub/file", content=b"in sub\n"),
            _link(f"{folder}/relative", "file"),
            _link(f"{folder}/up/and/down", "../../sub/file"),
            _link(f"{folder}/chain", "relative"),
            _link(f"{folder}/dangling", "nowhere"),
            _link(f"{folder}/subdir", "sub"),
            _link(f"{folder}/dot", "."),
            _link(f"{folder}/sub/loop", "loop"),
            File(path=f"{folder}/second", kind="hardlink", target=f"{folder}/file"),
            File(path=f"{folder}/a-before-file", kind="hardlink", target=f"{folder}/file"),
        ),
    )


def _absolute() -> Package:
    """An absolute link, which leads into the prefix only where that is /opt/conda."""
    folder = "share/hard-absolute"
    return Package(
        name="hard-absolute",
        version="1.0",
        noarch="generic",
        files=(
            File(path=f"{folder}/file", content=b"content\n"),
            _link(f"{folder}/absolute", f"/opt/conda/{folder}/file"),
        ),
    )


def _clobber() -> Iterator[Package]:
    for name, depends in (("a", ()), ("b", ("hard-clobber-a",)), ("c", ("hard-clobber-b",))):
        yield Package(
            name=f"hard-clobber-{name}",
            version="1.0",
            noarch="generic",
            depends=depends,
            files=(
                File(path="share/hard-clobber/same.txt", content=b"the same\n"),
                File(path="share/hard-clobber/differs.txt", content=f"from {name}\n".encode()),
                _text("share/hard-clobber/prefix.txt", f"{name} in @\n"),
                File(path="share/hard-clobber/mode", content=b"x", mode=0o755 if name == "b" else 0o644),
                _link("share/hard-clobber/kind", "same.txt")
                if name == "b"
                else File(path="share/hard-clobber/kind", content=b"a file\n"),
                File(path=f"share/hard-clobber/own-{name}", content=b"own\n"),
            ),
        )


def _binaries() -> Package:
    return Package(
        name="hard-binary",
        version="1.0",
        subdir="linux-64",
        files=(
            _binary("bin/hard-one", b"\x7fELF\0\1\2", "@/lib", b"\0after\0\xff\xfe"),
            _binary("bin/hard-bare", b"\0", "@", b"\0\0\0end"),
            _binary("bin/hard-several", b"\0", "@/lib:@/lib64:@/x", b"\0tail\0", "@/again", b"\0"),
            _binary("bin/hard-before", b"\0-rpath=", "@/lib", b"\0\x80\x81"),
            _binary("bin/hard-no-end", b"\0start\0", "@/share"),
            _binary("bin/hard-no-start", "@/share", b"\0"),
            _binary("bin/hard-at-once", "@", b"\0", "@", b"\0"),
            _binary("bin/hard-none", b"\0\1\2 no placeholder in here \0"),
            _binary("bin/hard-partly", b"\0", PLACEHOLDER[:-1], b"\0", "@/lib", b"\0"),
            _binary("bin/hard-not-ascii", b"\0", "@/lib/Müon", b"\0\xc3\x28"),
            _binary("bin/hard-newline", b"\0", "@/lib\nmore @ text\n", b"\0"),
            _binary("bin/hard-page", b"\0" * 65530, "@/lib", b"\0" * 70000),
        ),
    )


def _short() -> Package:
    """For prefixes of no more bytes than its placeholder, such as /opt/conda."""
    return Package(
        name="hard-short",
        version="1.0",
        subdir="linux-64",
        files=(_binary("lib/hard-short.so", b"\0", "@/lib", b"\0", placeholder=SHORT),),
    )


def _texts() -> Package:
    folder, prefix = "share/hard-text", PLACEHOLDER.encode()
    return Package(
        name="hard-text",
        version="1.0",
        subdir="linux-64",
        files=(
            _text(f"{folder}/one.txt", "prefix=@\n"),
            _text(f"{folder}/many.txt", "@/lib:@/bin @@\nend @"),
            _text(f"{folder}/crlf.txt", "a=@\r\nb=@/x\r\n"),
            _text(f"{folder}/none.txt", "nothing to replace\n"),
            _text(f"{folder}/not-ascii.txt", "Präfix: @ – µ\n"),
            File(
                path=f"{folder}/latin1.txt",
                content=b"\xe4\xff " + prefix + b" \xfe\n",
                prefix="text",
            ),
            File(path=f"{folder}/nul.txt", content=b"a\0" + prefix + b"/lib\0b\n", prefix="text"),
            _text(f"{folder}/short.txt", "@ and no other\n", placeholder=SHORT),
            File(path=f"{folder}/not-marked.txt", content=PLACEHOLDER.encode() + b" stays\n"),
            _text("lib/pkgconfig/hard-text.pc", "prefix=@\nlibdir=${prefix}/lib\n"),
        ),
    )


def _shebangs() -> Package:
    scripts = {
        "python": "#!@/bin/python3.11\nprint('@')\n",
        "options": "#!@/bin/python3.11 -E -s\npass\n",
        "space": "#! @/bin/python3.11\npass\n",
        "spaces": "#!  @/bin/python3.11   -E\npass\n",
        "sh": "#!@/bin/sh -e\necho @\n",
        "env": "#!/usr/bin/env python\nprefix = '@'\n",
        "env-prefix": "#!/usr/bin/env -S @/bin/python3.11 -E\npass\n",
        "long": "#!@/" + "very-long-folder/" * 8 + "bin/tool\npass\n",
        "long-options": "#!@/" + "very-long-folder/" * 8 + "bin/tool -a -b\npass\n",
        "second-line": "\n#!@/bin/python3.11\n",
        "crlf": "#!@/bin/python3.11\r\npass\r\n",
        "no-newline": "#!@/bin/python3.11",
        "no-prefix": "#!/bin/sh\necho\n",
        "perl": "#!@/bin/perl -w\nprint;\n",
    }
    files = [_text(f"bin/hard-{name}", text, mode=0o755) for name, text in scripts.items()]
    files.append(_text("share/hard-shebang/not-executable", "#!@/bin/python3.11\n"))
    return Package(name="hard-shebang", version="1.0", subdir="linux-64", files=tuple(files))


def _old() -> Iterator[Package]:
    yield Package(
        name="hard-old",
        version="0.1",
        build="py311_0",
        subdir="linux-64",
        extension=".tar.bz2",
        old=True,
        timestamp=1262304000,  # 2010
        files=(
            _text("bin/hard-old", "#!@/bin/python\nprint('@')\n", mode=0o755, placeholder=OLD_PLACEHOLDER),
            _text("share/hard-old/one.txt", "one=@\n", placeholder=OLD_PLACEHOLDER),
            _text("share/hard-old/with space.txt", "two=@\n", placeholder=OLD_PLACEHOLDER),
            File(path="share/hard-old/plain.txt", content=b"plain\n"),
            File(path="share/hard-old/empty"),
            _link("share/hard-old/link", "plain.txt"),
            _link("share/hard-old/dangling", "gone"),
        ),
    )
    yield Package(
        name="hard-old-columns",
        version="0.2",
        subdir="linux-64",
        extension=".tar.bz2",
        old=True,
        timestamp=1420070400,  # 2015
        files=(
            _text("share/hard-old-columns/text.txt", "text=@\n"),
            _text("share/hard-old-columns/short.txt", "short=@\n", placeholder=SHORT),
            _binary("lib/hard-old-columns.so", b"\0", "@/lib", b"\0end"),
            _text("share/hard-old-columns/with space.txt", "space=@\n"),
        ),
    )


def _compiled() -> Package:
    site = "lib/python3.11/site-packages/hard_pyc"
    return Package(
        name="hard-pyc",
        version="1.0",
        build="py311_0",
        subdir="linux-64",
        depends=("python >=3.11,<3.12.0a0",),
        files=(
            File(path=f"{site}/__init__.py", content=b"VALUE = 1\n"),
            File(path=f"{site}/__pycache__/__init__.cpython-311.pyc", content=b"\xa7\r\r\n" + b"\0" * 12),
            File(path=f"{site}/bare.pyc", content=b"\xa7\r\r\n" + b"\1" * 12),
        ),
    )


def _noarch() -> Package:
    return Package(
        name="hard-noarch",
        version="1.0",
        build="py_0",
        noarch="python",
        depends=("python >=3.11",),
        entry_points=(
            "hard-main = hard_noarch:main",
            "hard-method = hard_noarch.sub:Class.main",
            "hard_spaces=hard_noarch : main",
        ),
        files=(
            File(path="site-packages/hard_noarch/__init__.py", content=b"def main(): print('main')\n"),
            File(path="site-packages/hard_noarch/sub.py", content=b"class Class:\n    main = print\n"),
            File(path="site-packages/hard_noarch/bad_syntax.py", content=b"def ( broken\n"),
            File(path="site-packages/hard_noarch/data/Müon.txt", content=b"data"),
            File(path="site-packages/hard_noarch-1.0.dist-info/METADATA", content=b"Name: hard-noarch\n"),
            _text("python-scripts/hard-script", "#!@/bin/python\nprint(1)\n", mode=0o755),
            File(path="etc/hard-noarch.conf", content=b"[hard]\n"),
            File(path="site-packages-other/file.txt", content=b"only looks like site-packages\n"),
            File(path="lib/site-packages/file.txt", content=b"not at the start\n"),
        ),
    )


def _python() -> Package:
    program = b"#!/bin/sh\nexit 0\n"
    return Package(
        name="python",
        version="3.11.2",
        build="0_fake",
        subdir="linux-64",
        summary="no Python: what packages for Python are tried with",
        files=(
            File(path="bin/python3.11", content=program, mode=0o755),
            _link("bin/python3", "python3.11"),
            _link("bin/python", "python3.11"),
            File(path="lib/python3.11/os.py", content=b"# nothing\n"),
        ),
    )


def _modes(extension: str) -> Package:
    suffix = "" if extension == ".conda" else "-bz2"
    modes = (0o600, 0o444, 0o777, 0o4755, 0o2755, 0o1755, 0o711, 0o640, 0o000, 0o100)
    return Package(
        name=f"hard-modes{suffix}",
        version="1.0",
        noarch="generic",
        extension=extension,
        timestamp=TIME + 12345,
        ids=(1000, 100),
        files=tuple(
            File(path=f"share/hard-modes{suffix}/{mode:04o}", content=b"mode", mode=mode) for mode in modes
        ),
    )


def _folders() -> Package:
    return Package(
        name="hard-folders",
        version="1.0",
        noarch="generic",
        files=(
            File(path="share/hard-folders/real/file", content=b"in a folder\n"),
            _link("share/hard-folders/link", "real"),
            _link("share/hard-folders/other", "../hard-folders/link"),
            _link("lib64-of-hard", "lib"),
        ),
    )


def _no_link() -> Package:
    return Package(
        name="hard-no-link",
        version="1.0",
        noarch="generic",
        files=(
            File(path="share/hard-no-link/copied", content=b"copied, not linked\n", no_link=True),
            File(path="share/hard-no-link/other", content=b"other\n"),
        ),
    )


def _activation() -> Package:
    script = "export HARD_ACTIVATE='it'\\''s \"here\"; $HOME'\nexport HARD_PREFIX=\"$CONDA_PREFIX\"\n"
    return Package(
        name="hard-activate",
        version="1.0",
        noarch="generic",
        files=(
            File(path="etc/conda/activate.d/hard activate.sh", content=script.encode()),
            File(path="etc/conda/activate.d/hard.fish", content=b"set -gx HARD_FISH 1\n"),
            File(
                path="etc/conda/env_vars.d/hard.json",
                content='{"HARD_JSON": "Wert mit \\" und $HOME und µ"}'.encode(),
            ),
        ),
    )


def _post_link() -> Package:
    return Package(
        name="hard-post-link",
        version="1.0",
        noarch="generic",
        files=(
            File(
                path="bin/.hard-post-link-post-link.sh",
                content=b'#!/bin/sh\necho linked > "$PREFIX/share/hard-post-link/made"\n',
                mode=0o755,
            ),
            File(path="bin/.hard-post-link-pre-unlink.sh", content=b"#!/bin/sh\nexit 0\n", mode=0o755),
            File(path="share/hard-post-link/file", content=b"file\n"),
        ),
    )


def hard_packages() -> Iterator[Package]:
    """The packages."""
    yield _python()
    yield _names()
    yield _empty()
    yield _directories()
    yield _links(".conda")
    yield _links(".tar.bz2")
    yield _absolute()
    yield from _clobber()
    yield _binaries()
    yield _short()
    yield _texts()
    yield _shebangs()
    yield from _old()
    yield _compiled()
    yield _noarch()
    yield _modes(".conda")
    yield _modes(".tar.bz2")
    yield _folders()
    yield _no_link()
    yield _activation()
    yield _post_link()
