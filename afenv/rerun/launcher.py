"""Runs one step from its job, ``steps/NAME.job.json``, and notes how it went in ``steps/NAME.json``.

It is started for each step, by its path and without site-packages, so it imports little and nothing of
afenv. The working directory is the folder of the run. The step writes into ``work/NAME/here``; only when it
has succeeded are its outputs moved to ``outputs/``, and only when all are there is the note written. So
whatever happens in between leaves no output that looks like a result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

GRACE = 10.0  # seconds between asking a step to end and ending it
PULSE = 1.0  # seconds between two looks at the step, and at whether the parent still lives
FIRST_PULSE = 0.05  # seconds: short steps are looked at more often
CHUNK = 1 << 20
USAGE = ".afenv-usage"
SCHEDULERS_OWN = ".snakemake_timestamp"  # which Snakemake leaves in folders that are outputs
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def file_digest(path: str) -> str:
    """The SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def described(path: str) -> dict[str, Any]:
    """Size, SHA-256 and modification time of a file, or of a folder with all that is in it.

    The digest of a folder is that of one line for each file, in the order of their paths:
    ``SHA-256``, two spaces, the path, as ``sha256sum`` prints them.
    """
    if not os.path.isdir(path):
        status = os.stat(path)
        return {"size": status.st_size, "sha256": file_digest(path), "mtime": status.st_mtime_ns}
    size, newest, lines = 0, 0, []
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in names:
            if name == SCHEDULERS_OWN:
                continue
            inside = f"{folder}/{name}"
            status = os.stat(inside)
            size, newest = size + status.st_size, max(newest, status.st_mtime_ns)
            lines.append((inside[len(path) :].lstrip("/"), file_digest(inside)))
    digest = hashlib.sha256()
    for name, checksum in sorted(lines):
        digest.update(f"{checksum}  {name}\n".encode("utf-8", "surrogateescape"))
    return {"size": size, "sha256": digest.hexdigest(), "mtime": newest, "files": len(lines)}


def step_key(static: dict[str, Any], inputs: list[dict[str, Any]]) -> str:
    """The digest of everything that the outputs of a step depend on."""
    read = [[one["name"], [[file["path"], file["sha256"]] for file in one["files"]]] for one in inputs]
    text = json.dumps([static, read], sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def read_inputs(job: dict[str, Any]) -> list[dict[str, Any]]:
    """What the step reads, with checksums: those of other steps' outputs are in their notes."""
    found = []
    for one in job["inputs"]:
        files = one.get("files")
        if files is None:
            note = _load(f"steps/{one['step']}.json")
            files = [
                {key: value for key, value in entry.items() if key != "name" and key != "mtime"}
                for entry in note["outputs"]
                if entry["name"] == one["output"]
            ]
        found.append({"name": one["name"], "files": files})
    return found


def _load(path: str) -> dict[str, Any]:
    with open(path, encoding="utf-8") as file:
        loaded: dict[str, Any] = json.load(file)
        return loaded


def _write(path: str, value: dict[str, Any]) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, sort_keys=True)
        file.write("\n")
    os.replace(path + ".new", path)


def _event(step: str, kind: str) -> None:
    line = json.dumps({"step": step, "event": kind, "pid": os.getpid(), "time": time.time()}) + "\n"
    file = os.open("steps/events", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(file, line.encode())
    os.close(file)


def _restore(job: dict[str, Any]) -> bool:
    """Put the outputs of before in their place again, which Snakemake has removed; False if they are gone."""
    places = [(f"work/kept/{one['path']}".rstrip("/"), f"outputs/{one['path']}") for one in job["outputs"]]
    if not all(os.path.exists(kept) for kept, _ in places):
        return False
    for kept, place in places:
        place = place.rstrip("/")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.isdir(place):
            shutil.rmtree(place)
        os.rename(kept, place)
    return True


def _empty_folder(path: str) -> None:
    if os.path.lexists(path):
        remove_folder(path)
    os.makedirs(path)


def remove_folder(path: str) -> None:
    """Remove a folder, whatever the modes of the folders in it."""
    for folder, _, _ in os.walk(path):
        os.chmod(folder, 0o700)
    shutil.rmtree(path)


def _ask(call: list[str]) -> None:
    """Run one command of the engine, such as the one that ends a container; its output goes nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        actions = [(os.POSIX_SPAWN_DUP2, null, number) for number in (0, 1, 2)]
        os.waitpid(os.posix_spawnp(call[0], call, os.environ, file_actions=actions), 0)
    except OSError:
        pass
    finally:
        os.close(null)


class Running:
    """The process of a step: started, waited for, and ended when the time is over or somebody asks for it."""

    def __init__(self, job: dict[str, Any], scratch: str) -> None:
        self.job = job
        self.identity = os.path.abspath(f"{scratch}/container")
        words = [
            word.replace("@SCRATCH@", scratch).replace("@CONTAINER@", self.identity) for word in job["argv"]
        ]
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ]
        self.sampled = 0  # bytes: the most that was seen at once
        os.umask(0o022)
        self.pid = os.posix_spawnp(
            words[0], words, os.environ, file_actions=actions, setpgroup=0, setsigmask=()
        )
        os.close(log)
        os.close(null)

    def wait(self, started: float, parent: int) -> tuple[int, Any, str | None]:
        """The exit status (128 + n after signal n), the kernel's accounting, and why it was ended."""
        limit = self.job.get("time")
        reason: str | None = None
        asked = 0.0
        killed = False
        pulse = FIRST_PULSE
        while True:
            ended, status, usage = os.wait4(self.pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return (128 - code if code < 0 else code), usage, reason
            now = time.monotonic()
            left = pulse if reason or not limit else max(0.01, min(pulse, started + limit - now))
            pulse = min(2 * pulse, PULSE)
            caught = signal.sigtimedwait((signal.SIGCHLD, *ENDING), left)
            if not self.job.get("kill"):
                self.sampled = max(self.sampled, resident(self.pid))
            now = time.monotonic()
            if reason is None:
                if caught is not None and caught.si_signo != signal.SIGCHLD:
                    reason = "interrupted"
                elif limit and now - started >= limit:
                    reason = "time"
                elif not _lives(parent):
                    reason = "interrupted"
                if reason:
                    asked = now
                    self.end(signal.SIGTERM)
            elif not killed and now - asked > GRACE:
                killed = True
                self.end(signal.SIGKILL)

    def end(self, number: int) -> None:
        """Send a signal to the step, and to its container where an engine runs it."""
        if self.job.get("kill") and os.path.exists(self.identity):
            with open(self.identity, encoding="ascii") as file:
                container = file.read().strip()
            _ask([*self.job["kill"], str(int(number)), container])
        try:
            os.killpg(self.pid, number)
        except OSError:
            pass


def resident(pid: int) -> int:
    """The resident memory of a process and its descendants in bytes; pages that they share count for each."""
    found, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            with open(f"/proc/{one}/statm", encoding="ascii") as file:
                found += int(file.read().split()[1])
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", encoding="ascii") as file:
                    waiting += map(int, file.read().split())
        except (OSError, IndexError):
            continue
    return found * os.sysconf("SC_PAGE_SIZE")


def _lives(parent: int) -> bool:
    try:
        os.kill(parent, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _accounting(here: str, usage: Any, sampled: int, prmon: str) -> tuple[dict[str, float], dict[str, Any]]:
    """CPU seconds and the greatest memory in bytes, from the best source that there is.

    prmon's summary (its ``Max``: seconds and kB) covers the whole tree of processes; the container's shell
    noted the times of its children (POSIX ``times``) and its control group's peak; the rest is ``wait4``,
    which does not see all processes of a container, or what was ``sampled``, whichever is more.
    """
    cpu = {"user": usage.ru_utime, "system": usage.ru_stime}
    memory = {"peak": usage.ru_maxrss * 1024, "source": "rusage"}
    if sampled > memory["peak"]:
        memory = {"peak": sampled, "source": "sampled"}
    try:
        with open(f"{here}/{USAGE}", encoding="ascii", errors="replace") as file:
            lines = file.read().split("\n")
        times = [_seconds(word) for word in lines[1].split()]
        if len(times) == 2:
            cpu = {"user": times[0], "system": times[1]}
        if len(lines) > 2 and lines[2].isdecimal():
            memory = {"peak": int(lines[2]), "source": "cgroup"}
    except (OSError, IndexError, ValueError):
        pass
    try:
        top = _load(prmon)["Max"]
        if top["pss"]:  # else it ended before prmon looked at it
            cpu = {"user": float(top["utime"]), "system": float(top["stime"])}
            memory = {"peak": int(top["pss"]) * 1024, "source": "prmon"}
    except (OSError, KeyError, ValueError):
        pass
    return {name: round(value, 3) for name, value in cpu.items()}, memory


def _seconds(text: str) -> float:
    minutes, _, seconds = text.rstrip("s").partition("m")
    return int(minutes) * 60 + float(seconds.replace(",", "."))


def _take_outputs(job: dict[str, Any], here: str) -> list[str]:
    """Move what was written to its place; the names of outputs that are not there. Then nothing was moved."""
    missing = [
        output["name"]
        for output in job["outputs"]
        if not (os.path.isdir if output["path"].endswith("/") else os.path.isfile)(f"{here}/{output['path']}")
    ]
    if missing:
        return missing
    for output in job["outputs"]:
        place = f"outputs/{output['path']}".rstrip("/")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.isdir(place):
            remove_folder(place)
        shutil.move(f"{here}/{output['path']}".rstrip("/"), place)
    return []


def run_job(path: str) -> int:
    """Run the job in a file; 0 if its outputs are there afterwards."""
    job = _load(path)
    name = job["step"]
    parent = int(os.environ.get("AFENV_RERUN_PARENT") or os.getppid())
    note_path = f"steps/{name}.json"
    inputs = read_inputs(job)
    key = step_key(job["static"], inputs)
    if job["kept"] == key and _restore(job):
        _event(name, "kept")
        return 0
    try:
        os.unlink(note_path)
    except FileNotFoundError:
        pass
    work = os.path.abspath(f"work/{name}")
    here, scratch, prmon = f"{work}/here", f"{work}/scratch", f"{work}/prmon.json"
    for folder in (work, here, scratch):
        _empty_folder(folder)
    for output in job["outputs"]:
        inside = os.path.dirname(output["path"].rstrip("/"))
        os.makedirs(f"{here}/{inside}", exist_ok=True)
    for link, target in job["links"].items():
        place = f"{here}/{link}".rstrip("/")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.symlink(target, place)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, *ENDING))
    _event(name, "start")
    note: dict[str, Any] = {
        "step": name,
        "static": job["static"],
        "key": key,
        "inputs": inputs,
        "outputs": [],
        "started": time.time(),
    }
    started = time.monotonic()
    try:
        running = Running(job, scratch)
        status, usage, reason = running.wait(started, parent)
    except OSError as error:
        with open(job["log"], "a", encoding="utf-8") as log:
            log.write(f"{job['argv'][0]} cannot be started: {error.strerror}\n")
        status, usage, reason, running = 127, None, "not-started", None
    note["wall"] = round(time.monotonic() - started, 3)
    note["ended"] = note["started"] + note["wall"]
    note["exit_status"] = status
    if running is not None:
        note["cpu"], note["memory"] = _accounting(here, usage, running.sampled, prmon)
    if reason is None and status:
        reason = "failed"
    if reason is None:
        missing = _take_outputs(job, here)
        if missing:
            reason, note["missing"] = "output", missing
    if reason is None:
        for output in job["outputs"]:
            note["outputs"].append({**output, **described(f"outputs/{output['path']}".rstrip("/"))})
    note["end"] = reason or "done"
    _write(note_path, note)
    if reason is None:
        remove_folder(work)
    _event(name, reason or "done")
    return 0 if reason is None else 1


if __name__ == "__main__":
    sys.exit(run_job(sys.argv[1]))
