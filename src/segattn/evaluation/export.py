"""A checkpoint as a program that runs without segattn: torch.export or ONNX, checked by running."""

import json
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError
from segattn.base.files import atomic_path
from segattn.training.checkpoint import load_task

_TOLERANCE = 1e-3  # of the largest logit
_SIDES = (256, 384)  # px, traced where the size stays free; they differ, so that a swap shows


class Exported(NamedTuple):
    """What was written, and how far its logits are from the model's on the checked images."""

    sizes: str  # the sizes of images that it takes, for people
    difference: float  # the largest of a logit
    scale: float  # the largest logit


class _Logits(nn.Module):
    """The model without its auxiliary results, for images whose sides `multiple` divides."""

    def __init__(self, model: nn.Module, *, multiple: int) -> None:
        super().__init__()
        self.model, self.multiple = model, multiple

    def forward(self, images: Tensor) -> Tensor:
        for axis in (2, 3):  # fails for other sides: ONNX knows no other way to refuse them
            images = images.unflatten(axis, (-1, self.multiple)).flatten(axis, axis + 1)
        return self.model(images).logits


def export(checkpoint: Path, *, out: Path, size: tuple[int, int] | None = None) -> Exported:
    """Write the model of a checkpoint as a program of images uint8 [B, 3, H, W] to logits.

    The logits are float32 [B, C, H, W], B is free. The names of the classes go along, as JSON
    under the key "classes" (of the extra files of torch.export, of the metadata of ONNX). The
    program is the checkpoint's forward pass on a CPU with attention in its reference form, which
    holds its whole map: [B, N, N] for N = H * W / stride ** 2 positions. What is written is read
    again and run on random images before it takes the place of `out`.

    Args:
        checkpoint: A checkpoint of a `SegmentationTask`.
        out: File that ends in .pt2 (torch.export) or .onnx.
        size: (H, W) of the images that the program takes. None takes every multiple, from the
            second on, of the encoder's divisor, which is 8 for most. Other sizes are refused.

    Raises:
        UserError: Another ending, no such checkpoint, missing packages, an encoder that cannot be
            exported for free sizes, or a program that computes something else than the model.
    """
    check_choice("ending of out", out.suffix, _FORMATS)
    write, run = _FORMATS[out.suffix]
    if out.suffix == ".onnx":
        _need_onnx()
    task = load_task(checkpoint, device=torch.device("cpu"))
    free, multiple = size is None, task.model.size_multiple
    model = _Logits(task.model, multiple=multiple if free else 1).eval()
    # other batches than the traced one, and other sizes where these are free
    rows, columns = size or _SIDES
    others = [(3, 3, rows, columns), (1, 3, rows + multiple, columns - 3 * multiple)]
    shapes = others if free else [(1, 3, rows, columns)]  # sizes are fixed for large images
    generator = torch.Generator().manual_seed(0)
    images = [torch.randint(256, s, dtype=torch.uint8, generator=generator) for s in shapes]
    with torch.no_grad():
        expected = [model(given) for given in images]
    for block in model.modules():  # the other forms of attention choose by the tensors they meet
        if hasattr(block, "implementation"):
            block.implementation = "reference"  # type: ignore[assignment]
    model.to(memory_format=torch.contiguous_format)  # torch.export stores no other
    program = _trace(model, size=size, multiple=multiple)
    with atomic_path(out) as draft:
        write(program, draft, json.dumps(list(task.hparams["classes"])))
        try:
            result = run(draft, images)
        except Exception as error:  # its runtime names no type for a size that it does not take
            raise _refusal("run what was exported from", error, free=size is None) from error
        difference, scale = _compare(result, expected)
    sizes = f"{size[0]} x {size[1]}" if size else f"multiples of {multiple} from {2 * multiple}"
    return Exported(sizes, difference, scale)


def _compare(result: list[Tensor], expected: list[Tensor]) -> tuple[float, float]:
    """Largest difference and largest logit; raises UserError if the first is too large."""
    pairs = zip(result, expected, strict=True)
    difference = max(float((got - want).abs().max()) for got, want in pairs)
    scale = max(float(want.abs().max()) for want in expected)
    if not difference <= _TOLERANCE * scale:  # also for NaN
        raise UserError(
            f"the exported program differs from the model by {difference:.1e} where logits reach "
            f"{scale:.1e}; nothing was written"
        )
    return difference, scale


def _refusal(what: str, error: Exception, *, free: bool) -> UserError:
    advice = "; try a fixed size, such as size=512,1024" if free else ""
    first = str(error).strip().split("\n")[0]
    return UserError(f"cannot {what} this model{advice} ({first})")


def read_size(text: str) -> tuple[int, int]:
    """(H, W) of "H,W"; raises UserError for other text."""
    sides = text.split(",")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise UserError(f"cannot read size={text}; it is height and width in px, as 512,1024")
    return int(sides[0]), int(sides[1])


def _trace(model: nn.Module, *, size: tuple[int, int] | None, multiple: int) -> ExportedProgram:
    axes: dict[int, Any] = {0: Dim("batch")}
    if size is None:  # a program cannot pad, since padding depends on the size
        axes |= {2: multiple * Dim("rows", min=2), 3: multiple * Dim("columns", min=2)}
    images = torch.zeros(2, 3, *(size or _SIDES), dtype=torch.uint8)
    try:
        with torch.no_grad():
            return torch.export.export(model, (images,), dynamic_shapes={"images": axes})
    except Exception as error:  # what torch.export raises depends on the line it stumbles over
        raise _refusal("trace", error, free=size is None) from error


def _write_torch(program: ExportedProgram, path: Path, classes: str) -> None:
    torch.export.save(program, path, extra_files={"classes": classes})


def _run_torch(path: Path, images: list[Tensor]) -> list[Tensor]:
    module = torch.export.load(path).module()
    with torch.no_grad():
        return [module(given) for given in images]


def _need_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(f'ONNX needs {", ".join(missing)}; pip install -e ".[export]"')


def _write_onnx(program: ExportedProgram, path: Path, classes: str) -> None:
    with warnings.catch_warnings():
        # about the exporter's own use of other packages; nothing that a user could change
        warnings.simplefilter("ignore")
        onnx = torch.onnx.export(
            program, dynamo=True, verbose=False, input_names=["images"], output_names=["logits"]
        )
    assert onnx is not None  # without a file name
    onnx.model.metadata_props["classes"] = classes
    onnx.save(path, external_data=False)


def _run_onnx(path: Path, images: list[Tensor]) -> list[Tensor]:
    import onnxruntime  # of the extra "export"

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.from_numpy(session.run(None, {"images": i.numpy()})[0]) for i in images]


_Write = Callable[[ExportedProgram, Path, str], None]
_Run = Callable[[Path, list[Tensor]], list[Tensor]]
_FORMATS: dict[str, tuple[_Write, _Run]] = {
    ".pt2": (_write_torch, _run_torch),
    ".onnx": (_write_onnx, _run_onnx),
}
