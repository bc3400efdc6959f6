"""A registry of named kinds: a new criterion, allocator or method is found because its file is there; their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from .errors import BadOption, UnknownName

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """Options of a criterion, allocator or method: words that an option does not have are refused at once."""

    def __post_init__(self) -> None:
        kind: type = type(self)  # a plain type, which mypy knows to be hashable
        words = _words(kind)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in words and value not in words[field.name]:
                *others, last = map(repr, words[field.name])
                raise BadOption(f"{field.name}={value!r}: give {', '.join(others)} or {last}")
            if field.name == "seed" and value < 0:
                raise BadOption(f"seed={value!r}: give 0 or more")
            if field.name == "per_macs" and not 0 <= value < float("inf"):
                raise BadOption(f"per_macs={value!r}: give 0 (all units alike) or more; 1 is per MAC")


@cache
def _words(cls: type) -> dict[str, tuple[str, ...]]:
    """What each option may be that is one of a few words."""
    return {name: get_args(kind) for name, kind in get_type_hints(cls).items() if get_origin(kind) is Literal}


class Registry(Generic[T]):
    """Classes of one kind by name. The package's files are imported at the first look-up, in name order."""

    def __init__(self, kind: str, package: str | None) -> None:
        assert package is not None
        self.kind = kind
        self._package = package
        self._classes: dict[str, type[T]] = {}
        self._loaded = False

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Enter a class under a name, which it then carries as `.name`."""

        def enter(cls: type[T]) -> type[T]:
            taken = self._classes.get(name)
            assert taken is None or taken.__qualname__ == cls.__qualname__, f"two {self.kind}s named {name!r}"
            self._classes[name] = cls
            cls.name = name  # type: ignore[attr-defined]
            return cls

        return enter

    def all(self) -> dict[str, type[T]]:
        """Name to class, by name."""
        if not self._loaded:
            self._loaded = True
            for module in sorted(m.name for m in iter_modules(import_module(self._package).__path__)):
                import_module(f"{self._package}.{module}")
        return dict(sorted(self._classes.items()))

    def make(self, wanted: str | T) -> T:
        """An instance: by name with default options, or the instance itself. Raises `UnknownName`."""
        if not isinstance(wanted, str):
            return wanted
        classes = self.all()
        if wanted not in classes:
            raise UnknownName(self.kind, wanted, classes)
        return classes[wanted]()

    def configured(self, name: str, options: Mapping[str, Any]) -> T:
        """An instance by name with these options, checked by their types. Raises `UnknownName`, `BadOption`."""
        kind = type(self.make(name))
        known = [f.name for f in fields(kind)]  # type: ignore[arg-type]  # every registered class is a dataclass
        for option in options:
            if option not in known:
                raise UnknownName(f"option of {self.kind} {name!r} called", option, known)
        try:
            return TypeAdapter(kind).validate_python(dict(options))
        except ValidationError as error:
            first = error.errors()[0]
            where = str(first["loc"][0])  # not which part of a union
            raise BadOption(f"{self.kind} {name!r}: {where}={first['input']!r}: {first['msg']}") from error
