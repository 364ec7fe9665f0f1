"""The recipes: those of the papers say where each value comes from, those of the ablation agree."""

import re
from functools import cache

import pytest
from tiny import EXPERIMENTS

from segattn.config.compose import compose_config
from segattn.models.heads import HEADS

RECIPES = EXPERIMENTS / "recipe"
DOCS = (EXPERIMENTS.parent / "docs" / "recipes.md").read_text(encoding="utf-8")
PAPERS = sorted(path.stem for path in RECIPES.glob("*net_*.yaml"))
DATA_SETS = ["ade20k", "cityscapes", "cocostuff", "context", "voc"]

# official training images
IMAGES = {"ade20k": 20210, "cityscapes": 2975, "cocostuff": 9000, "context": 4998, "voc": 10582}

# what a published recipe is about: crop, batch, the head's rate, decay, epochs, protocol
PUBLISHED = {
    "danet_cityscapes": ([768, 768], 8, 0.03, 1e-4, 240, [1024, 1024]),
    "danet_cocostuff": ([576, 576], 16, 0.01, 1e-4, 80, [576, 576]),
    "danet_context": ([576, 576], 16, 0.01, 1e-4, 80, [576, 576]),
    "danet_voc": ([576, 576], 16, 0.01, 1e-4, 50, [576, 576]),
    "flanet_ade20k": ([512, 512], 16, 0.01, 5e-4, 127, None),
    "flanet_cityscapes": ([768, 768], 8, 0.01, 5e-4, 162, [768, 768]),
    "flanet_voc": ([512, 512], 16, 0.01, 5e-4, 61, None),
}


@cache
def composed(*overrides: str) -> dict:
    return compose_config([*overrides, "data.root=data"], folder=EXPERIMENTS)


@pytest.mark.parametrize("recipe", PAPERS)
def test_paper_recipe_alone_is_the_whole_run(recipe):
    config = composed(f"recipe={recipe}")
    paper, data = recipe.split("_")
    assert config["data"]["name"] == data
    assert config["head"]["name"] == {"danet": "danet", "flanet": "fla"}[paper]
    assert config["head"]["wiring"] == "published"
    assert config["head"]["channels"] == 512
    encoder = config["encoder"]
    expected = {"danet": ("resnet101", [4, 8, 16]), "flanet": ("resnet101s", None)}[paper]
    assert (encoder["name"].removeprefix("tu-"), encoder["multi_grid"]) == expected
    assert (encoder["output_stride"], encoder["weights"]) == (8, "imagenet")
    optimizer, schedule = config["optimizer"], ("sgd", "poly", 0.0, 0.9)
    assert tuple(optimizer[k] for k in ("name", "schedule", "warmup", "momentum")) == schedule
    assert optimizer["encoder_lr_factor"] == {"danet": 0.1, "flanet": 1.0}[paper]
    assert config["loss"] == {
        "aux_weight": {"danet": 1.0, "flanet": 0.4}[paper],
        "class_weights": "none",
    }
    assert config["loader"]["eval_batch_size"] == 1
    assert (
        config["augment"]["crop"],
        config["loader"]["batch_size"],
        optimizer["lr"],
        optimizer["weight_decay"],
        config["trainer"]["max_epochs"],
        config["protocol"]["crop"],
    ) == PUBLISHED[recipe]


def test_every_paper_recipe_is_expected_and_documented():
    assert sorted(PUBLISHED) == PAPERS
    missing = [recipe for recipe in PAPERS if f"`{recipe}`" not in DOCS]
    assert not missing
    named = re.findall(r"`(?:paper_|heads data=)(\w+)`", DOCS)
    assert set(DATA_SETS) <= set(named)


@pytest.mark.parametrize("recipe", PAPERS)
def test_every_value_of_a_paper_recipe_names_its_source(recipe):
    body = (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")
    values = [line for line in body.splitlines() if re.match(r"\s+\w+: \S", line)]
    source = re.compile(r" # (code|paper|README|issue|not published|ours)\b.*\S")
    assert values
    assert not [line for line in values if not source.search(line)]


@pytest.mark.parametrize("head", sorted(set(HEADS) - {"fcn"}))
def test_all_heads_of_the_ablation_train_alike(head):
    baseline = composed("data=context", "encoder=resnet101", "head=fcn")
    config = composed("data=context", "encoder=resnet101", f"head={head}")
    assert config["head"]["channels"] == baseline["head"]["channels"] == 512
    assert config["encoder"]["weights"] == "imagenet"
    shared = config.keys() - {"head", "name"}
    assert {key: config[key] for key in shared} == {key: baseline[key] for key in shared}


@pytest.mark.parametrize("recipe", [*DATA_SETS, "flanet_ade20k", "flanet_cityscapes", "flanet_voc"])
def test_epochs_are_the_steps_that_the_comment_counts(recipe):
    body = (RECIPES / f"{recipe}.yaml").read_text(encoding="utf-8")
    found = re.search(r"max_epochs: (\d+) # .*?(\d+) steps / \((\d+) // (\d+) = (\d+)", body)
    assert found, recipe
    epochs, steps, images, batch, per_epoch = map(int, found.groups())
    config = composed(f"recipe={recipe}" if recipe in PAPERS else f"data={recipe}")
    assert images == IMAGES[config["data"]["name"]]
    assert batch == config["loader"]["batch_size"]
    assert per_epoch == images // batch
    assert epochs == round(steps / per_epoch) == config["trainer"]["max_epochs"]


def test_a_choice_on_the_command_line_wins_over_the_recipe():
    config = composed(
        "recipe=flanet_cityscapes", "encoder=resnet50", "protocol=whole", "optimizer.lr=0.5"
    )
    assert config["encoder"]["name"] == "resnet50"
    assert config["encoder"]["weights"] == "imagenet"
    assert config["protocol"]["name"] == "whole"
    assert config["protocol"]["crop"] is None
    assert config["optimizer"]["lr"] == 0.5


@pytest.mark.parametrize(("protocol", "long_side"), [("pascal", 500), ("coco", 640)])
def test_scales_of_the_small_sets_are_the_published_ones_on_a_long_side_of_608(protocol, long_side):
    published = composed("data=voc", "protocol=multiscale")["protocol"]
    own = composed("data=voc", f"protocol=multiscale_{protocol}")["protocol"]
    expected = [scale * 608 / long_side for scale in published["scales"]]
    assert own["scales"] == pytest.approx(expected, abs=1e-3)
    assert own["flip"] is published["flip"] is True
    assert own["average"] == published["average"] == "probabilities"
    assert own["stride"] == [side // 2 for side in own["crop"]]


def test_sliding_windows_overlap_by_a_third():
    sliding = composed("data=cityscapes", "protocol=sliding")["protocol"]
    assert sliding["stride"] == [side * 2 // 3 for side in sliding["crop"]]
    assert sliding["crop"] == composed("data=cityscapes")["augment"]["crop"]
