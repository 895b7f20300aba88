"""What logs say of the files that a command read."""

from __future__ import annotations

from afenv.run.tracing import named_in, parse_client_trace, parse_strace, strace_command

STRACE = r"""
101 execve("/cvmfs/a.b/bin/tool", ["tool"], 0x7ffe /* 9 vars */) = 0
101 openat(AT_FDCWD</work>, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3</etc/ld.so.cache>
101 openat(AT_FDCWD</work>, "/cvmfs/a.b/lib/libx.so", O_RDONLY|O_CLOEXEC) = 3</cvmfs/a.b/lib/libx.so>
101 openat(AT_FDCWD</work>, "/cvmfs/a.b/lib/nowhere.so", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file)
101 openat(AT_FDCWD</work>, "/cvmfs/a.b/lib", O_RDONLY|O_NONBLOCK|O_CLOEXEC|O_DIRECTORY) = 3</cvmfs/a.b/lib>
102 openat(5</cvmfs/a.b/share>, "data.json", O_RDONLY <unfinished ...>
101 readlink("/cvmfs/a.b/link", "/target"..., 4095) = 7
102 <... openat resumed>) = 6</cvmfs/a.b/share/data.json>
101 newfstatat(AT_FDCWD</work>, "/cvmfs/a.b/looked-at", {st_mode=S_IFREG|0644}, 0) = 0
101 stat("/cvmfs/a.b/missed", 0x7ffd) = -1 ENOENT (No such file or directory)
101 openat(AT_FDCWD</work>, "/cvmfs/a.b/\303\274 \"q\"", O_RDONLY) = 3</cvmfs/a.b/x>
101 openat(AT_FDCWD</work>, "/cvmfs/a.b/secret", O_RDONLY) = -1 EACCES (Permission denied)
101 openat(AT_FDCWD</work>, "relative", O_RDONLY) = 3</work/relative>
"""


def test_strace():
    found = parse_strace(STRACE.splitlines())
    assert found.read == {
        "/cvmfs/a.b/bin/tool",
        "/cvmfs/a.b/lib/libx.so",
        "/cvmfs/a.b/share/data.json",
        "/cvmfs/a.b/link",
        '/cvmfs/a.b/ü "q"',
    }
    assert found.missed == {"/cvmfs/a.b/lib/nowhere.so", "/cvmfs/a.b/missed"}


def test_the_words_before_the_command():
    words = strace_command("/usr/bin/strace", "/log")
    assert words[0] == "/usr/bin/strace"
    assert words[-2:] == ("-o", "/log")
    assert {"-f", "-y"} <= set(words)


def test_trace_file_of_the_client():
    text = (
        '"1795383842.5","-1","Tracer","Trace buffer created"\r\n'
        '"1795383843.1","4","/lcg/views","lookup()"\r\n'
        '"1795383843.2","1","/lcg/releases/zmass/share/pdg.json","open()"\r\n'
        '"1795383843.3","3","/lcg/views/bin/zmass","readlink()"\r\n'
        '"1795383843.4","2","/lcg","opendir()"\r\n'
        '"1795383843.5","1","/names/with space, comma","open()"\r\n'
        "broken\r\n"
    )
    assert parse_client_trace(text, "sft.afenv.test") == {
        "/cvmfs/sft.afenv.test/lcg/releases/zmass/share/pdg.json",
        "/cvmfs/sft.afenv.test/lcg/views/bin/zmass",
        "/cvmfs/sft.afenv.test/names/with space, comma",
    }


def test_paths_that_a_program_names():
    said = (
        "FileNotFoundError: [Errno 2] No such file: '/cvmfs/a.b/x/y.json'\nsh: 1: /cvmfs/a.b/tool: not found."
    )
    assert named_in(said) == {"/cvmfs/a.b/x/y.json", "/cvmfs/a.b/tool"}
