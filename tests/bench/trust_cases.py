"""The remote cache, and verifying."""

from __future__ import annotations

import shutil
import statistics

from cases import Bench
from measure import Contender, Sample, compare

CPU = 2.0  # seconds


def remote_cache(bench: Bench) -> None:
    """an empty machine, everything in the remote cache, to a new repository; against building and pushing"""
    project = bench.plain
    host = f"127.0.0.1:{bench.port}"
    bench.empty_registry()
    key, public = bench.work / "cache.key", bench.work / "cache.pub"
    if not key.exists():
        project.afenv("key", "generate", "--no-password", key)
    cache = ("--cache-to", f"{host}/cache", "--cache-key", key)
    project.afenv("build", "--locked", "--push", f"{host}/first:1", *cache)
    empty = bench.work / "empty-machine"
    count = iter(range(1000))
    stored = []

    def forget() -> None:
        shutil.rmtree(empty, ignore_errors=True)
        shutil.rmtree(project.folder / ".afenv", ignore_errors=True)

    def only_downloads() -> None:
        forget()
        bench.empty_cache(project)

    def mount() -> Sample:
        target = ("--push", f"{host}/mounted-{next(count)}:1")
        trusted = ("--cache-from", f"{host}/cache", "--cache-trust", public)
        sample = project.afenv("build", "--locked", *target, *trusted, store=empty)
        stored.append(sum(path.stat().st_size for path in empty.rglob("*") if path.is_file()))
        return sample

    def rebuild() -> Sample:
        target = f"{host}/rebuilt-{next(count)}:1"
        return project.afenv("build", "--locked", "--push", target, store=bench.cold_store)

    outcome = compare(
        "remote cache",
        bench.rounds,
        [
            Contender(name="afenv, from the remote cache", prepare=forget, command=mount),
            Contender(
                name="afenv, packages downloaded",
                prepare=only_downloads,
                command=rebuild,
            ),
        ],
    )
    bench.report.outcome(outcome, {"afenv, packages downloaded": 2})
    samples = outcome.samples["afenv, from the remote cache"]
    cpu = statistics.median(sample.cpu for sample in samples)
    bench.report.figure("CPU from the remote cache", cpu, "s", most=CPU)
    bench.report.figure("in the cache of the empty machine", max(stored) / 1e6, "MB", most=2)


def verify(bench: Bench) -> None:
    """verify a signed image in a registry on this machine, its layers at hand"""
    project = bench.plain
    reference = f"127.0.0.1:{bench.port}/verified:1"
    bench.empty_registry()
    key, public = bench.work / "image.key", bench.work / "image.pub"
    if not key.exists():
        project.afenv("key", "generate", "--no-password", key)
    project.afenv("build", "--locked")
    project.afenv("push", project.layout, reference, "--sign", key)
    outcome = compare(
        "verify",
        bench.rounds,
        [
            Contender(
                name="afenv, signatures alone",
                command=lambda: project.afenv("verify", reference, "--key", public, "--no-content"),
            ),
            Contender(
                name="afenv, and the content",
                command=lambda: project.afenv("verify", reference, "--key", public),
            ),
        ],
    )
    bench.report.outcome(outcome, {})


TRUST_CASES = {"remote-cache": remote_cache, "verify": verify}
