"""A JSON file that people edit: read strictly, what is wrong named by line or field, and written in one step."""

from __future__ import annotations

import json
import os
import reprlib
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator

from ..errors import CheckpointError, PlanError
from ..files import write_text

D = TypeVar("D", bound="Document")


class Document(BaseModel):
    """Plain data of one file. Making one of what does not fit raises `PlanError` that names the field."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    called: ClassVar[str] = "document"  # what messages call it

    @model_validator(mode="wrap")
    @classmethod
    def _speak_our_language(cls, values: Any, build: ModelWrapValidatorHandler[Document]) -> Document:
        try:
            return build(values)
        except ValidationError as error:
            raise PlanError(f"no {cls.called} can be made: {_told(error)}") from error

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the file, or leave what was there before. Raises `CheckpointError`."""
        write_text(Path(path), str(self))

    @classmethod
    def read(cls: type[D], path: str | os.PathLike[str]) -> D:
        """What the file says. Raises `CheckpointError` where it is missing or no JSON, `PlanError` for its content."""
        try:
            return cls.model_validate(_loaded(Path(path)))
        except PlanError as error:
            raise PlanError(f"{os.fspath(path)}: {error}") from error

    def __str__(self) -> str:
        """The text of the file: what each table or list holds has a line of its own, however long."""
        return _braced({key: _lines(value) for key, value in self.model_dump(mode="json").items()}) + "\n"


def _lines(value: Any) -> str:
    if isinstance(value, dict) and value:
        return _braced({key: json.dumps(held) for key, held in value.items()}, indent=4)
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(f"    {json.dumps(held)}" for held in value) + "\n  ]"
    return json.dumps(value)


def _braced(entries: dict[str, str], indent: int = 2) -> str:
    lines = (f"{' ' * indent}{json.dumps(key)}: {text}" for key, text in entries.items())
    return "{\n" + ",\n".join(lines) + f"\n{' ' * (indent - 2)}}}"


def _loaded(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_distinct, parse_constant=_no_number)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise CheckpointError(f"{path} is no JSON at {where}: {error.msg}. Mend the line, or write it anew.") from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no JSON: {error}. Write it anew.") from error


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise PlanError(f"{twice!r} is there twice, and only one of the two would count; remove one")
    return found


def _no_number(text: str) -> Any:
    raise PlanError(f"{text} is no number that can be worked with")


def _told(error: ValidationError) -> str:
    """`groups['layer1.0'].keep=70: Input should be ...`."""
    first = error.errors()[0]
    where = "".join(
        f"[{part!r}]" if isinstance(part, int) or not part.isidentifier() else f".{part}" for part in first["loc"]
    ).removeprefix(".")
    said = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "missing":
        return f"{where} is missing"
    held = "" if isinstance(first["input"], dict) else f"={reprlib.repr(first['input'])}"
    return f"{where}{held}: {said}" if where else f"{reprlib.repr(first['input'])}: {said}"
