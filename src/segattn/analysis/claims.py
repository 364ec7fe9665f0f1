"""Claims as data: what must hold between the scores of heads for a claim to be supported."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import segattn
from segattn.analysis.measures import MEASURES
from segattn.arguments import check_choice
from segattn.heads import HEADS

_TERM = re.compile(r"([+-]?)\s*(\w+)\((\w+)\)\s*")
_CONDITION = re.compile(r"(?P<terms>(?:[+-]?\s*\w+\(\w+\)\s*)+)>\s*(?P<threshold>-?[\d.]+)")


@dataclass(frozen=True)
class Term:
    """`sign` times the score of a head."""

    sign: int
    measure: str
    head: str


@dataclass(frozen=True)
class Condition:
    """A sum of terms that must exceed a threshold.

    Attributes:
        text: As written.
        terms: Of the sum.
        threshold: IoU points. Below 0 it is a margin: the head may be that much worse.
    """

    text: str
    terms: tuple[Term, ...]
    threshold: float

    @property
    def heads(self) -> list[str]:
        """Heads it compares, each once."""
        return list(dict.fromkeys(term.head for term in self.terms))


@dataclass(frozen=True)
class Claim:
    """A claim: every condition must hold; `extra` is reported and decides nothing."""

    name: str
    text: str
    conditions: tuple[Condition, ...]
    extra: tuple[Condition, ...]


@dataclass(frozen=True)
class Claims:
    """What is tested together.

    Attributes:
        claims: In order.
        alpha: Level of the tests, adjusted over the claims by Holm's method.
        smallest_effect: IoU points below which an effect is negligible: `mIoU` and `sizes`.
    """

    claims: tuple[Claim, ...]
    alpha: float
    smallest_effect: dict[str, float]

    def smallest(self, condition: Condition) -> float:
        """The smallest effect of interest for a condition, in points."""
        overall = all(term.measure == "mIoU" for term in condition.terms)
        return self.smallest_effect["mIoU" if overall else "sizes"]


def claims_path() -> Path:
    """Where experiments/claims.yaml stands in the checkout that the package was installed from."""
    return Path(segattn.__file__).parents[2] / "experiments" / "claims.yaml"


def load_claims(path: Path) -> Claims:
    """Read claims from YAML, see experiments/claims.yaml.

    Raises:
        ValueError: A key is missing or unknown, or a condition cannot be read; the message names
            file, claim and condition.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    _check_keys(content, {"alpha", "smallest_effect", "claims"}, where=str(path))
    _check_keys(content["smallest_effect"], {"mIoU", "sizes"}, where=f"{path}: smallest_effect")
    if not 0 < content["alpha"] < 1:
        raise ValueError(f"{path}: alpha must be between 0 and 1, got {content['alpha']}")
    claims = tuple(
        _read_claim(str(name), body, where=f"{path}: {name}")
        for name, body in content["claims"].items()
    )
    return Claims(claims, float(content["alpha"]), dict(content["smallest_effect"]))


def _check_keys(content: dict[str, Any], wanted: set[str], *, where: str) -> None:
    if set(content) != wanted:
        raise ValueError(f"{where} must hold {sorted(wanted)}, got {sorted(content)}")


def _read_claim(name: str, body: dict[str, Any], *, where: str) -> Claim:
    _check_keys({"extra": [], **body}, {"text", "conditions", "extra"}, where=where)
    if not body["conditions"]:
        raise ValueError(f"{where} needs at least one condition")
    conditions, extra = (
        tuple(parse_condition(text, where=where) for text in body.get(key, []))
        for key in ("conditions", "extra")
    )
    return Claim(name, body["text"], conditions, extra)


def parse_condition(text: str, *, where: str = "claim") -> Condition:
    """Read a condition such as `large(danet) - large(fcn) > 0`.

    Raises:
        ValueError: It does not have this form, or names an unknown measure or head.
    """
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{where}: cannot read {text!r}; write `measure(head) - measure(head) > points`"
        )
    terms = tuple(
        Term(-1 if sign == "-" else 1, measure, head)
        for sign, measure, head in _TERM.findall(match["terms"])
    )
    for term in terms:
        check_choice(f"{where}: measure", term.measure, MEASURES)
        check_choice(f"{where}: head", term.head, HEADS)
    if sum(term.sign for term in terms) != 0:
        raise ValueError(f"{where}: {text!r} must subtract as many scores as it adds")
    return Condition(text.strip(), terms, float(match["threshold"]))
