"""What the scripts that take key=value words share."""

import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

import segattn
from segattn.base.arguments import check_choice
from segattn.base.lock import BUSY_EXIT, Busy


def read_words(
    words: Sequence[str], *, needed: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, str]:
    """The values of key=value words, as they were typed.

    Raises:
        ValueError: A word without "=", an unknown key (the message lists the choices), one that
            stands twice or has no value, or a needed one that is missing.
    """
    values: dict[str, str] = {}
    known = (*needed, *optional)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in known:
            raise ValueError(
                f"cannot read {word!r}; arguments are key=value, of {', '.join(known)}"
            )
        if key in values or not value:
            raise ValueError(f"{key} {'stands twice' if key in values else 'has no value'}")
        values[key] = value
    if missing := [key for key in needed if key not in values]:
        raise ValueError(f"missing {' and '.join(f'{key}=...' for key in missing)}")
    return values


def read_protocol(name: str | None, knobs: Mapping[str, str], *, folder: Path) -> dict[str, Any]:
    """Values of a protocol: those of a named one, with single knobs changed.

    Args:
        name: Of `folder`/NAME.yaml; None for the knobs alone.
        knobs: YAML text by name, such as {"crop": "[768,768]"}.
        folder: Where named protocols stand.

    Raises:
        ValueError: An unknown name (the message lists the choices), or text that is no YAML.
    """
    values: dict[str, Any] = {}
    if name is not None:
        files = {path.stem: path for path in folder.glob("*.yaml")}
        check_choice("protocol", name, files)
        values = yaml.safe_load(files[name].read_text(encoding="utf-8"))
    for knob, text in knobs.items():
        try:
            values[knob] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"cannot read protocol.{knob}={text}; a list is [768,768]") from error
    return values


@contextmanager
def plain_errors() -> Iterator[None]:
    """End the program with one line for an error that segattn raised, or for Ctrl-C.

    Its own messages say all that a user needs to know; any other error keeps its traceback.
    """
    try:
        yield
    except Busy as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BUSY_EXIT)
    except ValueError as error:
        message = own_message(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command starts it again")


def own_message(error: ValueError) -> str | None:
    """What segattn said, also in a loader's process; None for an error of other code."""
    ours, text = str(Path(segattn.__file__).parent), str(error)
    if text.startswith("Caught ValueError in DataLoader worker"):
        raised = text.rsplit('  File "', 1)[-1]  # torch sends the traceback as text
        return text.rsplit("\nValueError: ", 1)[-1].strip() if raised.startswith(ours) else None
    last = traceback.extract_tb(error.__traceback__)[-1]
    return text if last.filename.startswith(ours) else None
