"""A facility's policy, and whether an image meets it. The norm is ``specs/policy/v1``.

Reading is apart from judging: :func:`violations` is a pure function of the policy and of what the image's
attachments say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from afenv.attest.facts import Facts
from afenv.attest.keys import PublicKey, load_public, read_public
from afenv.attest.licenses import NOASSERTION
from afenv.documents.schema import schema_of, schema_problems
from afenv.documents.yaml_tree import read_yaml
from afenv.errors import AfenvError, Problem

FORMAT_VERSION = 1
DEEPEST = 50  # brackets in a licence's expression


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What is allowed and what is denied; an empty ``allow`` allows everything."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    unknown: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What a facility asks of an image."""

    name: str = ""
    require: tuple[str, ...] = ()
    keys: tuple[PublicKey, ...] = ()
    signatures: int = 1
    builders: tuple[str, ...] = ()
    sources: Choice = field(default_factory=Choice)
    code: tuple[str, ...] = ()
    dirty: bool = True
    licenses: Choice = field(default_factory=Choice)
    packages: tuple[str, ...] = ()  # denied


def parse_policy(data: bytes, place: str, folder: Path) -> Policy:
    """The policy in some bytes; files of keys are looked for in ``folder``.

    All problems are raised at once: E002 to E004 and E010 to E015 as for a manifest, E001 and E610 for keys.
    """
    document = read_yaml(data, place)
    tree = document.root.plain()
    version = tree.get("afenv-policy") if isinstance(tree, dict) else None
    if isinstance(version, int) and not isinstance(version, bool) and version != FORMAT_VERSION:
        message = f"expected format version {FORMAT_VERSION}, found {version}"
        raise AfenvError("E015", message, place=document.value_place(("afenv-policy",)))
    problems: list[Problem] = [*document.problems, *schema_problems(document, schema_of("policy"))]
    if problems:
        raise AfenvError.many(problems)
    licenses, sources, code = (tree.get(name) or {} for name in ("licenses", "sources", "code"))
    return Policy(
        name=tree.get("name", ""),
        require=tuple(tree.get("require", ())),
        keys=tuple(_key(one, place, folder) for one in tree.get("keys", ())),
        signatures=tree.get("signatures", 1),
        builders=tuple(tree.get("builders", ())),
        sources=Choice(
            allow=tuple(sources.get("allow", ())),
            deny=tuple(sources.get("deny", ())),
            unknown=sources.get("unknown", not sources.get("allow")),
        ),
        code=tuple(code.get("allow", ())),
        dirty=code.get("dirty", True),
        licenses=Choice(
            allow=tuple(licenses.get("allow", ())),
            deny=tuple(licenses.get("deny", ())),
            unknown=licenses.get("unknown", True),
        ),
        packages=tuple((tree.get("packages") or {}).get("deny", ())),
    )


def _key(entry: Mapping[str, str], place: str, folder: Path) -> PublicKey:
    name = entry["name"]
    if "pem" in entry:
        return load_public(entry["pem"].encode(), name=name, place=f"{place}, key {name}")
    found = read_public(folder / entry["file"])
    return PublicKey(found.pem, found.der, name, found.key)


def read_policy(path: Path) -> Policy:
    """The policy in a file; E001 and what :func:`parse_policy` raises."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise AfenvError("E001", f"cannot be read: {error.strerror}", place=str(path)) from None
    return parse_policy(data, str(path), path.parent)


def _matches(text: str, patterns: Iterable[str]) -> bool:
    """Whether a pattern fits: ``*`` is any characters; a pattern that ends in ``/`` is a beginning."""
    return any(
        fnmatchcase(text, pattern) or (pattern.endswith("/") and text.startswith(pattern))
        for pattern in patterns
    )


def violations(policy: Policy, facts: Facts) -> list[str]:
    """What the image lacks or has against the policy, in words; empty if it meets it."""
    trusted = " that a key of the policy vouches for" if policy.keys else ""
    return [
        *(f"no {name}{trusted} is attached" for name in policy.require if name not in facts.attached),
        *_trust(policy, facts),
        *_builder(policy, facts),
        *_code(policy, facts),
        *(text for package in _packages(facts) for text in _package(policy, package)),
    ]


def _trust(policy: Policy, facts: Facts) -> Iterator[str]:
    wanted = {key.identity for key in policy.keys}
    signed = {key.identity for key in facts.signers} & wanted if policy.keys else set()
    if policy.keys and len(signed) < policy.signatures:
        yield f"signatures by keys of the policy: {policy.signatures} needed, {len(signed)} found"
    asks_provenance = policy.builders or policy.code or not policy.dirty
    if policy.keys and asks_provenance and not facts.provenance_trusted:
        yield "the provenance is not signed by a key of the policy"
    licenses, sources = policy.licenses, policy.sources
    asks_licenses = bool(licenses.allow or licenses.deny) or not licenses.unknown
    asks_sbom = bool(sources.allow or sources.deny or policy.packages) or asks_licenses
    if policy.keys and asks_sbom and not facts.sbom_trusted:
        yield "no key of the policy vouches for the bill of materials"
    if asks_sbom and not facts.sbom:
        yield "there is no bill of materials to judge packages by"
    if asks_provenance and not facts.provenance:
        yield "there is no provenance to judge the build by"


def _builder(policy: Policy, facts: Facts) -> Iterator[str]:
    if policy.builders and facts.provenance and not _matches(facts.builder, policy.builders):
        yield f"it was built by {facts.builder or 'nobody known'}, which the policy does not name"


def _code(policy: Policy, facts: Facts) -> Iterator[str]:
    for one in facts.code:
        where = str(one["uri"])
        if policy.code and not _matches(where, policy.code):
            yield f"the code {one['name']} is from {where}, which the policy does not name"
        if one["dirty"] and not policy.dirty:
            yield f"the code {one['name']} has changes that are not committed"


def _packages(facts: Facts) -> Iterator[Mapping[str, Any]]:
    for package in facts.sbom.get("packages") or ():
        if package.get("SPDXID") != "SPDXRef-Image" and package.get("primaryPackagePurpose") != "SOURCE":
            yield package


def _purl(package: Mapping[str, Any]) -> str:
    for reference in package.get("externalRefs") or ():
        if reference.get("referenceType") == "purl":
            return str(reference.get("referenceLocator"))
    return str(package.get("name"))


def _package(policy: Policy, package: Mapping[str, Any]) -> Iterator[str]:
    name, purl = f"{package.get('name')} {package.get('versionInfo', '')}".strip(), _purl(package)
    if _matches(purl, policy.packages) or _matches(purl.partition("?")[0], policy.packages):
        yield f"the package {name} is denied"
    source = str(package.get("downloadLocation") or NOASSERTION)
    if source in (NOASSERTION, "NONE"):
        if not policy.sources.unknown:
            yield f"nothing says where {name} is from"
    elif (policy.sources.allow and not _matches(source, policy.sources.allow)) or _matches(
        source, policy.sources.deny
    ):
        yield f"{name} is from {source}, which the policy does not allow"
    stated = str(package.get("licenseDeclared") or NOASSERTION)
    if stated in (NOASSERTION, "NONE"):
        if not policy.licenses.unknown:
            yield f"{name} states no licence"
    elif not license_allowed(stated, policy.licenses):
        yield f"{name} has the licence {stated}"


_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")


def license_allowed(expression: str, choice: Choice) -> bool:
    """Whether an SPDX expression can be met: one side of an ``OR``, both of an ``AND``.

    ``X WITH Y`` is judged as a whole where a rule names it so, else as ``X``. What is nested too deeply is
    not met.
    """
    if expression.count("(") > DEEPEST:
        return False
    tokens = _TOKEN.findall(expression)
    value, rest = _either(tokens, choice)
    return value and not rest


def _either(tokens: Sequence[str], choice: Choice) -> tuple[bool, Sequence[str]]:
    value, tokens = _both(tokens, choice)
    while tokens and tokens[0].upper() == "OR":
        other, tokens = _both(tokens[1:], choice)
        value = value or other
    return value, tokens


def _both(tokens: Sequence[str], choice: Choice) -> tuple[bool, Sequence[str]]:
    value, tokens = _one(tokens, choice)
    while tokens and tokens[0].upper() == "AND":
        other, tokens = _one(tokens[1:], choice)
        value = value and other
    return value, tokens


def _one(tokens: Sequence[str], choice: Choice) -> tuple[bool, Sequence[str]]:
    if not tokens:
        return False, ()
    if tokens[0] == "(":
        value, tokens = _either(tokens[1:], choice)
        return value and tokens[:1] == [")"], tokens[1:]
    name, tokens = tokens[0], tokens[1:]
    names = {name.lower()}
    if len(tokens) > 1 and tokens[0].upper() == "WITH":
        names.add(f"{name} WITH {tokens[1]}".lower())
        tokens = tokens[2:]
    denied = any(one.lower() in names for one in choice.deny)
    allowed = not choice.allow or any(one.lower() in names for one in choice.allow)
    return allowed and not denied, tokens
