"""Every encoder trains at each depth and stride, or is refused in one line when it is built."""

import re

import pytest
import timm
import torch
from timm.models import model_entrypoint
from tiny import EXPERIMENTS

from segattn.base.errors import UserError
from segattn.models.segmenter import Segmenter

PAGE = (EXPERIMENTS.parent / "docs/encoders.md").read_text(encoding="utf-8")
ROWS = {
    name: [[int(stride) for stride in re.findall(r"\d+", cell)] for cell in cells.split("|")]
    for names, cells in re.findall(
        r"^\| (`.*?) \| (.*) \|$", PAGE.split("## Mean")[0], re.MULTILINE
    )
    for name in re.findall(r"`([^`]+)`", names)
}
FAMILIES = {name: row for name, row in ROWS.items() if "encoder.depth" not in name}


def train_and_predict(name: str, depth: int, stride: int) -> None:
    """A step on two images of 64x64 px by a head that reads earlier maps; then other sizes."""
    torch.manual_seed(0)
    model = Segmenter(
        num_classes=2,
        head={"name": "fla", "wiring": "published", "channels": 8},
        encoder={"name": name, "depth": depth, "output_stride": stride},
    )
    images = torch.randint(0, 256, (2, 3, 104, 136), dtype=torch.uint8)
    output = model.train()(images[..., :64, :64])
    sum(x.square().mean() for x in (output.logits, *output.aux.values())).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    with torch.inference_mode():
        for height, width in ((33, 47), (104, 136)):
            logits = model.eval()(images[:1, :, :height, :width]).logits
            assert logits.shape == (1, 2, height, width)
            assert logits.isfinite().all()


def strides(name: str, depth: int) -> list[int]:
    """At which it trains; all others are refused."""
    refused = {}
    for stride in (4, 8, 16, 32):
        try:
            train_and_predict(name, depth, stride)
        except UserError as error:
            refused[stride] = str(error)
    assert not any("\n" in reason for reason in refused.values())
    return [stride for stride in (4, 8, 16, 32) if stride not in refused]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_family_works_where_the_table_says_so(name):
    assert [strides(name, depth) for depth in (3, 4, 5)] == FAMILIES[name]


@pytest.mark.slow
def test_table_has_every_family_that_takes_images_of_any_size():
    of_timm = {n for n in timm.list_models() if not timm.get_pretrained_cfg(n).fixed_input_size}
    modules = {model_entrypoint(name).__module__ for name in of_timm}
    in_table = [name.removeprefix("tu-") for name in FAMILIES if name.startswith("tu-")]
    assert {model_entrypoint(name).__module__ for name in in_table} == modules
