"""Writing files so that a reader never sees half of one."""

import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from segattn.base.errors import UserError, one_line

_DRAFT = ".draft-"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a draft path beside `path`; on success it replaces `path`, on error it vanishes.

    A reader sees the old file or the whole new one, also when the process is killed or the disk
    is full while writing. The folder of `path` is made where it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # in the same folder, since os.replace is atomic only within a file system; the suffix stays,
    # since np.savez appends its own to any other
    draft = path.with_name(f"{_DRAFT}{path.stem}-{socket.gethostname()}-{os.getpid()}{path.suffix}")
    try:
        yield draft
        _flush(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def remove_drafts(*paths: Path) -> None:
    """Remove what a killed process has left of writing `paths`, which nobody else may write now."""
    for path in paths:
        for draft in path.parent.glob(f"{_DRAFT}{path.stem}-*{path.suffix}"):
            draft.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Onto the disk before the name: else a machine that stops could leave the new file empty."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def walk(folder: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Walk a folder like os.walk, follow links, and visit each folder once.

    Raises:
        OSError: A folder may not be read; its name is in the error.
    """

    def refuse(error: OSError) -> None:
        raise error

    seen = set()
    for path, folders, files in os.walk(folder, followlinks=True, onerror=refuse):
        real = os.path.realpath(path)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        yield Path(path), folders, files


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file.

    Raises:
        UserError: The file is not YAML, or not UTF-8.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {one_line(error)}") from error


def cache_folder() -> Path:
    """Where this user keeps what can be computed again: $XDG_CACHE_HOME/segattn."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segattn"


def cached(kind: str, question: object, find: Callable[[], Any]) -> Any:
    """Return what `find` returns, or what it returned before to the same question.

    A cache folder that cannot be read or written costs time alone.

    Args:
        kind: Begins the name of the file in `cache_folder`.
        question: Has a `repr` that changes whenever the answer may.
        find: Computes the answer, which JSON can hold.
    """
    name = hashlib.sha256(repr(question).encode()).hexdigest()[:32]
    path = cache_folder() / f"{kind}-{name}.json"
    with suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    found = find()
    with suppress(OSError), atomic_path(path) as draft:
        draft.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return found


def digest(path: Path) -> str:
    """Return the SHA-256 of a file's content; it distinguishes weights of the same name."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
