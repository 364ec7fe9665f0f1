"""What a model and a protocol take as images: pixels as they are stored, and nothing else."""

import copy

import pytest
import torch
from tiny_checkpoint import make_images, make_task

from segattn.models.inference import Protocol, predict

PIXELS = make_images(1, 40, 48)
PROTOCOLS = [
    Protocol(scales=(0.5, 1.5), flip=True),
    Protocol(name="sliding", crop=(24, 24), stride=(16, 16), scales=(0.75, 1.25)),
    Protocol(name="sliding", crop=(64, 64), stride=(64, 64), scales=(0.5,)),  # padded
]
WRONG = {
    "floats in 0 to 1": PIXELS / 255,
    "normalised floats": (PIXELS / 255 - 0.45) / 0.22,
    "floats in 0 to 255": PIXELS.float(),
    "half precision": PIXELS.half(),
    "bfloat16": PIXELS.bfloat16(),
    "int64": PIXELS.long(),
    "booleans": PIXELS > 100,
    "one image": PIXELS[0],
    "grey": PIXELS[:, :1],
    "alpha": torch.cat([PIXELS, PIXELS[:, :1]], 1),
    "channels last": PIXELS.permute(0, 2, 3, 1),
    "a clip": PIXELS[:, :, None],
}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return make_task(tmp_path_factory.mktemp("task"), "fla")


@pytest.mark.parametrize("kind", WRONG)
def test_other_images_are_refused_in_one_line(task, kind):
    message = r"^images must be uint8 \[B, 3, H, W\] in 0 to 255.*got torch\.\w+ \[[\d, ]+\]$"
    for function in (task, task.model, task.model.features, task.by_protocol):
        with pytest.raises(ValueError, match=message):
            function(WRONG[kind])
    with pytest.raises(ValueError, match=message):
        task.by_protocol(WRONG[kind], PROTOCOLS[0])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_resizes_pixels_and_gives_plain_logits(task, protocol, monkeypatch):
    with torch.inference_mode():
        got = task.by_protocol(PIXELS, protocol)
        monkeypatch.setattr("segattn.models.segmenter.check_images", lambda images: None)
        expected = predict(
            lambda images: task(images.as_subclass(torch.Tensor)).logits, PIXELS, protocol=protocol
        )
    assert type(got) is torch.Tensor
    assert torch.equal(got, expected)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2), (17, 8)])
def test_any_size_is_taken(task, size):
    image = make_images(1, *size)
    with torch.no_grad():
        assert task(image).logits.shape == (1, 3, *size)


def test_the_check_reads_no_value(task):
    """So no GPU waits for it."""
    model = copy.deepcopy(task.model).to("meta")
    assert model(PIXELS.to("meta")).logits.shape == (1, 3, 40, 48)
    with pytest.raises(ValueError, match="images must be uint8"):
        model((PIXELS / 255).to("meta"))


def test_a_compiled_model_checks_too(task):
    model = torch.compile(task.model, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.equal(model(PIXELS).logits, task(PIXELS).logits)
    with pytest.raises(Exception, match="images must be uint8"):
        model(PIXELS / 255)
