"""Frozen values whose classes are made fast: a dataclass that is frozen, keyword-only and has slots.

A dataclass compiles six methods when its module is imported, which takes most of a millisecond; a build in
which little changed imports thirty of them and has fifty milliseconds. The methods of a record are shared.
:func:`dataclasses.replace`, ``asdict`` and ``fields`` take records as well. A record has no record as its
base, and its module needs ``from __future__ import annotations``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from dataclasses import replace as replace

T = TypeVar("T")
_set = object.__setattr__
_MISSING = object()


class _Made:
    """The default of a field that is made anew for each value."""

    def __init__(self, factory: Callable[[], Any], hashed: bool) -> None:
        self.factory = factory
        self.hashed = hashed


def field(*, default_factory: Callable[[], Any], hash: bool = True) -> Any:
    """A field whose default is made anew for each value; with ``hash=False`` it is no part of the hash."""
    return _Made(default_factory, hash)


class _Fields:
    """What :mod:`dataclasses` asks of a class, made when it is asked for."""

    def __get__(self, value: Any, owner: Any) -> Any:
        import dataclasses

        fields = []
        for name in owner.__slots__:
            default = owner._defaults.get(name, dataclasses.MISSING)
            if isinstance(default, _Made):
                made = dataclasses.field(default_factory=default.factory)
            else:
                made = dataclasses.field(default=default)
            fields.append((name, owner.__annotations__[name], made))
        found: Any = dataclasses.make_dataclass(owner.__name__, fields, kw_only=True)
        return found.__dataclass_fields__


class _Record:
    __slots__: tuple[str, ...] = ()
    __dataclass_fields__ = _Fields()
    __match_args__ = ()
    _defaults: dict[str, Any]

    def __init__(self, **values: Any) -> None:
        for name in self.__slots__:
            value = values.pop(name, _MISSING)
            if value is _MISSING:
                value = self._defaults.get(name, _MISSING)
                if value.__class__ is _Made:
                    value = value.factory()
                elif value is _MISSING:
                    raise TypeError(f"{type(self).__name__}() needs {name!r}")
            _set(self, name, value)
        if values:
            raise TypeError(f"{type(self).__name__}() has no {next(iter(values))!r}")

    def __setattr__(self, name: str, value: object) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    def __hash__(self) -> int:
        hashed = (name for name in self.__slots__ if getattr(self._defaults.get(name), "hashed", True))
        return hash(tuple(getattr(self, name) for name in hashed))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__qualname__}({fields})"

    def __reduce__(self) -> Any:
        return _restored, (type(self), [getattr(self, name) for name in self.__slots__])


def _restored(kind: Any, values: list[Any]) -> Any:
    return kind(**dict(zip(kind.__slots__, values, strict=True)))


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def record(kind: type[T]) -> type[T]:
    """Make a class of annotated fields one of values: frozen, compared by their fields, with slots."""
    if kind.__bases__ != (object,):
        raise TypeError(f"{kind.__name__}: a record has no base")
    body = dict(kind.__dict__)
    names = tuple(kind.__annotations__)
    defaults = {name: body.pop(name) for name in names if name in body}
    for name in ("__dict__", "__weakref__"):
        body.pop(name, None)
    body |= {"__slots__": names, "_defaults": defaults, "__qualname__": kind.__qualname__}
    made: type[T] = type(kind.__name__, (_Record,), body)
    return made


def values_of(value: Any) -> dict[str, Any]:
    """The fields of a record by name, in their order, as they are."""
    return {name: getattr(value, name) for name in value.__slots__}


if not TYPE_CHECKING:

    def replace(value: T, **changes: object) -> T:
        """The record with some fields changed."""
        return type(value)(**values_of(value) | changes)
