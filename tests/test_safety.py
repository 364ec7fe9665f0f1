"""Files of other people: no code that a config names, no text that becomes markup."""

import subprocess
import sys

import pytest
from tiny import EXPERIMENTS

from segattn.config.compose import compose_config
from segattn.grid import expand

CODE = "{_target_: os.mkdir, path: taken-over}"


@pytest.mark.parametrize(
    "override",
    [
        f"+hydra.callbacks.mine={CODE}",
        f"++hydra.launcher={CODE}",
        "hydra.sweeper._target_=os.mkdir",
        "hydra/launcher=joblib",
        "+hydra@data=x",
        "~loader",
    ],
)
def test_hydra_itself_cannot_be_configured(override):
    """Its main() would instantiate what its own section names; we only compose."""
    with pytest.raises(ValueError, match="has no effect here"):
        compose_config([override], folder=EXPERIMENTS)


@pytest.mark.parametrize("section", ["head", "data", "encoder", "optimizer", "trainer", "logger"])
def test_no_section_takes_a_target(section):
    with pytest.raises(ValueError, match="_target_"):
        compose_config([f"+{section}._target_=os.mkdir"], folder=EXPERIMENTS)


def test_a_config_file_with_code_runs_none(tmp_path):
    """Neither YAML tags nor a hydra section of a file that somebody sent."""
    folder = tmp_path / "experiments"
    for path in EXPERIMENTS.rglob("*.yaml"):
        (folder / path.relative_to(EXPERIMENTS)).parent.mkdir(parents=True, exist_ok=True)
        (folder / path.relative_to(EXPERIMENTS)).write_bytes(path.read_bytes())
    target = tmp_path / "taken-over"
    sent = folder / "recipe/sent.yaml"
    sent.write_text(f"# @package _global_\nhydra:\n  callbacks:\n    x: {CODE}\n")
    script = tmp_path / "scripts/train.py"
    script.parent.mkdir()
    script.write_bytes((EXPERIMENTS.parent / "scripts/train.py").read_bytes())
    done = subprocess.run(
        [sys.executable, str(script), "recipe=sent", "--cfg"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "seed: 0" in done.stdout or done.returncode != 0
    assert not target.exists()
    for text in (
        "axes: !!python/object/apply:os.mkdir [x]\n",
        "axes: {head: !!python/name:os.x}\n",
    ):
        (folder / "ablation/sent.yaml").write_text(text)
        with pytest.raises(ValueError, match=r"cannot read .*sent\.yaml"):
            expand(["ablation=sent"], folder=folder)
