"""Images are normalised as the weights of the encoder want them, and a checkpoint says how."""

import pytest
import segmentation_models_pytorch as smp
import torch
from tiny import tiny_config

from segattn.models.encoder_weights import IMAGENET, normalisation, weights_file
from segattn.models.encoders import build_encoder
from segattn.models.segmenter import Segmenter
from segattn.training.build import build_data, build_task
from segattn.training.checkpoint import load_task

HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def test_encoders_of_smp_whose_weights_want_other_values_than_imagenets():
    """The values are in their config.json on the hub."""
    wanted = {
        **dict.fromkeys(["inceptionv4", "inceptionresnetv2", "xception"], HALVES),
        **{f"timm-tf_efficientnet_lite{i}": HALVES for i in range(5)},
        **dict.fromkeys(
            ["dpn68", "dpn68b", "dpn92", "dpn98", "dpn107", "dpn131"],
            ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3),
        ),
    }
    names = smp.encoders.get_encoder_names()
    found = {name: values for name in names if (values := normalisation(name)) != IMAGENET}
    assert found.keys() == wanted.keys()
    for name, (mean, std) in wanted.items():
        assert found[name] == (pytest.approx(mean), pytest.approx(std))


@pytest.mark.parametrize(
    ("name", "weights", "wanted"),
    [
        ("efficientnet-b0", "advprop", HALVES),
        ("timm-efficientnet-b3", "advprop", HALVES),
        ("timm-efficientnet-b3", "noisy-student", IMAGENET),
        ("timm-efficientnet-b3", "w.pth", IMAGENET),
        ("tu-mobilevit_xxs", "imagenet", ((0, 0, 0), (1, 1, 1))),
        ("tu-tf_efficientnet_b0", "imagenet", IMAGENET),
        ("tu-tf_efficientnet_b0.ap_in1k", "imagenet", HALVES),
        ("tu-test_resnet", "w.pth", HALVES),
        ("tu-test_resnet", None, IMAGENET),
        ("inceptionv4", None, IMAGENET),
    ],
)
def test_mean_and_deviation_are_those_of_the_weights(name, weights, wanted):
    assert normalisation(name, weights) == wanted


def test_encoder_sees_images_as_its_weights_want_them():
    model = Segmenter(
        num_classes=2,
        head={"name": "fcn", "channels": 8},
        encoder={"name": "tu-mobilevit_xxs", "depth": 3, "output_stride": 8},
    ).eval()
    seen = []
    model.encoder.register_forward_pre_hook(lambda _, x: seen.append(x[0]))
    model(torch.full((1, 3, 64, 64), 51, dtype=torch.uint8))
    torch.testing.assert_close(seen[0], torch.full((1, 3, 64, 64), 0.2))


def test_weights_that_do_not_exist_are_refused():
    with pytest.raises(ValueError, match="weights of tu-mobilenetv4_conv_small_035: none exist"):
        weights_file("tu-mobilenetv4_conv_small_035", "imagenet")
    with pytest.raises(ValueError, match="'imagenet'"):
        build_encoder("tu-test_resnet", depth=3, output_stride=8, weights="imagenets")


@pytest.fixture
def checkpoint(tmp_path):
    """Writes the checkpoint of a task with weights from a file, or with none, and its mean."""

    def write(*words):
        config = tiny_config(tmp_path, "encoder=test_resnet", *words)
        data = build_data(config)
        data.prepare_data()
        task = build_task(config, data)
        content = {"hyper_parameters": dict(task.hparams), "state_dict": task.state_dict()}
        torch.save(content, tmp_path / "last.ckpt")
        return content

    return write


def test_checkpoint_carries_mean_and_deviation(checkpoint, tmp_path):
    encoder = build_encoder("tu-test_resnet", depth=3, output_stride=8)
    torch.save(encoder.model.state_dict(), tmp_path / "w.pth")
    for words, wanted in (((f"encoder.weights={tmp_path / 'w.pth'}",), HALVES), ((), IMAGENET)):
        checkpoint(*words)
        model = load_task(tmp_path / "last.ckpt", device=torch.device("cpu")).model
        assert (model.mean.flatten().tolist(), model.std.flatten().tolist()) == (
            pytest.approx(wanted[0]),
            pytest.approx(wanted[1]),
        )


def test_checkpoint_without_them_was_trained_with_imagenets(checkpoint, tmp_path):
    content = checkpoint()
    del content["state_dict"]["model.mean"], content["state_dict"]["model.std"]
    torch.save(content, tmp_path / "last.ckpt")
    model = load_task(tmp_path / "last.ckpt", device=torch.device("cpu")).model
    assert torch.equal(model.mean.flatten(), torch.tensor(IMAGENET[0]))
    assert torch.equal(model.std.flatten(), torch.tensor(IMAGENET[1]))
