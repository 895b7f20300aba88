from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping

import pytest

from afenv.record import field, record


@record
class Point:
    """A point."""

    x: int
    y: int = 0
    notes: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def both(self) -> tuple[int, int]:
        return self.x, self.y


@record
class Other:
    x: int
    y: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """A point."""

    x: int
    y: int = 0
    notes: Mapping[str, str] = dataclasses.field(default_factory=dict, hash=False)


def test_a_record_is_made_shown_and_compared_as_a_dataclass_is():
    for kind in (Point, Peer):
        value = kind(x=1)
        assert (value.x, value.y, value.notes) == (1, 0, {})
        assert value == kind(y=0, x=1) != kind(x=2)
        assert value != Other(x=1)
        assert hash(value) == hash(kind(x=1)) == hash((1, 0))
        assert repr(value) == f"{kind.__name__}(x=1, y=0, notes={{}})"
        assert kind.__doc__ == "A point."
    assert Point(x=1, y=2).both == (1, 2)
    assert Point(x=1).notes is not Point(x=1).notes


@pytest.mark.parametrize("kind", [Point, Peer])
def test_what_is_refused(kind):
    with pytest.raises(TypeError, match="x"):
        kind()
    with pytest.raises(TypeError, match="z"):
        kind(x=1, z=2)
    with pytest.raises(TypeError):
        kind(1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        kind(x=1).x = 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        del kind(x=1).x
    assert not hasattr(kind(x=1), "__dict__")
    with pytest.raises(TypeError, match="unhashable"):
        hash(Other(x=1))


def test_a_record_has_no_base():
    with pytest.raises(TypeError, match="no base"):

        @record
        class Third(Point):
            z: int


def test_records_are_copied_pickled_and_matched():
    value = Point(x=1, notes={"a": "b"})
    for other in (pickle.loads(pickle.dumps(value)), copy.deepcopy(value), copy.copy(value)):
        assert other == value and type(other) is Point
    match value:
        case Point(x=1, y=found):
            assert found == 0
        case _:
            raise AssertionError


def test_the_functions_of_dataclasses_take_records():
    value = Point(x=1, notes={"a": "b"})
    assert dataclasses.replace(value, y=5) == Point(x=1, y=5, notes={"a": "b"})
    assert dataclasses.asdict(value) == {"x": 1, "y": 0, "notes": {"a": "b"}}
    assert [one.name for one in dataclasses.fields(Point)] == ["x", "y", "notes"]
    for ours, theirs in zip(dataclasses.fields(Point), dataclasses.fields(Peer), strict=True):
        for name in ("name", "type", "default", "default_factory", "init", "kw_only"):
            assert getattr(ours, name) == getattr(theirs, name)
    assert dataclasses.is_dataclass(value)
    with pytest.raises(TypeError, match="z"):
        dataclasses.replace(value, z=1)
