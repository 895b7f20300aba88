"""The process that py-rattler runs in: a question on standard input, an answer on standard output.

py-rattler may crash while an interpreter ends, after all its work is done. So it gets a process of its own,
which writes the whole answer, flushes it and leaves without ending the interpreter; whoever asked judges by
the answer and not by the exit status.

The question is a JSON object: ``channels`` (URLs), ``subdir``, ``specs``, ``virtual`` (name, version,
build), ``newest`` (milliseconds since 1970, or null), ``keep`` (name and URL of packages that are preferred),
``cache`` (a folder) and ``offline``. The answer has ``records``, or ``failure`` with what explains it, or
``error`` with the kind and text of an exception.

There are two more questions, told apart by ``op``. ``lookup`` asks for the records of packages by ``names``
and ``urls``; what is not found, or a channel that cannot be read, is left out. ``match`` asks for ``pairs``
of a specification and a virtual package whether they fit: ``matches``.
"""

from __future__ import annotations

import asyncio
import datetime
import difflib
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

import rattler
from rattler.exceptions import GatewayError, InvalidMatchSpecError, SolverError
from rattler.package import BuildString

PATIENCE = 300  # seconds for one request: an index of conda-forge has some 50 MB
RETRIES = 2
EXPLAIN = 30.0  # seconds for finding out which requirements collide
SHOWN = 8  # versions of a package, and names like another, that are shown


class _Question:
    def __init__(self, asked: dict[str, Any]) -> None:
        self.specs: list[str] = asked["specs"]
        self.keep: list[tuple[str, str]] = [(name, url) for name, url in asked["keep"]]
        self.platforms = list(dict.fromkeys([asked["subdir"], "noarch"]))
        self.sources = [rattler.Channel(url) for url in asked["channels"]]
        newest = asked["newest"]
        self.newest = (
            datetime.datetime.fromtimestamp(newest / 1000, datetime.UTC) if newest is not None else None
        )
        strict, disabled = rattler.ChannelPriority.Strict, rattler.ChannelPriority.Disabled
        self.priority = strict if asked.get("priority", "strict") == "strict" else disabled
        self.virtual = [
            rattler.GenericVirtualPackage(
                rattler.PackageName(name), rattler.Version(version), BuildString(build)
            )
            for name, version, build in asked["virtual"]
        ]
        self.gateway = rattler.Gateway(
            cache_dir=asked["cache"],
            default_config=rattler.SourceConfig(
                cache_action="force-cache-only"
                if asked["offline"]
                else "no-cache"
                if asked.get("anew")
                else "cache-or-fetch"
            ),
            client=rattler.Client.default_client(RETRIES, user_agent="afenv", timeout=PATIENCE),
        )

    async def records(self, specs: Sequence[str]) -> list[Any]:
        """Every record that matches one of the specifications, or all of the names."""
        found = await self.gateway.query(
            self.sources, self.platforms, list(specs), recursive=False, channel_relations="disabled"
        )
        return [record for some in found for record in some]

    async def kept(self) -> list[Any]:
        """The records of packages to prefer, as far as the channels still have them."""
        if not self.keep:
            return []
        urls = {url for _, url in self.keep}
        return [
            record for record in await self.records([name for name, _ in self.keep]) if record.url in urls
        ]

    async def solve(self, specs: Sequence[str], kept: Sequence[Any] = ()) -> list[Any]:
        return await rattler.solve(
            self.sources,
            list(specs),
            gateway=self.gateway,
            platforms=self.platforms,
            locked_packages=kept,
            virtual_packages=self.virtual,
            channel_priority=self.priority,
            exclude_newer=self.newest,
            timestamp_policy="allow-missing",
            channel_relations="disabled",
        )

    async def failure(self, first: str) -> dict[str, Any]:
        """What explains that there is no solution."""
        names = [str(name.normalized) for name in await self.names()]
        wanted = [(spec, rattler.MatchSpec(spec).name.normalized) for spec in self.specs]
        missing = {
            name: difflib.get_close_matches(name, names, SHOWN // 2)
            for _, name in wanted
            if name not in names and not name.startswith("__")
        }
        if missing:
            return {"missing": missing, "text": first}
        collide, text = await self.collision(first)
        alone = collide[0] if len(collide) == 1 else None
        return {
            "collide": collide,
            "text": text,
            "versions": await self.versions(alone) if alone else [],
        }

    async def names(self) -> list[Any]:
        return list(await self.gateway.names(self.sources, self.platforms, channel_relations="disabled"))

    async def collision(self, first: str) -> tuple[list[str], str]:
        """A smallest set of the specifications that has no solution, and the solver's words for it."""
        collide, text, end = list(self.specs), first, time.monotonic() + EXPLAIN
        for spec in self.specs:
            if len(collide) == 1 or time.monotonic() > end:
                break
            fewer = [other for other in collide if other != spec]
            try:
                await self.solve(fewer)
            except SolverError as error:
                collide, text = fewer, str(error)
        return collide, text

    async def versions(self, spec: str) -> list[str]:
        """The newest versions of the package that a specification names, the newest first."""
        name = rattler.MatchSpec(spec).name.normalized
        versions = {record.version for record in await self.records([name]) if self.old_enough(record)}
        return [str(version) for version in sorted(versions, reverse=True)[:SHOWN]]

    def old_enough(self, record: Any) -> bool:
        return self.newest is None or record.timestamp is None or record.timestamp <= self.newest


async def _lookup(asked: dict[str, Any]) -> dict[str, Any]:
    question, urls = _Question(asked), set(asked["urls"])
    sources, found = question.sources, list[Any]()
    for source in sources:
        question.sources = [source]
        try:
            found += [record for record in await question.records(asked["names"]) if record.url in urls]
        except GatewayError:
            continue
    return {"records": [json.loads(record.to_json()) for record in found]}


def _match(asked: dict[str, Any]) -> dict[str, Any]:
    found = []
    for spec, (name, version, build) in asked["pairs"]:
        record = rattler.PackageRecord(name, version, BuildString(build), 0, "linux-64")
        found.append(rattler.MatchSpec(spec).matches(record))
    return {"matches": found}


async def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    try:
        return await _once(asked)
    except GatewayError as error:
        # py-rattler does not take "not modified" for the index of shards if the answer says nothing more
        if "304 Not Modified" not in str(error):
            raise
        return await _once({**asked, "anew": True})


async def _once(asked: dict[str, Any]) -> dict[str, Any]:
    if asked.get("op") == "lookup":
        return await _lookup(asked)
    if asked.get("op") == "match":
        return _match(asked)
    for spec in asked["specs"]:
        try:
            rattler.MatchSpec(spec)
        except InvalidMatchSpecError as error:
            return {"error": {"kind": "InvalidMatchSpecError", "spec": spec, "text": str(error)}}
    question = _Question(asked)
    try:
        records = await question.solve(question.specs, await question.kept())
    except SolverError as error:
        return {"failure": await question.failure(str(error))}
    return {"records": [json.loads(record.to_json()) for record in records]}


def main() -> None:
    """Answer the question on standard input; this never returns."""
    try:
        answer = asyncio.run(_answer(json.load(sys.stdin)))
    except Exception as error:  # noqa: BLE001 - whatever it is, the other side says it
        answer = {"error": {"kind": type(error).__name__, "text": str(error)}}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
