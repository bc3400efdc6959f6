"""CIFAR-10 from a folder, in whichever of its three usual layouts it lies there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from zipfile import BadZipFile, is_zipfile
from zlib import error as BadStream

import numpy as np
import torch

from secateur.errors import DataError
from secateur.experiments.data.augment import crop_and_flip
from secateur.experiments.data.base import Data, Split
from secateur.experiments.data.python_batches import read_python_batch

VARIABLE = "SECATEUR_DATA"
# Those of ImageNet, not CIFAR's own: the common pretrained CIFAR ResNets were trained with them.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, CLASSES = 32, 10
RECORD = 1 + 3 * SIDE * SIDE
BATCHES = range(1, 6)

Reader = Callable[[Path], Split]
LAYOUTS = """\
  train_0.npz .. train_4.npz, test.npz         arrays `images` (N, 32, 32, 3) uint8 and `labels` (N,)
  data_batch_1.bin .. _5.bin, test_batch.bin   the binary version, here or in cifar-10-batches-bin/
  data_batch_1 .. _5, test_batch               the Python version, here or in cifar-10-batches-py/"""


def cifar10(folder: str | None = None) -> Data:
    """CIFAR-10 as uint8 (3, 32, 32), with crops and flips as augmentation; nothing is downloaded.

    `folder` None means `$SECATEUR_DATA/cifar10`. Raises DataError if the folder is missing, holds none of the layouts
    known, or holds a damaged file.
    """
    where = Path(folder) if folder else _default_folder()
    if not where.is_dir():
        raise DataError(f"there is no folder {str(where)!r}. CIFAR-10 is read from a folder with\n{LAYOUTS}")
    train, test = _layout(where)
    return Data("cifar10", CLASSES, (3, SIDE, SIDE), MEAN, STD, train, test, crop_and_flip)


def _default_folder() -> Path:
    if VARIABLE not in os.environ:
        raise DataError(f"where is CIFAR-10? Say cifar10:FOLDER, or set {VARIABLE} to the folder that holds cifar10/.")
    return Path(os.environ[VARIABLE]) / "cifar10"


def _layout(where: Path) -> tuple[Split, Split]:
    batches = [f"data_batch_{number}" for number in BATCHES]
    candidates: list[tuple[Path, list[str], str, Reader]] = [
        (where, [f"train_{number}.npz" for number in range(5)], "test.npz", _read_npz)
    ]
    for base in (where, where / "cifar-10-batches-bin"):
        candidates.append((base, [f"{batch}.bin" for batch in batches], "test_batch.bin", _read_binary))
    for base in (where, where / "cifar-10-batches-py"):
        candidates.append((base, batches, "test_batch", _read_python))
    for base, train, test, read in candidates:
        if any((base / name).is_file() for name in [*train, test]):
            return _join([_read(base / name, read) for name in train]), _read(base / test, read)
    raise DataError(f"{str(where)!r} holds no CIFAR-10 in a known layout. Known:\n{LAYOUTS}")


def _join(parts: list[Split]) -> Split:
    return Split(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))


def _read(path: Path, read: Reader) -> Split:
    try:
        return read(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing, though files of the same layout lie beside it.") from error
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, BadStream) as error:
        raise DataError(f"{path} is damaged or is not CIFAR-10: {error}.") from error


def _read_npz(path: Path) -> Split:
    if not is_zipfile(path):
        raise ValueError("not a .npz archive")
    with np.load(path, allow_pickle=False) as arrays:
        return _split(arrays["images"].transpose(0, 3, 1, 2), arrays["labels"])


def _read_binary(path: Path) -> Split:
    raw = np.fromfile(path, dtype=np.uint8)
    if raw.size == 0 or raw.size % RECORD:
        raise ValueError(f"{raw.size} bytes are not a whole number of {RECORD}-byte records")
    records = raw.reshape(-1, RECORD)
    return _split(records[:, 1:].reshape(-1, 3, SIDE, SIDE), records[:, 0])


def _read_python(path: Path) -> Split:
    images, labels = read_python_batch(path)
    return _split(images.reshape(-1, 3, SIDE, SIDE), labels)


def _split(images: np.ndarray, labels: np.ndarray) -> Split:
    if images.dtype != np.uint8 or images.shape[1:] != (3, SIDE, SIDE) or labels.shape != images.shape[:1]:
        raise ValueError(f"images {images.dtype} {images.shape} with labels {labels.shape}")
    if labels.size and not 0 <= labels.min() <= labels.max() < CLASSES:
        raise ValueError(f"labels from {labels.min()} to {labels.max()}, 0 to {CLASSES - 1} needed")
    return Split(torch.from_numpy(np.array(images, order="C")), torch.from_numpy(labels.astype(np.int64)))
