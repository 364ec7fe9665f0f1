"""Words of the command line: paths as typed, several values in Hydra's grammar, clear refusals."""

import shutil

import pytest
from hydra import compose, initialize_config_dir
from tiny import EXPERIMENTS

from segattn.base.commandline import as_path, read_words
from segattn.base.errors import UserError
from segattn.config.compose import compose_config, compose_part
from segattn.config.words import parse, single, values

FOLDERS = (
    *("CamVid (1)", "données", "日本", "run=1", "it's", "a,b", "R&D", "[old]", "#1", 'say "a"'),
    *("back\\slash", "trailing\\", "{x}", "a:b", "$HOME", "~home", " blank ", "null", "1", "a\\'b"),
)


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("key", ["data.root", "runs_dir", "encoder.weights"])
def test_paths_work_as_typed(key, folder):
    path = f"/data/{folder}"
    with initialize_config_dir(str(EXPERIMENTS), version_base="1.3"):
        config = compose("train", overrides=single(["data=camvid", f"{key}={path}"]))
    for part in key.split("."):
        config = config[part]
    assert config == path


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("seed=0,1,2", ["0", "1", "2"]),
        ("seed=0, 1", ["0", "1"]),
        ("seed=range(0,3)", ["0", "1", "2"]),
        ("head=choice(fcn,fla)", ["fcn", "fla"]),
        ("augment.scale=[1,1],[0.5,2]", ["[1,1]", "[0.5,2]"]),
        ("encoder.weights=null,imagenet", ["null", "imagenet"]),
    ],
)
def test_several_values_are_read_by_hydras_grammar(word, expected):
    assert values(parse(word)) == expected
    with pytest.raises(UserError, match=r"several values.*scripts/ablate\.py"):
        single([word])


@pytest.mark.parametrize("word", ["seed=0,", "seed", "seed=a]b", "augment.scale=[1,2"])
def test_what_cannot_be_read_is_named(word):
    with pytest.raises(UserError, match="cannot read"):
        parse(word)


@pytest.mark.parametrize("word", ["hydra.run.dir=x", "~seed"])
def test_words_without_effect_are_refused(word):
    with pytest.raises(UserError, match="no effect here"):
        parse(word)


def test_a_tilde_is_home_wherever_a_path_stands(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    words = ["data=camvid", "data.root=~/cam", "runs_dir=~/runs"]
    config = compose_config(words, folder=EXPERIMENTS)
    assert config["data"]["root"] == str(tmp_path / "cam")
    assert config["runs_dir"] == str(tmp_path / "runs")
    own = tmp_path / "experiments"
    shutil.copytree(EXPERIMENTS, own)
    (own / "data/camvid.yaml").write_text("name: camvid\nroot: ~/mine\n")
    composed = compose_config(["data=camvid"], folder=own)
    assert composed["data"]["root"] == str(tmp_path / "mine")
    assert read_words(["out=~/x"], needed=("out",)) == {"out": str(tmp_path / "x")}
    assert as_path("~/y") == tmp_path / "y"


def test_a_part_takes_each_key_once_and_a_range_has_values():
    with pytest.raises(UserError, match="protocol stands twice"):
        compose_part(["protocol=sliding", "protocol=whole"], folder=EXPERIMENTS)
    with pytest.raises(UserError, match=r"seed=range\(3,0\) has no value"):
        values(parse("seed=range(3,0)"))
