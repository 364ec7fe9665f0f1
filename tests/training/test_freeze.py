"""encoder.freeze: what is frozen keeps its weights and statistics, all else learns."""

import pytest
import torch
from tiny import tiny_config, weights

from segattn.base.errors import UserError
from segattn.models.encoders import build_encoder
from segattn.training.train import train


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "encoder.pth"
    encoder = build_encoder("tu-test_resnet", depth=3, output_stride=8)
    torch.save(encoder.model.state_dict(), path)
    return path


@pytest.mark.parametrize("freeze", ["none", "bn", "all"])
def test_frozen_parts_of_a_run_keep_weights_and_statistics(tmp_path, file, freeze):
    words = [f"encoder.freeze={freeze}", f"encoder.weights={file}", "encoder=test_resnet"]
    trained = weights(train(tiny_config(tmp_path, *words, "trainer.val_every=1")))
    before = torch.load(file, weights_only=True)
    changed = {
        key
        for key, value in before.items()
        if not torch.equal(trained[f"model.encoder.model.{key}"], value)
    }
    norms = {key for key in before if ".running_" in key or "num_batches" in key}
    norms |= {f"{key.rpartition('.')[0]}.{name}" for key in norms for name in ("weight", "bias")}
    assert norms <= before.keys()
    expected = {"none": set(before), "bn": before.keys() - norms, "all": set()}[freeze]
    assert changed == {key for key in expected if key in changed}
    assert bool(changed) == (freeze != "all")
    assert len(changed) >= 0.9 * len(expected), expected - changed


def test_an_encoder_from_scratch_is_not_frozen(tmp_path):
    with pytest.raises(UserError, match=r"encoder\.freeze=bn would freeze an encoder at random"):
        tiny_config(tmp_path, "encoder.freeze=bn")
    with pytest.raises(UserError, match=r"unknown encoder\.freeze 'batchnorm'"):
        tiny_config(tmp_path, "encoder.freeze=batchnorm")
