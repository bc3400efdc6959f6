"""Reads the Python version of CIFAR-10, whose publisher chose pickles, without letting a pickle call anything.

A pickle runs code through the callables that it names, so this reader gives it none: the three names that those
files hold (an array, its dtype, how to rebuild it) and the one that Python 3 writes for bytes become the stand-ins
below; any other name is refused. What comes out are dictionaries, lists, numbers and bytes; the array is made here.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NoReturn

import numpy as np


class _Dtype:
    """Stands in for numpy.dtype: remembers the code that it was called with."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code.decode("ascii") if isinstance(code, bytes) else code

    def __setstate__(self, state: Any) -> None:
        """The byte order and the like, which a one-byte type does not have."""


class _Array:
    """Stands in for a numpy array: remembers its shape and its bytes."""

    def __init__(self, *_: Any) -> None:
        self.values = np.zeros(0, np.uint8)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, column_major, raw = state
        if not isinstance(dtype, _Dtype) or dtype.code != "u1":
            raise ValueError("the images are not unsigned bytes")
        flat = np.frombuffer(raw if isinstance(raw, bytes) else raw.encode("latin1"), np.uint8)
        self.values = flat.reshape(shape, order="F" if column_major else "C")


class _Type:
    """Stands in for numpy.ndarray, which is only ever named, not called."""


def _latin1(text: str, _: str) -> bytes:
    # Python 3 writes bytes, in the protocol of these files, as a call of _codecs.encode(text, "latin1").
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Type,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise ValueError(f"it asks for {module}.{name}, which a CIFAR-10 file has no use for; nothing was run")
        return _ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> NoReturn:
        raise ValueError(f"it refers to something outside of itself ({pid!r})")


def read_python_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images (N, 3072) uint8 and the labels (N,) of one `data_batch_*` file.

    Raises ValueError for a file that is not one, naming what it asked for; OSError if it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = _Reader(file, encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, AttributeError, TypeError, IndexError, ImportError) as error:
        raise ValueError(f"not a Python batch ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds {type(content).__name__}, not a dictionary")
    named = {key.decode("latin1") if isinstance(key, bytes) else key: value for key, value in content.items()}
    images, labels = named.get("data"), named.get("labels")
    if not isinstance(images, _Array) or not isinstance(labels, list):
        raise ValueError("it lacks the array `data` or the list `labels`")
    return images.values, np.array(labels, dtype=np.int64)
