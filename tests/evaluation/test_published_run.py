"""Published weights as a run folder: the same logits, and refusals that say what does not fit."""

import pytest
import torch
from tiny import EXPERIMENTS, call_script

from segattn.base.runs import Run
from segattn.config.compose import compose_config
from segattn.evaluation.published_run import import_published, read_record
from segattn.models.encoders import architecture
from segattn.models.published import RENAMES
from segattn.models.segmenter import Segmenter
from segattn.training.checkpoint import load_task

CPU = torch.device("cpu")
OVERRIDES = ["recipe=danet_cityscapes", "encoder.name=resnet50", "data.root=nowhere"]


def config(folder, *overrides):
    return compose_config([*OVERRIDES, f"runs_dir={folder}", *overrides], folder=EXPERIMENTS)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A DANet of ours under the names of the published code, in the wrapping of its files."""
    values = config(tmp_path_factory.mktemp("model"))
    encoder = architecture(values["encoder"])
    torch.manual_seed(0)
    model = Segmenter(num_classes=19, head=values["head"], encoder=encoder).eval()
    ours = model.state_dict()
    weights = {theirs: ours[name] for theirs, name in RENAMES["danet_resnet50"].items()}
    path = tmp_path_factory.mktemp("weights") / "DANet50.pth.tar"
    torch.save({"epoch": 240, "state_dict": weights, "best_pred": 0.8}, path)
    return model, path


def test_run_folder_gives_the_published_logits(published, tmp_path, monkeypatch, capsys):
    model, weights = published
    words = ["published=danet_resnet50", f"weights={weights}", f"runs_dir={tmp_path}", *OVERRIDES]
    assert call_script(monkeypatch, "convert.py", *words) == 0
    path = tmp_path / "published" / "danet-resnet50-cityscapes" / "checkpoints" / "last.ckpt"
    assert f"checkpoint: {path}" in capsys.readouterr().out
    assert (path.parent.parent / "config.yaml").is_file()
    record = read_record(Run(path.parent.parent))
    assert (record["published"], record["file"]) == ("danet_resnet50", "DANet50.pth.tar")
    other = tmp_path / "other.pth"
    other.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"holds other weights; name another run"):
        import_published("danet_resnet50", other, Run(path.parent.parent).config)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8, generator=generator)
    with torch.no_grad():
        logits, expected = load_task(path, device=CPU)(images).logits, model(images).logits
    scale = float(expected.abs().max())  # rounding grows with it, through fifty layers
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4 * scale)


def test_what_does_not_fit_is_refused_and_leaves_no_folder(published, tmp_path):
    _, weights = published
    with pytest.raises(ValueError, match=r"(?s)does not fit this model, 21 classes.*size mismatch"):
        import_published("danet_resnet50", weights, config(tmp_path, "data=voc"))
    with pytest.raises(ValueError, match=r"not the weights of a published 'danet_resnet101'"):
        import_published("danet_resnet101", weights, config(tmp_path))
    with pytest.raises(ValueError, match=r"cannot read weights from .*none\.pth"):
        import_published("danet_resnet50", tmp_path / "none.pth", config(tmp_path))
    unsafe = tmp_path / "unsafe.pth"
    torch.save({"state_dict": torch.nn.Linear(1, 1)}, unsafe)
    with pytest.raises(ValueError, match=r"unsafe\.pth .*could run code"):
        import_published("danet_resnet50", unsafe, config(tmp_path))
    assert not (tmp_path / "default").exists()
