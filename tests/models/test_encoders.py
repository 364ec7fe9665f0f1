"""An encoder is tried before use: failing ones are refused, unused stages are dropped."""

import pytest
import segmentation_models_pytorch as smp
import torch
from tiny import EXPERIMENTS
from torch.nn import functional

from segattn.config.compose import compose_config
from segattn.models import encoders
from segattn.models.encoders import build_encoder, check_encoder
from segattn.models.segmenter import Segmenter


@pytest.mark.parametrize(
    ("name", "depth", "stride", "message"),
    [
        # hooks of timm inside the stages that would be dropped
        ("tu-xception41p", 4, 8, "depth=4 .*stages behind its last map.; set them to 5 and 32"),
        # no dilation
        ("tu-test_mambaout", 5, 8, "output_stride=8 .*argument.*; set them to 5 and 32"),
        # maps of another size than image / stride: no padding
        ("tu-inception_v3", 3, 8, r"\(.* are \[3, 64, 192, 288, 6, 8\]\); choose another"),
        # stages that are not at strides 2, 4, 8, ...
        ("tu-shvit_s1", 5, 32, "downsampling pattern.*; choose another one"),
        ("tu-swin_tiny_patch4_window7_224", 5, 32, "one size only"),
        ("tu-resnet18.a9_in1k", 5, 32, "a9_in1k"),
    ],
)
def test_what_does_not_train_is_refused_in_one_line_before_data_is_read(
    name, depth, stride, message
):
    words = [f"encoder.name={name}", f"encoder.depth={depth}", f"encoder.output_stride={stride}"]
    with pytest.raises(ValueError, match=f"encoder '{name}' .*{message}") as raised:
        compose_config(words, folder=EXPERIMENTS)
    assert "\n" not in str(raised.value)


def test_trying_an_encoder_leaves_no_trace():
    encoders._trial.cache_clear()
    torch.manual_seed(0)
    with torch.inference_mode():
        check_encoder(name="tu-test_resnet", depth=3, output_stride=8)
    tried = torch.rand(3)
    torch.manual_seed(0)
    assert torch.equal(tried, torch.rand(3))
    torch.manual_seed(0)
    built = build_encoder("tu-test_resnet", depth=3, output_stride=8).state_dict()
    torch.manual_seed(0)
    given = smp.encoders.get_encoder("tu-test_resnet", depth=3, weights=None).state_dict()
    assert built.keys() == given.keys()
    assert all(torch.equal(built[key], given[key]) for key in given)


def test_encoder_that_cuts_its_map_into_windows_gets_sides_that_fit():
    """Windows of 2 x 2 cells at stride 16; a map of 5 x 7 cells would come back as 6 x 8."""
    encoder = {"name": "tu-mobilevitv2_050", "depth": 4, "output_stride": 16}
    model = Segmenter(num_classes=2, head={"name": "fcn", "channels": 8}, encoder=encoder).eval()
    assert (model.stride, model.size_multiple) == (16, 32)
    image = torch.randint(0, 256, (1, 3, 80, 112), dtype=torch.uint8)
    with torch.no_grad():
        assert model.features(image)[-1].shape[2:] == (6, 8)
        assert model(image).logits.shape == (1, 2, 80, 112)


@pytest.mark.parametrize("name", ["mobileone_s0", "tu-repvgg_a0"])
def test_narrow_convolutions_have_the_right_gradient_in_channels_last(name):
    """Inside oneDNN, it is up to 615 times off or ends the process."""
    encoder = build_encoder(name, depth=3, output_stride=8)
    inside = (m for m in encoder.modules() if getattr(m, "kernel_size", 0) == (1, 1))
    conv = next(m for m in inside if m.in_channels == 3).to(memory_format=torch.channels_last)
    torch.manual_seed(0)
    images = torch.randn(2, 3, 72, 88)
    weight = conv.weight.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    expected = functional.conv2d(images, weight, stride=2)
    got = conv(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(got, expected)
    seen = torch.randn_like(expected)
    (expected * seen).sum().backward()
    (got * seen).sum().backward()
    torch.testing.assert_close(conv.weight.grad, weight.grad, rtol=1e-4, atol=1e-3)
