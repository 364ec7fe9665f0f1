"""key=value words as people type them: paths and names as they are, the rest as Hydra reads it."""

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from segattn.base.errors import UserError

PATHS = ("data.root", "runs_dir", "encoder.weights")
_FILES = ("data.train", "data.val", "data.test", "data.classes")
_NAMES = ("name", "experiment", "logger.project", "logger.notes", "data.title")
"""Paths and names, in which blanks, commas, brackets, quotes and accents have no meaning."""


def parse(word: str) -> Override:
    """Parse one word; `input_line` of the result is the form that Hydra's `compose` takes.

    Raises:
        UserError: It is not key=value, or Hydra cannot parse its value.
    """
    key, _, value = word.partition("=")
    bare = key.lstrip("+")
    as_typed = bare in (*PATHS, *_NAMES) and (bare != "encoder.weights" or "/" in value)
    as_typed |= bare in _FILES and value.endswith((".json", ".yaml", ".yml"))
    quoted = f"{key}={QuotedString(value, Quote.single).with_quotes()}"
    try:
        parsed = OverridesParser.create().parse_override(
            quoted if as_typed and value not in ("", "null") else word
        )
    except HydraException as error:
        raise UserError(
            f"cannot read {word!r}: a word is key=value, a list [1,2], several values 0,1 or "
            "range(0,3)"
        ) from error
    if word.lstrip("+").startswith("hydra") or parsed.is_delete():
        raise UserError(f"{word!r} has no effect here: Hydra only composes the config")
    return parsed


def single(words: Sequence[str]) -> list[str]:
    """Return the words of one run in the form that `compose` takes.

    Raises:
        UserError: A word cannot be parsed, or has several values.
    """
    parsed = [parse(word) for word in words]
    for word in parsed:
        if word.is_sweep_override():
            raise UserError(
                f"{word.input_line} has several values, and this is one run; "
                "scripts/ablate.py ablation=NAME runs a grid of them"
            )
    return [text for word in parsed for text in _texts(word)]


def _texts(word: Override) -> list[str]:
    """Return a word for `compose`; logger=[wandb,csv] becomes the first group and the list."""
    value = word.value()
    # check_head and check_data report unknown keys
    if word.key_or_group.startswith(("data.", "head.")):
        return [f"++{str(word.input_line).lstrip('+')}"]
    if word.key_or_group != "logger" or not isinstance(value, list):
        return [str(word.input_line)]
    group = "wandb" if "wandb" in value else value[0]
    return [f"logger={group}", f"logger.name=[{','.join(map(str, value))}]"]


def values(word: Override) -> list[str]:
    """Each of several values, as Hydra's grammar writes it: of "0,1", range(0,3), choice(a,b)."""
    try:
        found = [str(value) for value in word.sweep_string_iterator()]
    except HydraException:  # glob(), which asks a loader of Hydra's that is not there
        found = []
    if not found:
        raise UserError(f"{word.input_line} has no value; several are 0,1,2 or range(0,3)")
    return found
