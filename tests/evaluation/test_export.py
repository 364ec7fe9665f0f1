"""Exported programs give the model's logits; what cannot be exported is refused."""

import importlib.util
import json
import re

import pytest
import torch
from tiny import call_script
from tiny_checkpoint import write_checkpoint

from segattn.evaluation import export as module
from segattn.evaluation.export import export, read_size
from segattn.models.heads import HEADS
from segattn.training.checkpoint import load_task

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason='needs pip install -e ".[export]"',
)


def load(path):
    """The program as a function of images."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    return lambda images: torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def assert_same(program, checkpoint, *shapes):
    task = load_task(checkpoint, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for shape in shapes:
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        with torch.no_grad():
            got, expected = program(images), task(images).logits
        assert got.shape == expected.shape
        assert got.dtype == torch.float32
        scale = float(expected.abs().max())
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4 * scale)


def assert_refused(program, *shapes):
    for shape in shapes:
        with pytest.raises(Exception, match=r"(?i)guard|dimension|reshape|rank"):  # no common type
            program(torch.zeros(shape, dtype=torch.uint8))


@needs_onnx
def test_onnx_program_of_fixed_size_takes_any_batch_and_names_its_classes(tmp_path):
    import onnx

    checkpoint, out = write_checkpoint(tmp_path / "a.ckpt", head="fla"), tmp_path / "m.onnx"
    exported = export(checkpoint, out=out, size=(37, 50))
    assert exported.sizes == "37 x 50"
    assert 0 < exported.difference <= 1e-3 * exported.scale
    program = load(out)
    assert_same(program, checkpoint, (1, 3, 37, 50), (5, 3, 37, 50))
    assert_refused(program, (1, 3, 37, 49), (1, 3, 40, 56), (1, 1, 37, 50), (1, 3, 50, 37))
    stored = {entry.key: entry.value for entry in onnx.load(out).metadata_props}
    assert json.loads(stored["classes"]) == ["a", "b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.ckpt", "m.onnx"]


@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=needs_onnx)])
def test_program_of_free_size_is_the_model_on_what_it_takes_and_refuses_the_rest(tmp_path, suffix):
    checkpoint, out = write_checkpoint(tmp_path / "a.ckpt"), tmp_path / f"m{suffix}"
    assert export(checkpoint, out=out).sizes == "multiples of 8 from 16"
    program = load(out)
    assert_same(
        program, checkpoint, (1, 3, 16, 16), (1, 3, 16, 24), (3, 3, 48, 16), (2, 3, 264, 40)
    )
    sides = ((37, 50), (40, 50), (41, 48), (4, 16), (17, 16), (16, 23))
    assert_refused(program, *((1, 3, *side) for side in sides), (1, 4, 16, 16), (3, 16, 16))
    with pytest.raises(Exception, match=r"(?i)dtype|data type"):
        program(torch.zeros(1, 3, 16, 16))


def test_torch_program_names_its_classes(tmp_path):
    checkpoint, out = write_checkpoint(tmp_path / "a.ckpt"), tmp_path / "m.pt2"
    export(checkpoint, out=out, size=(37, 50))
    program = load(out)
    assert_same(program, checkpoint, (1, 3, 37, 50), (4, 3, 37, 50))
    assert_refused(program, (1, 3, 37, 49), (1, 3, 40, 56), (1, 1, 37, 50), (1, 3, 50, 37))
    files = {"classes": ""}
    torch.export.load(out, extra_files=files)
    assert json.loads(files["classes"]) == ["a", "b", "c"]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=needs_onnx)])
@pytest.mark.parametrize(
    ("head", "knobs"),
    [*((head, {}) for head in HEADS), *((h, {"wiring": "published"}) for h in ("danet", "fla"))],
)
def test_every_head_exports_with_free_size(tmp_path, head, knobs, suffix):
    checkpoint = write_checkpoint(tmp_path / "a.ckpt", head=head, **knobs)
    export(checkpoint, out=tmp_path / f"m{suffix}")
    program = load(tmp_path / f"m{suffix}")
    assert_same(program, checkpoint, (1, 3, 16, 24), (3, 3, 64, 40))
    assert_refused(program, (1, 3, 17, 24), (1, 3, 16, 20))


def test_another_result_is_refused_and_not_written(tmp_path, monkeypatch):
    checkpoint, out = write_checkpoint(tmp_path / "a.ckpt"), tmp_path / "m.pt2"
    task = load_task(checkpoint, device=torch.device("cpu"))

    def write(_program, path, _classes):
        path.write_text("a program")

    def run_scaled(factor):
        def scaled(_path, images):
            with torch.no_grad():
                return [task(given).logits * factor for given in images]

        monkeypatch.setattr(module, "_FORMATS", {".pt2": (write, scaled)})
        export(checkpoint, out=out, size=(16, 24))

    monkeypatch.setattr(module, "_trace", lambda model, **_: None)
    for factor in (1.01, float("nan")):
        with pytest.raises(ValueError, match=r"differs from the model by .* nothing was written"):
            run_scaled(factor)
        assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    run_scaled(1.0001)
    assert out.read_text() == "a program"


def test_model_that_cannot_be_traced_is_named(tmp_path, monkeypatch):
    checkpoint = write_checkpoint(tmp_path / "a.ckpt")

    def refuse(*_, **__):
        raise RuntimeError("a guard failed\nand a long story")

    monkeypatch.setattr(torch.export, "export", refuse)
    with pytest.raises(ValueError, match=r"cannot trace.*; try a fixed size.*\(a guard failed\)$"):
        export(checkpoint, out=tmp_path / "m.pt2")
    with pytest.raises(ValueError, match=r"cannot trace this model \(a guard failed\)$"):
        export(checkpoint, out=tmp_path / "m.pt2", size=(16, 24))


def test_program_that_does_not_run_is_named_and_not_written(tmp_path, monkeypatch):
    checkpoint, out = write_checkpoint(tmp_path / "a.ckpt"), tmp_path / "m.pt2"

    def guard(_path, _images):
        raise AssertionError("Guard failed: 1 < images.size()[0]")

    monkeypatch.setattr(module, "_trace", lambda model, **_: None)
    monkeypatch.setattr(module, "_FORMATS", {".pt2": (lambda _, path, __: path.touch(), guard)})
    with pytest.raises(ValueError, match=r"cannot run .*; try a fixed size.*\(Guard failed"):
        export(checkpoint, out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_missing_packages_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"onnxruntime; pip install -e \"\.\[export\]\""):
        export(tmp_path / "a.ckpt", out=tmp_path / "m.onnx")


def test_bad_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"unknown ending of out '\.pth'.*\.onnx.*\.pt2"):
        export(tmp_path / "a.ckpt", out=tmp_path / "m.pth")
    with pytest.raises(ValueError, match=f"no checkpoint {re.escape(str(tmp_path))}"):
        export(tmp_path / "a.ckpt", out=tmp_path / "m.pt2")
    assert read_size("512,1024") == (512, 1024)
    for text in ("512", "512,0", "a,b", "512,-8", "1,2,3"):
        with pytest.raises(ValueError, match=f"cannot read size={text}; it is height and width"):
            read_size(text)


def test_script_writes_the_program_and_says_what_it_takes(tmp_path, monkeypatch, capsys):
    checkpoint = write_checkpoint(tmp_path / "a.ckpt")
    words = [f"checkpoint={checkpoint}", f"out={tmp_path / 'm.pt2'}", "size=16,24"]
    assert call_script(monkeypatch, "export.py", *words) == 0
    printed = capsys.readouterr().out
    assert "m.pt2: images uint8 [B, 3, H, W] to logits, H x W: 16 x 24" in printed
    assert "the largest difference from the model is" in printed
    told = str(call_script(monkeypatch, "export.py", *words[:1], "out=m.txt"))
    assert told.startswith("error: unknown ending of out")
