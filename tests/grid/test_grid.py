"""The cells of a grid, and the script that runs them."""

import shutil

import pytest
from tiny import EXPERIMENTS, call_script

from segattn.grid import expand


def paths(*overrides):
    cells = expand(["ablation=heads", "head=fla", *overrides], folder=EXPERIMENTS)
    return ["/".join(cell.run.path.parts[-2:]) for cell in cells]


def test_seeds_share_a_folder_and_other_axes_have_their_own():
    assert paths("seed=3,4", "data.num_test=4,5") == [
        "heads-scenes-num_test_4/fla-resnet18-scenes-s3",
        "heads-scenes-num_test_5/fla-resnet18-scenes-s3",
        "heads-scenes-num_test_4/fla-resnet18-scenes-s4",
        "heads-scenes-num_test_5/fla-resnet18-scenes-s4",
    ]
    assert paths("seed=0", "data=scenes,camvid", "data.root=x") == [
        "heads-scenes/fla-resnet18-scenes-s0",
        "heads-camvid/fla-resnet18-camvid-s0",
    ]
    assert paths("seed=0", "experiment=mine", "encoder=resnet18,resnet50") == [
        "mine-encoder_resnet18/fla-resnet18-scenes-s0",
        "mine-encoder_resnet50/fla-resnet50-scenes-s0",
    ]
    (path,) = paths("seed=0", "experiment=mine")
    assert path == "mine/fla-resnet18-scenes-s0"


def test_knobs_of_a_head_share_a_folder_under_names_of_their_own():
    assert paths("seed=0", "head.channels=32,64") == [
        "heads-scenes/fla-channels_32-resnet18-scenes-s0",
        "heads-scenes/fla-channels_64-resnet18-scenes-s0",
    ]
    variant = "head=fla,fla head.published_batch_mixing=true"
    assert paths("seed=1", variant, "loader.eval_batch_size=1") == [
        "heads-scenes/fla-resnet18-scenes-s1",
        "heads-scenes/fla-published_batch_mixing_true-resnet18-scenes-s1",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data=scenes"], "name one ablation"),
        (["ablation=hades"], "unknown ablation 'hades'.*heads.*quick"),
        (["ablation=heads", "head.chanels=3"], "chanels"),
        (["ablation=heads", "data=camvid"], r"not set: data\.root"),
        (["ablation=heads", "logger=none,wandb"], "logger cannot be an axis; head, seed"),
        (["ablation=heads", "encoder.depth=2"], "at most 2 .* = 4, got 8"),
    ],
)
def test_mistakes_are_named_before_anything_runs(overrides, message):
    with pytest.raises(ValueError, match=message):
        expand(overrides, folder=EXPERIMENTS)


def test_script_lists_commands_and_reports_failure(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert call_script(monkeypatch, "ablate.py", "ablation=heads", "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 18
    assert lines[0].startswith("python scripts/train.py ")
    assert lines[0].endswith(" seed=0 head=fcn")
    one = ["head=fcn", "seed=0", "data=camvid", "data.root=/nowhere"]
    wrong = call_script(monkeypatch, "ablate.py", "ablation=heads", *one)
    assert str(wrong).startswith("error: no folder /nowhere")
    # the data is there, and every cell fails: its batch is larger than the data set
    sizes = ["data.num_train=4", "data.num_val=1", "data.num_test=1", "logger=none"]
    assert call_script(monkeypatch, "ablate.py", "ablation=smoke", *one[:2], *sizes) == 1
    *_, last, advice = capsys.readouterr().out.splitlines()
    assert last.startswith("failed runs/smoke-scenes/fcn-tu-test_resnet-scenes-s0: loader.b")
    assert "--retry-failed" in advice
    told = call_script(monkeypatch, "ablate.py", "ablation=smoke", *one[:2], *sizes)
    assert told == 1, "a failed cell is left alone, and still missing"


@pytest.mark.parametrize("words", [["name=foo"], ["seed=0,0"], ["head=fcn,fcn"], ["name=${seed}"]])
def test_two_cells_never_share_a_folder(words):
    with pytest.raises(ValueError, match=r"two cells would share the folder .*name=\$\{head"):
        expand(["ablation=heads", "data=scenes", *words], folder=EXPERIMENTS)


@pytest.mark.parametrize(
    "content",
    [
        *("", "- head", "axes:", "axes: {}", "axes: {head: [fcn]}\nseed: 1"),
        *("axes: {seed: 3}", "axes: {head: fcn}", "axes: [fcn]"),
        "axes: {seed: [0]}\noverrides: a=b",
    ],
)
def test_an_ablation_without_lists_of_axes_is_one_line(tmp_path, content):
    shutil.copytree(EXPERIMENTS, tmp_path / "e")
    (tmp_path / "e/ablation/mine.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"mine\.yaml must hold `axes`, each a list"):
        expand(["ablation=mine", "data=scenes"], folder=tmp_path / "e")


def test_seeds_and_heads_in_brackets_are_several_and_other_forms_are_refused():
    cells = expand(["ablation=heads", "seed=[0,1]", "head=[fcn,fla]"], folder=EXPERIMENTS)
    assert len(cells) == 4
    for word in ("seed=0 1", "seed=0..3", "seed=glob(*)"):
        with pytest.raises(ValueError, match=r"^(seed=|cannot read .seed=)"):
            expand(["ablation=heads", word], folder=EXPERIMENTS)


def test_values_of_a_file_are_those_of_yaml(tmp_path):
    shutil.copytree(EXPERIMENTS, tmp_path / "e")
    axes = "axes: {encoder.weights: [null, imagenet], augment.scale: [[1, 1], [0.5, 2]]}"
    (tmp_path / "e/ablation/mine.yaml").write_text(axes)
    cells = expand(["ablation=mine", "data=scenes"], folder=tmp_path / "e")
    found = [(c.config["encoder"]["weights"], c.config["augment"]["scale"]) for c in cells]
    assert found == [(w, s) for w in (None, "imagenet") for s in ([1, 1], [0.5, 2])]
