"""How a run starts in W&B: its mode, its names, and the one id that is its own."""

import os
import re
import shutil

import pytest
import wandb
import yaml
from fake_wandb import fake_wandb
from tiny import call_script, tiny_config

from segattn.base.errors import UserError
from segattn.base.runs import Run
from segattn.tracking import loggers as logging
from segattn.tracking.loggers import JsonlLogger, build_loggers, close_loggers
from segattn.tracking.login import resolve_mode
from segattn.tracking.wandb_folder import place_of, slug, wandb_facts, wandb_id


def test_w_and_b_that_does_not_start_is_done_without(tmp_path, monkeypatch, capsys):
    """Its service died: an error that is none of W&B's classes."""

    def die(*_, **__):
        raise ConnectionResetError("Connection lost")

    monkeypatch.setattr(logging, "_start_wandb", die)
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = tiny_config(tmp_path, "logger=wandb")
    (only,) = build_loggers(config, Run(tmp_path))
    assert isinstance(only, JsonlLogger)
    assert "(Connection lost); going on without it" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"logger\.mode=offline \(Connection lost\)"):
        build_loggers(tiny_config(tmp_path, "logger=wandb", "logger.mode=offline"), Run(tmp_path))


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("WANDB_API_KEY", "abc", "key"),
        ("WANDB_API_KEY", "<your_api_key>", "key"),
        ("WANDB_BASE_URL", "http://127.0.0.1:abc", "its setting base_url"),
        ("WANDB_BASE_URL", "http://127.0.0.1:9", "no answer from http"),
        ("HTTP_PROXY", "http://127.0.0.1:9", "no answer from http"),
    ],
)
def test_auto_goes_on_offline_and_says_why(tmp_path, monkeypatch, capsys, variable, value, reason):
    with fake_wandb(monkeypatch, tmp_path):
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv(variable, value)
        wandb.teardown()
        assert resolve_mode("auto") == "offline"
        assert re.search(f"W&B will be offline: .*({reason})", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("given", "mode"),
    [("dryrun", "offline"), ("run", "online"), ("shared", "online"), ("disabled", "disabled")],
)
def test_every_name_of_a_mode_in_w_and_b_is_understood(tmp_path, monkeypatch, given, mode):
    monkeypatch.setenv("WANDB_MODE", given)
    assert resolve_mode("auto") == mode
    monkeypatch.delenv("WANDB_MODE")
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text(f"[default]\nmode = {given}\n")
    monkeypatch.chdir(tmp_path)
    if mode != "online":
        wandb.teardown()  # W&B reads its settings once
        assert resolve_mode("auto") == mode
        wandb.teardown()


def test_auto_sees_a_server_of_ones_own_in_w_and_bs_settings(tmp_path, monkeypatch):
    with fake_wandb(monkeypatch, tmp_path) as server:
        monkeypatch.delenv("WANDB_BASE_URL")
        monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
        (tmp_path / "settings").write_text(f"[default]\nbase_url = {server.url}\n")
        wandb.teardown()
        assert wandb.setup().settings.base_url == server.url
        assert resolve_mode("auto") == "online"


def test_online_wins_over_the_environment_and_long_names_are_cut(tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    long = "n" * 150
    words = ("logger=wandb", "logger.mode=online", f"experiment={long}", f"name={long}")
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        monkeypatch.setenv("WANDB_MODE", "offline")
        (logger, _) = loggers = build_loggers(tiny_config(tmp_path, *words), run)
        assert not logger.experiment.offline
        close_loggers(loggers, failed=False)
        assert len(server.runs) == 1


def test_w_and_bs_variables_count_where_the_config_is_silent(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_TAGS", "a,b")
    monkeypatch.setenv("WANDB_RUN_GROUP", "night")
    wandb.teardown()  # W&B reads the environment once
    config = tiny_config(tmp_path, "logger=wandb", "logger.tags=[a]")
    (tmp_path / "run").mkdir()
    (logger, _) = loggers = build_loggers(config, Run(tmp_path / "run"))
    started = logger.experiment
    assert (started.project, started.group) == ("mine", "night")
    assert started.tags == ("default", "fcn", "a", "b")
    close_loggers(loggers, failed=False)
    assert [*tmp_path.glob("wandb/offline-run-*")]
    assert place_of(tiny_config(tmp_path, "logger.project=own"))["project"] == "own"
    wandb.teardown()


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_what_w_and_bs_commands_set_in_a_folder_counts(tmp_path, monkeypatch, capsys, mode):
    """`wandb offline`, `wandb disabled` and `wandb init` leave a file of settings."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text(f"[default]\nmode = {mode}\nproject = mine\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb.teardown()
    assert resolve_mode("auto") == mode
    assert f"W&B will be {mode}: its settings here say so" in capsys.readouterr().out
    assert place_of(tiny_config(tmp_path))["project"] == "mine"
    wandb.teardown()


def test_seeds_of_a_head_share_a_group(tmp_path):
    first, second = (wandb_facts(tiny_config(tmp_path, f"seed={seed}")) for seed in (0, 11))
    assert first["group"] == second["group"] == "default-fcn-resnet18-scenes"
    assert first["name"] != second["name"]
    assert first["tags"] == ["default", "fcn"]


def started(runs_dir, *, config: dict, name: str = "first") -> str:
    """The id that W&B gives to a run that starts, and ends at once."""
    run = Run(runs_dir / "experiment" / name)
    run.path.mkdir(parents=True, exist_ok=True)
    close_loggers(build_loggers(config, run), failed=False)
    return (run.path / "wandb" / "id.txt").read_text()


def test_run_of_a_sweep_keeps_the_id_that_its_agent_gave_it(tmp_path, monkeypatch):
    """The variables of an agent count for one run; they may be left over from it in the next."""
    config = tiny_config(tmp_path, "logger=wandb", "logger.mode=online")
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        ids = []
        for name in ("first", "first", "second"):
            monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
            monkeypatch.setenv("WANDB_RUN_ID", "agents-id")
            wandb.teardown()  # W&B reads the environment once
            ids.append(started(tmp_path / "runs", config=config, name=name))
        assert ids[:2] == ["agents-id", "agents-id"]
        assert ids[2].startswith("default-fcn-resnet18-scenes-s0-")
        assert [*server.runs] == ["agents-id", ids[2]]


def test_cells_of_a_grid_are_not_the_one_run_of_an_agent(monkeypatch, capsys):
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep")
    monkeypatch.setenv("WANDB_RUN_ID", "agents-id")
    assert call_script(monkeypatch, "ablate.py", "ablation=quick", "--dry-run") == 0
    assert not {"WANDB_SWEEP_ID", "WANDB_RUN_ID"} & os.environ.keys()


@pytest.mark.parametrize("mode", ["online", "offline"])
@pytest.mark.parametrize(
    "left_over",
    [
        {"WANDB_RUN_ID": "other"},
        {"WANDB_RUN_ID": "other", "WANDB_RESUME": "allow"},
        {"WANDB_RUN_ID": "other", "WANDB_RESUME": "must"},
        {"WANDB_RESUME": "never"},
        {"WANDB_RESUME_FROM": "other?_step=3"},
        {"WANDB_FORK_FROM": "other?_step=3"},
        {"WANDB_NAME": "other", "WANDB_JOB_TYPE": "other", "WANDB_NOTES": "other"},
    ],
    ids=str,
)
def test_variables_of_another_program_mix_no_runs(tmp_path, monkeypatch, left_over, mode):
    config = tiny_config(tmp_path, "logger=wandb", f"logger.mode={mode}")
    with fake_wandb(monkeypatch, tmp_path / "home") as server:
        for name, value in left_over.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()  # W&B reads the environment once
        identity = started(tmp_path / "runs", config=config)
        assert identity.startswith("default-fcn-resnet18-scenes-s0-")
        assert [*server.runs] == ([identity] if mode == "online" else [])
        for run in server.runs.values():
            assert run["facts"]["displayName"] == "fcn-resnet18-scenes-s0"
            assert run["facts"]["jobType"] == "train"


def test_a_copy_that_goes_its_own_way_is_another_run(tmp_path):
    first = Run(tmp_path / "runs" / "default" / "fcn-resnet18-scenes-s0")
    config = tiny_config(tmp_path)
    for text, file in ((yaml.safe_dump(config), first.config_path), ("{}", first.result_path)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    copy, moved = (Run(tmp_path / name / "e" / first.path.name) for name in ("copy", "moved"))
    identity = wandb_id(first, config)
    shutil.copytree(first.path, copy.path)
    assert wandb_id(copy, config) == identity  # a copy of the same result
    copy.result_path.unlink()
    own = wandb_id(copy, config)
    assert own.startswith("default-fcn-resnet18-scenes-s0-")
    assert own != identity
    assert (wandb_id(copy, config), wandb_id(first, config)) == (own, identity)
    shutil.move(first.path, moved.path)
    moved.result_path.unlink()
    assert wandb_id(moved, config) == identity
    renamed = Run(moved.path.with_name("renamed"))
    shutil.copytree(moved.path, renamed.path)
    renamed.config_path.write_text(yaml.safe_dump(config | {"name": "renamed"}))
    assert wandb_id(renamed, renamed.config).startswith("default-renamed-")
    assert wandb_id(moved, config) == identity


@pytest.mark.parametrize("cut", ["name", "group"])
def test_names_that_w_and_b_would_cut_stay_different(tmp_path, cut):
    long = "e" * 128
    words = ([f"experiment={long}", f"name={long}-{head}"] for head in ("fcn", "fla"))
    first, second = (wandb_facts(tiny_config(tmp_path, *pair)) for pair in words)
    assert len(first[cut]) == len(second[cut]) == 128
    assert first[cut] != second[cut]


def test_other_letters_than_w_and_b_takes_stay_different():
    names = ("comparison-a b", "comparison-a_b", "comparison-a/b", "comparison-ä_b")
    assert slug("comparison-a_b") == "comparison-a_b"
    assert len({slug(name) for name in names}) == 4


def test_an_empty_variable_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    wandb.teardown()
    run = Run(tmp_path / "run")
    run.path.mkdir()
    loggers = build_loggers(tiny_config(tmp_path, "logger=wandb", "logger.mode=offline"), run)
    close_loggers(loggers, failed=False)
    assert len(loggers) == 2


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("WANDB_MODE", "onlin", "its setting mode: Input should be 'online'"),
        (
            "WANDB_BASE_URL",
            "wandb.example.com",
            "its setting base_url: Input should be a valid URL",
        ),
        ("WANDB_FINISH_TIMEOUT", "soon", "its setting finish_timeout: Input should be a valid"),
    ],
)
def test_a_variable_that_w_and_b_cannot_read_is_named(
    tmp_path, monkeypatch, capsys, variable, value, told
):
    wandb.teardown()
    monkeypatch.setenv(variable, value)
    run = Run(tmp_path / "run")
    run.path.mkdir()
    try:
        close_loggers(build_loggers(tiny_config(tmp_path, "logger=wandb"), run), failed=False)
        assert told in capsys.readouterr().out
    finally:
        monkeypatch.delenv(variable)
        wandb.teardown()
