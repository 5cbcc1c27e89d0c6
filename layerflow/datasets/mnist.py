"""MNIST from its four original IDX files (Y. LeCun, C. Cortes, C. Burges), which are not part of the package."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np

Split = tuple[np.ndarray, np.ndarray]

_IMAGES, _LABELS = 2051, 2049
_UNPACKED_LIMIT = 1 << 28


def load(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """Read MNIST from the folder `path` (default: the one named in LAYERFLOW_MNIST).

    Returns `(x_train, y_train), (x_test, y_test)`: x uint8 [60000 or 10000, 28, 28], y uint8 [rows].
    The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and two `t10k-` files, plain or with `.gz`.
    Raises FileNotFoundError when the folder or a file is missing, ValueError when a file is not what its name says.
    """
    named = path if path is not None else os.environ.get("LAYERFLOW_MNIST")
    if named is None:
        raise FileNotFoundError("MNIST is not part of layerflow: pass its folder, or name it in LAYERFLOW_MNIST.")
    folder = Path(named)
    train, test = (_split(folder, part) for part in ("train", "t10k"))
    return train, test


def _split(folder: Path, part: str) -> Split:
    images = _read(folder, f"{part}-images-idx3-ubyte", _IMAGES, 3)
    labels = _read(folder, f"{part}-labels-idx1-ubyte", _LABELS, 1)
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {len(images)} {part} images but {len(labels)} labels.")
    return images, labels


def _read(folder: Path, name: str, magic: int, rank: int) -> np.ndarray:
    data = _bytes(folder, name)
    header = np.frombuffer(data[: 4 * (rank + 1)], ">u4").tolist()
    shape, size = tuple(header[1:]), len(data) - 4 * (rank + 1)
    if len(header) != rank + 1 or header[0] != magic or int(np.prod(shape, dtype=np.int64)) != size:
        raise ValueError(f"{folder / name} is not the IDX file its name promises, or is cut short.")
    return np.frombuffer(data, np.uint8, offset=4 * (rank + 1)).reshape(shape)


def _bytes(folder: Path, name: str) -> bytes:
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.is_file():
        return plain.read_bytes()
    if packed.is_file():
        try:
            with gzip.open(packed) as file:
                return file.read(_UNPACKED_LIMIT)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{packed} cannot be unpacked, it is cut short or no gzip file: {error}.") from None
    raise FileNotFoundError(f"{folder} has neither {name} nor {name}.gz; MNIST is four such files.")
