"""The W&B workspace that compares heads: IoU by size, learning curves, efficiency, predictions.

Made of wandb-workspaces, which `make setup` installs; else: pip install -e ".[dashboard]". Runs
are grouped by their W&B group, which is a head in an experiment (`wandb_folder.wandb_facts`), so
that bars and curves are means over its seeds, with their standard deviation.
"""

from typing import Any

from segattn.base.errors import UserError
from segattn.metrics import SIZES

_GROUP = "Group"
_STAGES = ("val", "val_whole")  # `SegmentationTask.stage_of_validation`: a run has one of them
_MAX_RUNS = 200  # W&B would show ten
_READING = """Bars and curves are means over the seeds of a head; the marks show the standard \
deviation of the seeds. Intervals over seeds and test images are in the artifact \
`comparison-EXPERIMENT`, from `python scripts/publish.py`; answers to the claims in report.html.
Compare heads within a size, not sizes within a head."""


def build_workspace(*, entity: str, project: str, experiment: str | None = None) -> Any:
    """The workspace; neither a login nor a network is needed before it is saved.

    Args:
        entity: User or team that it is for.
        project: Of the runs.
        experiment: Show its runs alone; None for all trained runs of the project.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    ws, _ = packages()
    if experiment is None:
        shown = ws.Metric("JobType") == "train"
    else:  # which may be one of evaluations
        shown = ws.Config("experiment") == experiment
    return ws.Workspace(
        entity=entity,
        project=project,
        name=f"Heads by object size{f': {experiment}' if experiment else ''}",
        sections=[_sizes(), _curves(), _efficiency(), _predictions()],
        settings=ws.WorkspaceSettings(x_axis="epoch", max_runs=_MAX_RUNS),
        runset_settings=ws.RunsetSettings(
            filters=ws.And(shown),
            groupby=[ws.Metric(_GROUP)],
            order=[ws.Ordering(ws.Summary("test/miou"), ascending=False)],
        ),
    )


def workspace_json(workspace: Any) -> str:
    """What saving it would send."""
    # wandb-workspaces has no public way to say it; constraints.txt holds the version
    return str(workspace._to_model().model_dump_json(by_alias=True, exclude_none=True, indent=2))


def save_workspace(workspace: Any) -> str:
    """Save it as a new view; returns its page.

    Raises:
        UserError: The server does not take it.
    """
    try:
        return str(workspace.save().url)
    except Exception as error:
        # W&B's own errors have no common base class
        if not isinstance(error, OSError) and not type(error).__module__.startswith("wandb"):
            raise
        raise UserError(
            f"W&B does not save a view in {workspace.entity}/{workspace.project}: {error}. Check "
            "both names, and that you may write there."
        ) from error


def packages() -> tuple[Any, Any]:
    """The modules of workspaces and of their panels.

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


def _section(name: str, panels: list[Any], *, columns: int = 3) -> Any:
    ws, _ = packages()
    layout = ws.SectionLayoutSettings(columns=columns, rows=-(-len(panels) // columns))
    return ws.Section(name=name, panels=panels, is_open=True, layout_settings=layout)


def _sizes() -> Any:
    _, wr = packages()
    names = {"all pixels (mIoU)": "test/miou"}
    names |= {f"{size} objects": f"test/iou_size/{size}" for size in SIZES}
    names |= {"thin objects": "test/iou_shape/thin"}
    names |= {f"{group} classes": f"test/iou_group/{group}" for group in ("small", "large", "thin")}
    bars = [
        wr.BarPlot(title=f"test IoU, {name}", metrics=[key], **_averaged())
        for name, key in names.items()
    ]
    return _section("IoU by object size", [*bars, wr.MarkdownPanel(markdown=_READING)])


def _curves() -> Any:
    _, wr = packages()
    validation = {
        "mIoU": "miou",
        "loss": "loss",
        "IoU of small objects": "iou_size/small",
        "IoU of large objects": "iou_size/large",
    }
    shown = {title: [f"{stage}/{k}" for stage in _STAGES] for title, k in validation.items()}
    shown |= {"training loss": ["train/loss"], "learning rate": ["lr"]}
    lines = [
        wr.LinePlot(title=title, x="epoch", y=keys, **_averaged()) for title, keys in shown.items()
    ]
    gamma = wr.LinePlot(
        title="gamma of each block", x="epoch", metric_regex="gamma/.*", **_averaged()
    )
    return _section("Learning curves (validation)", [*lines, gamma])


def _averaged() -> dict[str, Any]:
    """Options of a line or bar per group."""
    return {
        "groupby": _GROUP,
        "groupby_aggfunc": "mean",
        "groupby_rangefunc": "stddev",
        "max_runs_to_show": _MAX_RUNS,
    }


def _efficiency() -> Any:
    """Points take the colour of their group."""
    _, wr = packages()
    costs = {
        "flops": "FLOPs per image",
        "head_parameters": "parameters of the head",
        "images_per_second": "training images per second",
        "peak_memory_bytes": "peak memory [bytes]",
    }
    return _section(
        "Efficiency",
        [
            wr.ScatterPlot(
                title=f"test mIoU against {name}",
                x=wr.SummaryMetric(key),
                y=wr.SummaryMetric("test/miou"),
                log_x=True,
            )
            for key, name in costs.items()
        ],
        columns=2,
    )


def _predictions() -> Any:
    _, wr = packages()
    shown = {
        "test images": "test/examples",
        "attention": "test/attention",
        "validation scenes while training": "val/scenes",
        "confusion, percent of the true class": "test/confusion_picture",
    }
    panels = [
        wr.MediaBrowser(title=title, media_keys=[key], num_columns=2)
        for title, key in shown.items()
    ]
    table = wr.WeavePanelSummaryTable(table_name="test/iou_by_size")
    return _section("Predictions", [*panels, table], columns=2)
