"""Weights of an encoder from a file: what fits is loaded, what does not is listed."""

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from tiny import EXPERIMENTS, tiny_config, tiny_overrides

from segattn.base.files import digest
from segattn.config.compose import compose_config
from segattn.models.encoder_weights import load_encoder, weights_file
from segattn.models.encoders import build_encoder
from segattn.training.train import train

TINY = ("encoder.name=resnet18", "encoder.depth=3", "encoder.output_stride=8")


@pytest.fixture(scope="module")
def whole():
    """The state dict of an ImageNet network: five stages and a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return timm.create_model("resnet18", pretrained=False).state_dict()


def load(path, name="resnet18", depth=3):
    encoder = build_encoder(name, depth=depth, output_stride=8)
    load_encoder(encoder, path, name=name)
    return encoder


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "safetensors"])
@pytest.mark.parametrize("name", ["resnet18", "tu-resnet18"])
def test_deeper_weights_with_a_classifier_are_loaded(name, wrap, whole, tmp_path):
    path = tmp_path / ("w.safetensors" if wrap == "safetensors" else "w.pth")
    if wrap == "safetensors":
        save_file({key: value.contiguous() for key, value in whole.items()}, path)
    else:
        torch.save(whole if wrap == "plain" else {wrap: whole, "epoch": 3}, path)
    for key, value in load(path, name).state_dict().items():
        assert torch.equal(value, whole[key.removeprefix("model.")]), key


def test_weights_of_the_encoder_alone_and_of_old_torch_are_loaded(whole, tmp_path):
    stages = ("conv1.", "bn1.", "layer1.", "layer2.")
    kept = {k: v for k, v in whole.items() if k.startswith(stages) and "num_batches" not in k}
    torch.save(kept, tmp_path / "w.pth")
    assert torch.equal(load(tmp_path / "w.pth").conv1.weight, whole["conv1.weight"])


def test_branches_of_an_hrnet_are_loaded(tmp_path):
    name = "tu-hrnet_w18_small"
    saved = smp.encoders.get_encoder(name, weights=None).model.state_dict()
    torch.save(saved, tmp_path / "w.pth")
    encoder = build_encoder(name, depth=3, output_stride=4)
    load_encoder(encoder, tmp_path / "w.pth", name=name)
    key = "stage2.0.branches.0.0.conv1.weight"
    assert torch.equal(encoder.branches.model.state_dict()[key], saved[key])


def test_file_is_loaded_into_an_encoder_that_cannot_be_built_without_memory(tmp_path):
    saved = smp.encoders.get_encoder("mit_b0", weights=None).state_dict()
    torch.save(saved, tmp_path / "w.pth")
    encoder = build_encoder("mit_b0", depth=3, output_stride=8)
    load_encoder(encoder, tmp_path / "w.pth", name="mit_b0")
    assert all(torch.equal(value, saved[key]) for key, value in encoder.state_dict().items())


def test_what_does_not_fit_is_listed(whole, tmp_path):
    changed = {k: v for k, v in whole.items() if not k.startswith("layer2.1.bn1.")}
    changed |= {"conv1.weight": torch.zeros(64, 4, 7, 7), "neck.weight": torch.zeros(1)}
    torch.save(changed, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth does not fit encoder resnet18") as raised:
        load(tmp_path / "w.pth")
    _, told = str(raised.value).split("depth. ")
    assert told == (
        "missing: layer2.1.bn1.bias, layer2.1.bn1.running_mean, layer2.1.bn1.running_var, "
        "layer2.1.bn1.weight; of another shape: conv1.weight; unknown: neck.weight"
    )


def test_long_lists_are_cut_and_counted(whole, tmp_path):
    torch.save({k: v for k, v in whole.items() if k[:6] != "layer2"}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"missing: layer2\.0\.bn1\.bias, .* and \d+ more$"):
        load(tmp_path / "w.pth")


def test_file_that_is_none_is_named(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"no weights")
    (tmp_path / "w.safetensors").write_bytes(b"no weights")
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=f"cannot read weights from {path}"):
            load(path)


def test_names_and_paths_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "w.pth").touch()
    assert weights_file("resnet18", "~/w.pth") == tmp_path / "w.pth"
    assert weights_file("resnet18", "ssl") is weights_file("tu-resnet18", "imagenet") is None
    with pytest.raises(ValueError, match=r"imagnet is not a file.*resnet18: imagenet, ssl, swsl"):
        weights_file("resnet18", "imagnet")


def test_run_starts_from_the_file_and_keeps_its_digest(whole, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(whole, path)
    still = ("trainer.max_epochs=1", "optimizer.lr=0")
    run = train(tiny_config(tmp_path, *TINY, *still, f"encoder.weights={path}"))
    saved = torch.load(run.checkpoint_path, weights_only=True)["state_dict"]
    assert torch.equal(saved["model.encoder.conv1.weight"], whole["conv1.weight"])
    assert run.result["encoder"]["weights_sha256"] == digest(path)
    other = train(tiny_config(tmp_path, *TINY, *still, "name=scratch"))
    first = torch.load(other.checkpoint_path, weights_only=True)["state_dict"]
    assert other.result["encoder"]["weights_sha256"] is None
    same = "model.head.classify.1.weight"  # the file changes no random number
    assert torch.equal(saved[same], first[same])


def test_another_file_under_the_same_path_is_another_experiment(whole, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(whole, path)
    words = [*TINY, f"encoder.weights={path}"]
    first = tiny_config(tmp_path, *words)
    torch.save(whole | {"fc.bias": torch.ones(1000)}, path)
    second = tiny_config(tmp_path, *words)
    assert first["encoder"]["weights_sha256"] != second["encoder"]["weights_sha256"]
    overrides = tiny_overrides(tmp_path, *words, "encoder.weights_sha256=0a")
    with pytest.raises(ValueError, match=r"w\.pth has the SHA-256 \w{64}"):
        compose_config(overrides, folder=EXPERIMENTS)
