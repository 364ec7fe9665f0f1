"""What the numbers say, in sentences."""

import pandas as pd

from segattn.analysis.claims import NAMES
from segattn.analysis.comparison import Comparison, base_name
from segattn.analysis.stats import MIN_SEEDS
from segattn.analysis.tables import OFF, block_shares, gains

_SHORT = {"iou_shape/thin": "thin"}


def findings(comparison: Comparison) -> list[str]:
    """One sentence per head but the reference: which objects it helps, and whether it is on."""
    frame, shares = gains(comparison), block_shares(comparison)
    sized = frame["score"].str.startswith(("iou_size", "iou_shape"))
    what = "objects"
    if not sized.any():
        sized, what = frame["score"].str.startswith("iou_group"), "classes"
    sentences = []
    for head in comparison.heads[1:]:
        rows = frame[sized & (frame["head"] == head)]
        overall = frame[(frame["score"] == "miou") & (frame["head"] == head)].iloc[0]
        share, reference = shares.get(head), comparison.reference
        sentences.append(_finding(head, rows, overall, reference, what=what, share=share))
    return sentences


def named(head: str) -> str:
    """A head in a sentence: "full attention (fla)", or its bare name where it has no other."""
    name = NAMES.get(base_name(head))
    return f"{name} ({head})" if name else head


def _finding(
    head: str,
    rows: pd.DataFrame,
    overall: pd.Series,
    reference: str,
    *,
    what: str,
    share: float | None,
) -> str:
    name = named(head)
    subject = name if name == head else name[0].upper() + name[1:]
    off = "" if share is None or share >= OFF else f" Its attention is off: {100 * share:.1f} %."
    if overall["seeds"] < MIN_SEEDS:
        gain = f"{overall['gain']:+.1f} mIoU" if overall["seeds"] else "no seed"
        common = f"{overall['seeds']} in common with {reference}"
        return f"{subject}: {gain}; {MIN_SEEDS} seeds are needed to say more, {common}.{off}"
    parts = [
        f"{verb} {_listed(rows[rows['told_apart'] & (sign * rows['gain'] > 0)])} {what}"
        for verb, sign in (("helps", 1), ("harms", -1))
        if (rows["told_apart"] & (sign * rows["gain"] > 0)).any()
    ]
    difference = f"no difference from {named(reference)} was detected"
    says = " and ".join(parts) or f": {difference} on {what} of any size"
    says = says if says[0] == ":" else f" {says}"
    total = f"mIoU {overall['gain']:+.1f}" + ("" if overall["told_apart"] else ", not decided")
    return f"{subject}{says}; {total}.{off}"


def _listed(rows: pd.DataFrame) -> str:
    """Sizes and gains, the greatest first: large (+20.0) and small (+3.1)."""
    ordered = rows.reindex(rows["gain"].abs().sort_values(ascending=False).index)
    words = [
        f"{score.split('/')[1]} ({gain:+.1f})"
        for score, gain in zip(ordered["score"], ordered["gain"], strict=True)
    ]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def subject(comparison: Comparison) -> str:
    """What was compared, in one line."""
    facts, first = comparison.facts, comparison.results[comparison.heads[0]][0]
    encoder, training = first.get("encoder"), first.get("training") or {}
    budget = (
        f", {training['steps']} steps of {training['batch_size']}" if "steps" in training else ""
    )
    seeds = {len(scores.seeds) for scores in comparison.scores.values()}
    number = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    return (
        f"{facts['data']['title']}: {len(comparison.heads)} heads, {number} seeds, "
        f"{len(facts['images'])} {facts['split']} images"
        + (f", {encoder['name']} to stage {encoder['depth']}{budget}" if encoder else "")
    )


def made_with(comparison: Comparison) -> str:
    """Hardware, precision and versions of the first run, as far as its result states them."""
    made = comparison.results[comparison.heads[0]][0].get("environment") or {}
    facts = [str(made[key]) for key in ("device", "precision") if key in made]
    facts += [f"{key} {made[key]}" for key in ("threads", "torch", "segattn") if key in made]
    return f"{', '.join(facts)}." if facts else ""


def setting(comparison: Comparison) -> list[str]:
    """Hardware, versions, protocol, and the edges and classes of the bins."""
    lines = [f"Protocol {comparison.facts['protocol']}."]
    if made := made_with(comparison):
        lines.append(made)
    low, high = comparison.measures.size_edges
    lines.append(f"Objects are medium from {low:g} and large from {high:g} px (root of the area).")
    lines += [
        f"{bin_} objects: {', '.join(names)}."
        for bin_, names in comparison.measures.size_classes.items()
    ]
    lines += [
        f"{group} classes: {', '.join(names)}."
        for group, names in comparison.measures.class_groups.items()
    ]
    unfinished = [f"Not finished: {run.path.name}." for run in comparison.unfinished]
    return [*lines, *comparison.notes, *unfinished]
