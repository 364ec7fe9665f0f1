"""What the numbers say, in sentences."""

import pandas as pd

from segattn.analysis.comparison import HEADS, Comparison, base_name
from segattn.analysis.stats import MIN_SEEDS
from segattn.analysis.tables import OFF, TARGET, block_shares, family, gains, power


def kind_of_data(comparison: Comparison) -> list[str]:
    """What scenes are; nothing for photographs."""
    said = "Scenes are synthetic, a test of mechanism: what a head can do, not what it does."
    return [said] if comparison.facts["data"]["name"] == "scenes" else []


def findings(comparison: Comparison) -> list[str]:
    """One sentence per head but the reference: which objects it helps, and whether it is on."""
    frame, shares = gains(comparison), block_shares(comparison)
    sentences = []
    for head in comparison.heads[1:]:
        share = shares.get(head, OFF)
        off = f" Its attention is off: {100 * share:.1f} %." if share < OFF else ""
        name = named(head)
        subject = name if name == head else name[0].upper() + name[1:]
        against = " ".join(["against", named(comparison.reference), comparison.steps]).strip()
        says = _verdicts(frame[frame["head"] == head], comparison.reference)
        sentences.append(f"{subject} {against}: {says}.{off}")
    return sentences


def named(head: str) -> str:
    """A head in a sentence: "full attention (fla)", or its bare name where it has no other."""
    name = HEADS.get(base_name(head))
    return f"{name} ({head})" if name else head


def _verdicts(rows: pd.DataFrame, reference: str) -> str:
    overall = rows[rows["score"] == "miou"].iloc[0]
    if overall["seeds"] < MIN_SEEDS:
        gain = f"{overall['gain']:+.1f} mIoU; " if overall["seeds"] else ""
        return (
            f"{gain}{MIN_SEEDS} seeds are needed to say more, {overall['seeds']} in common with "
            f"{reference}"
        )
    sized, what = rows[rows["score"].str.startswith(("iou_size", "iou_shape"))], "objects"
    if sized.empty:
        sized, what = rows[rows["score"].str.startswith("iou_group")], "classes"
    parts = [
        f"{verb} {_listed(sized[sized['verdict'] == verdict])} {what}"
        for verdict, verb in (
            ("helps", "helps"),
            ("harms", "harms"),
            ("no difference", "no difference on"),
            ("not decided", "not decided on"),
        )
        if (sized["verdict"] == verdict).any()
    ]
    split = sized[sized["verdict"] == "two states"]
    parts += [
        f"learned {name.split('/')[1]} {what} in {runs} runs"
        for name, runs in zip(split["score"], split["runs"], strict=True)
    ]
    state = f"learned in {overall['runs']} runs" if overall["runs"] else overall["verdict"]
    return "; ".join([*parts, f"mIoU {overall['gain']:+.1f}, {state}"])


def _listed(rows: pd.DataFrame) -> str:
    """Sizes and gains, the greatest first: large (+20.0) and small (+3.1)."""
    ordered = rows.reindex(rows["gain"].abs().sort_values(ascending=False).index)
    words = [
        f"{name.split('/')[1]} ({gain:+.1f})"
        for name, gain in zip(ordered["score"], ordered["gain"], strict=True)
    ]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def seen(comparison: Comparison) -> str:
    """What the runs could see: the smallest detectable effects, and the seeds for 2 points."""
    rows = power(comparison)
    if rows.empty:
        return ""
    names = [name.split("/")[-1] if name != "miou" else "mIoU" for name in rows["score"]]
    kinds = [" classes" if name.startswith("iou_group") else "" for name in rows["score"]]
    rows = rows.assign(name=[name + kind for name, kind in zip(names, kinds, strict=True)])
    least = ", ".join(f"{row.name} {row.points:.1f}" for row in rows.itertuples(index=False))
    known, few = rows[rows["seeds"].notna()], rows[rows["seeds"].isna()]
    seeds = ", ".join(f"{row.name} {row.seeds:.0f}" for row in known.itertuples(index=False))
    more = f" More test images would be needed for {', '.join(few['name'])}." if len(few) else ""
    return (
        f"Gains seen with 80 % power, in points: {least}. "
        f"Seeds to see {TARGET:g} points: {seeds or 'none'}.{more}"
    )


def judged_by(comparison: Comparison) -> str:
    """Whose seeds the verdicts rest on."""
    own = [name.split("/")[-1] for name in family(comparison).own_noise]
    if comparison.seeds < MIN_SEEDS:
        return "Too few seeds for verdicts."
    rest = f", except {', '.join(own)}: heads differ there, each has its own" if own else ""
    return f"The noise of seeds is pooled over heads, as Levene's test allows{rest}."


def subject(comparison: Comparison) -> str:
    """What was compared, in one line."""
    facts, first = comparison.facts, comparison.results[comparison.heads[0]][0]
    encoder, training = first.get("encoder"), first.get("training") or {}
    size = f" of {training['batch_size']}" if "batch_size" in training else ""
    seeds = {len(scores.seeds) for scores in comparison.scores.values()}
    number = f"{min(seeds)}" if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    return (
        f"{facts['data']['title']}: {len(comparison.heads)} heads, {number} seeds, "
        f"{len(facts['images'])} {facts['split']} images"
        + (f", {encoder['name']} to stage {encoder['depth']}" if encoder else "")
        + (f", {comparison.steps.removeprefix('at ')}{size}" if comparison.steps else "")
        + gamma(comparison)
    )


def gamma(comparison: Comparison) -> str:
    """Where gamma starts, such as ", gamma from 1"; "" where heads differ, since labels say it."""
    heads = [results[0]["head"] for results in comparison.results.values()]
    starts = {head["gamma_start"] for head in heads if head.get("gamma_start") is not None}
    return f", gamma from {starts.pop():g}" if len(starts) == 1 else ""


def made_with(comparison: Comparison) -> str:
    """Hardware, precision and versions of the reference's lowest seed, as far as it states them."""
    made = comparison.results[comparison.heads[0]][0].get("environment") or {}
    facts = [str(made[key]) for key in ("device", "precision") if key in made]
    facts += [f"{key} {made[key]}" for key in ("threads", "torch", "segattn") if key in made]
    return f"{', '.join(facts)}." if facts else ""


def setting(comparison: Comparison) -> list[str]:
    """Hardware, versions, protocol, and the edges and classes of the bins."""
    measures = comparison.judged.measures
    low, high = measures.size_edges
    groups = [f"{b} objects: {', '.join(names)}." for b, names in measures.size_classes.items()]
    groups += [f"{g} classes: {', '.join(names)}." for g, names in measures.class_groups.items()]
    return [
        f"Protocol {comparison.facts['protocol']}.",
        *filter(None, [made_with(comparison)]),
        judged_by(comparison),
        f"Objects are medium from {low:g} and large from {high:g} px (root of the area).",
        *groups,
        *(f"Not finished: {run.path.name}." for run in comparison.unfinished),
    ]
