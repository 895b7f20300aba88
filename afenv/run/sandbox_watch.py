"""Watching a command in the sandbox: its output as it comes, and what it uses.

Processes and memory are read from the sandbox's own ``/proc``, a few times a second. Killing its first
process ends all of them at once, however many there are: the kernel does that for a PID namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from afenv.progress import human_size
from afenv.run.sandbox_group import process_group, was_reached
from afenv.run.sandbox_limits import Limits

_TICK = 0.02  # seconds between two counts of the processes
_LOOK = 0.25  # seconds between two looks at each of them, which wait while it forks
_TAIL = 1 << 16  # bytes of the output that are kept in memory
_LOG = 64 << 20  # bytes of the output that go into the log
_FILE_TOO_LARGE = 128 + signal.SIGXFSZ
_INODE = 512  # bytes that a path counts, also if it is empty
_RESERVE = 256 << 20  # bytes that are left free on the disk


@dataclass(slots=True)
class Output:
    """Where output goes: a log, and live to ``show`` where that is set. ``tail`` is the end of it."""

    log: BinaryIO
    show: Callable[[bytes], object] | None = None
    tail: bytearray = field(default_factory=bytearray)
    size: int = 0

    def take(self, data: bytes) -> None:
        """Some output has come."""
        room = _LOG - self.size
        if room > 0:
            self.log.write(data[:room])
            self.log.flush()
        self.size += len(data)
        self.tail += data
        del self.tail[:-_TAIL]
        if self.show is not None:
            self.show(data)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How a command ended: its exit status, or which limit stopped it (the words, and its variable)."""

    status: int
    broken: str = ""
    limit: str = ""
    seconds: float = 0.0


def watch(
    command: Sequence[str],
    folder: Path,
    changed: Sequence[Path],
    limits: Limits,
    output: Output,
    *,
    info: int,
    passed: int,
) -> Outcome:
    """Run bubblewrap in ``folder`` and watch it, and the disk that the folders ``changed`` take.

    ``info`` and ``passed`` are the ends of its info pipe.
    """
    with process_group(limits.processes) as group:
        return _watch(command, folder, changed, limits, output, info, passed, group)


def _watch(
    command: Sequence[str],
    folder: Path,
    changed: Sequence[Path],
    limits: Limits,
    output: Output,
    info: int,
    passed: int,
    group: Path | None,
) -> Outcome:
    processes = 2 * limits.processes + _own_processes() + 64  # for what is faster than the watch

    def confine() -> None:  # runs between fork and exec
        if group is not None:
            with open(group / "cgroup.procs", "wb", buffering=0) as file:  # noqa: PTH123
                file.write(b"0")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _lower(resource.RLIMIT_FSIZE, limits.disk)
        _lower(resource.RLIMIT_NPROC, processes)
        os.umask(0o022)
        os.nice(5)

    started = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(passed,),
        start_new_session=True,
        preexec_fn=confine,
    )
    os.close(passed)
    watched = _Watched(process, info, changed, limits, group)
    broken, limit = "", ""
    try:
        while not broken and watched.take(output):
            broken, limit = watched.check(time.monotonic() - started)
        if not broken:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)  # it has closed its output, and ends
    finally:
        watched.end(output)
    if process.returncode == _FILE_TOO_LARGE and not broken:
        broken, limit = f"it wrote a file of more than {human_size(limits.disk)}", "AFENV_BUILD_DISK"
    return Outcome(status=process.returncode, broken=broken, limit=limit, seconds=time.monotonic() - started)


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _own_processes() -> int:
    """Threads of this user: before Linux 5.14 they count against the limit of the sandbox's processes."""
    count, user = 0, os.getuid()
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == user:  # noqa: PTH116
                    count += len(os.listdir(f"/proc/{name}/task"))  # noqa: PTH208
    return count


class _Watched:
    def __init__(
        self,
        process: subprocess.Popen[bytes],
        info: int,
        changed: Sequence[Path],
        limits: Limits,
        group: Path | None,
    ) -> None:
        self._process = process
        self._info = info
        self._changed = changed
        self._limits = limits
        self._group = group
        self._first = 0  # its first process, as this process sees it
        self._start = self._disk()
        self._free = shutil.disk_usage(changed[0]).free
        self._last = self._next_walk = self._next_look = 0.0
        assert process.stdout is not None
        self._pipe = process.stdout.fileno()
        os.set_blocking(self._pipe, False)

    def take(self, output: Output) -> bool:
        """Wait a moment for output; False when there will be no more."""
        ready, _, _ = select.select([self._pipe], [], [], _TICK)
        if ready:
            data = os.read(self._pipe, 1 << 16)
            output.take(data)
            return bool(data)
        return self._process.poll() is None

    def check(self, passed: float) -> tuple[str, str]:
        """Which limit is broken, and its variable; two empty texts for none."""
        limits = self._limits
        if passed - self._last < _TICK:
            return "", ""
        self._last = passed
        if passed > limits.time:
            return f"it ran for more than {limits.time:.0f} s", "AFENV_BUILD_TIME"
        count, memory = self._processes(passed)
        if count > limits.processes or (self._group is not None and was_reached(self._group)):
            return f"it had more than {limits.processes} processes", "AFENV_BUILD_PROCESSES"
        if memory > limits.memory:
            return f"it used more than {human_size(limits.memory)} of memory", "AFENV_BUILD_MEMORY"
        free = shutil.disk_usage(self._changed[0]).free
        if passed > self._next_walk or self._free - free > limits.disk or free < _RESERVE:
            before = time.monotonic()
            used = self._disk() - self._start
            self._next_walk = passed + max(0.5, 20 * (time.monotonic() - before))
            if used > limits.disk:
                return f"it wrote more than {human_size(limits.disk)}", "AFENV_BUILD_DISK"
            if free < _RESERVE and used > _RESERVE:
                return "it filled the disk", "AFENV_CACHE_DIR"
        return "", ""

    def _disk(self) -> int:
        return sum(map(_disk_usage, self._changed))

    def _processes(self, passed: float) -> tuple[int, int]:
        """How many threads there are, and how many bytes of memory are theirs alone.

        Between two looks, at least how many.
        """
        if not self._first:
            self._first = self._first_process()
        if not self._first:
            return 0, 0
        folder = f"/proc/{self._first}/root/proc"
        count = 0
        page = os.sysconf("SC_PAGE_SIZE")
        try:
            own = os.stat(f"/proc/{self._first}/ns/pid").st_ino  # noqa: PTH116
            if os.stat(f"{folder}/1/ns/pid").st_ino != own:  # noqa: PTH116
                return 0, 0  # it is still being set up
            names = [name for name in os.listdir(folder) if name.isdigit()]  # noqa: PTH208
            shared = os.statvfs(f"/proc/{self._first}/root/dev")  # /dev/shm among it
        except OSError:
            return 0, 0
        if len(names) > self._limits.processes or passed < self._next_look:
            return len(names), 0
        self._next_look = passed + _LOOK
        memory = (shared.f_blocks - shared.f_bfree) * shared.f_frsize
        for name in names:
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"{folder}/{name}/statm", "rb") as file:  # noqa: PTH123
                    fields = file.read().split()
                memory += (int(fields[1]) - int(fields[2])) * page
                with open(f"{folder}/{name}/stat", "rb") as file:  # noqa: PTH123
                    count += int(file.read().rpartition(b")")[2].split()[17])
        return count, memory

    def _first_process(self) -> int:
        if not select.select([self._info], [], [], 0)[0]:
            return 0
        try:
            return int(json.loads(os.read(self._info, 1 << 12))["child-pid"])
        except (ValueError, KeyError, TypeError):
            return 0

    def end(self, output: Output) -> None:
        """Kill what is left, and wait until it is gone."""
        first = self._first or self._first_process()
        if self._process.poll() is None:
            for pid in filter(None, (first, self._process.pid)):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout=20)
        self._process.wait()
        with contextlib.suppress(OSError):
            while data := os.read(self._pipe, 1 << 16):
                output.take(data)
        assert self._process.stdout is not None
        self._process.stdout.close()


def _disk_usage(folder: Path) -> int:
    """Bytes of disk that a tree takes; what vanishes meanwhile does not count."""
    total = 0
    todo = [str(folder)]
    while todo:
        with contextlib.suppress(OSError), os.scandir(todo.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512 + _INODE
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
    return total
