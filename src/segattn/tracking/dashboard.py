"""The W&B workspace that compares heads: IoU by size, learning curves, efficiency, predictions.

It needs wandb-workspaces, which `make setup` installs; else: pip install -e ".[dashboard]". Runs
are grouped by their W&B group, which is a head in an experiment (`wandb_folder.wandb_facts`), so
bars and curves are means over its seeds, with their standard deviation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from segattn.base.errors import UserError
from segattn.metrics import SIZES

BASELINE = "fcn"
"""The head that others are compared with."""

_MAX_RUNS = 200  # W&B would show ten
_AVERAGED: dict[str, Any] = {
    "groupby": "Group",
    "groupby_aggfunc": "mean",
    "groupby_rangefunc": "stddev",
    "max_runs_to_show": _MAX_RUNS,
}
"""Options of a line or bar per group."""
_BARS = {
    "all pixels (mIoU)": "miou",
    **{f"{size} objects": f"iou_size/{size}" for size in SIZES},
    "thin objects": "iou_shape/thin",
    **{f"{group} classes": f"iou_group/{group}" for group in ("small", "large", "thin")},
}
_VALIDATION = {
    "mIoU": "miou",
    "loss": "loss",
    "IoU of small objects": "iou_size/small",
    "IoU of large objects": "iou_size/large",
}
_COSTS = {
    "FLOPs per image": "flops",
    "parameters of the head": "head_parameters",
    "training images per second": "images_per_second",
    "peak memory [bytes]": "peak_memory_bytes",
}
_PICTURES = {
    "test images": "test/examples",
    "attention": "test/attention",
    "validation scenes while training": "val/scenes",
    "confusion, percent of the true class": "test/confusion",
}
_READING = """Bars and curves are means over the seeds of a head; the marks show the standard \
deviation of the seeds. Intervals over seeds and test images are in the artifact \
`comparison-EXPERIMENT`, from `python scripts/publish.py`; answers to the claims in report.html.
Compare heads within a size, not sizes within a head."""


def build_workspace(
    *, entity: str, project: str, experiment: str | None = None, baseline: str | None = None
) -> Any:
    """Build the workspace; neither a login nor a network is needed before it is saved.

    Args:
        entity: User or team that it is for.
        project: Project of the runs.
        experiment: Show its runs alone; None for all trained runs of the project.
        baseline: Id of the W&B run to pin as the baseline, see `find_baseline`.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    ws, _ = packages()
    if experiment is None:
        shown = ws.Metric("JobType") == "train"
    else:  # an experiment may consist of evaluations
        shown = ws.Config("experiment") == experiment
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Heads by object size{f': {experiment}' if experiment else ''}",
        sections=_sections(),
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=_MAX_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(shown),
            groupby=[ws.Metric("Group")],
            order=[ws.Ordering(ws.Summary("test/miou"), ascending=False)],
            baseline_run=baseline,
        ),
    )


def find_baseline(
    *, entity: str, project: str, experiment: str | None = None, api: Any = None
) -> str | None:
    """Return the id of the newest finished run of the head `BASELINE`, None without one.

    Args:
        entity: User or team of the runs.
        project: Project of the runs.
        experiment: Search its runs alone.
        api: A `wandb.Api`; None makes one, which needs a login.

    Raises:
        UserError: W&B cannot read the project.
    """
    import wandb

    def fits(run: Any) -> bool:
        head = (run.config.get("head") or {}).get("name")
        named = experiment in (None, run.config.get("experiment"))
        return head == BASELINE and named and run.state == "finished"

    with _plain_errors(f"W&B cannot read {entity}/{project}"):
        runs = (api or wandb.Api()).runs(f"{entity}/{project}", order="-created_at")
        return next((str(run.id) for run in runs if fits(run)), None)


def workspace_json(workspace: Any) -> str:
    """Return what saving it would send."""
    # wandb-workspaces has no public way to say it; constraints.txt holds the version
    return str(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=2))


def save_workspace(workspace: Any) -> str:
    """Save it as a new view; returns its page.

    Raises:
        UserError: The server does not take it.
    """
    with _plain_errors(f"W&B does not save a view in {workspace.entity}/{workspace.project}"):
        return str(workspace.save().url)


@contextmanager
def _plain_errors(failure: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        # W&B's own errors have no common base class
        if not isinstance(error, OSError) and not type(error).__module__.startswith("wandb"):
            raise
        raise UserError(f"{failure}: {error}. Check both names, and your rights there.") from error


def packages() -> tuple[Any, Any]:
    """Return the modules of workspaces and of their panels.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError(
            f'the dashboard needs wandb-workspaces ({error}): pip install -e ".[dashboard]"'
        ) from error
    return ws, wr


def _sections() -> list[Any]:
    ws, wr = packages()
    # a run has one of the two stages, see `SegmentationTask.stage_of_validation`
    curves = {title: [f"val/{k}", f"val_whole/{k}"] for title, k in _VALIDATION.items()}
    curves |= {"training loss": ["train/loss"], "learning rate": ["lr"]}
    gamma = {"title": "gamma of each block", "metric_regex": "gamma/.*"}
    score = wr.SummaryMetric("test/miou")
    bars = [
        wr.BarPlot(title=f"test IoU, {name}", metrics=[f"test/{key}"], **_AVERAGED)
        for name, key in _BARS.items()
    ]
    lines = [wr.LinePlot(title=t, x="epoch", y=keys, **_AVERAGED) for t, keys in curves.items()]
    points = [
        wr.ScatterPlot(
            title=f"test mIoU against {name}", x=wr.SummaryMetric(key), y=score, log_x=True
        )
        for name, key in _COSTS.items()
    ]
    pictures = [
        wr.MediaBrowser(title=name, media_keys=[key], num_columns=2)
        for name, key in _PICTURES.items()
    ]
    sections = {
        "IoU by object size": (3, [*bars, wr.MarkdownPanel(markdown=_READING)]),
        "Learning curves (validation)": (3, [*lines, wr.LinePlot(x="epoch", **gamma, **_AVERAGED)]),
        "Efficiency": (2, points),
        "Predictions": (2, pictures),
    }
    return [
        ws.Section(
            name=name,
            panels=panels,
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(
                columns=columns, rows=-(-len(panels) // columns)
            ),
        )
        for name, (columns, panels) in sections.items()
    ]
