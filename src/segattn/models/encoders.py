"""Encoders of segmentation-models-pytorch (smp), timm's among them; docs/encoders.md lists them.

ResNets of both libraries are dilated in the same way: all 3x3 convolutions of a stage. Other
families are dilated by smp or timm. HRNets have one map at stride 4.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import cache
from itertools import cycle, islice
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.encoders.resnet import ResNetEncoder
from timm.models import resnet as timm_resnet
from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError, first_line
from segattn.models.encoder_weights import weight_names
from segattn.models.hrnet import HRNetEncoder

_RESIDUAL_BLOCKS = (
    torchvision_resnet.BasicBlock,
    torchvision_resnet.Bottleneck,
    timm_resnet.BasicBlock,
    timm_resnet.Bottleneck,
)
_HRNET = "tu-hrnet"
_Found = tuple[list[str], int]


def architecture(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that define the network, without first weights and `freeze`."""
    return {k: v for k, v in options.items() if k != "freeze" and not k.startswith("weights")}


def frozen_parts(encoder: nn.Module, freeze: str) -> list[nn.Module]:
    """Return the parts of an encoder that keep weights and statistics: none, bn or all."""
    if freeze == "bn":
        return [m for m in encoder.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    return [encoder] if freeze == "all" else []


def check_encoder(
    *, name: str, depth: int, output_stride: int, multi_grid: Sequence[int] | None = None
) -> None:
    """Raise UserError unless the encoder exists and trains at this depth, stride and dilations."""
    try:
        _check_name(name)
        if name.startswith(_HRNET):
            _check_hrnet(depth=depth, output_stride=output_stride)
        elif output_stride not in (8, 16, 32) or 2**depth < output_stride:
            raise UserError(
                f"encoder.output_stride must be 8, 16 or 32 and at most 2 ** encoder.depth = "
                f"{2**depth}, got {output_stride}"
            )
        if multi_grid is not None:
            _check_multi_grid(name, depth, output_stride, multi_grid)
        _trial(name, depth, output_stride, multi_grid and tuple(multi_grid))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"encoder {name!r} does not work at encoder.depth={depth} and encoder.output_stride="
            f"{output_stride} ({first_line(error)}); {_instead(name, depth)}"
        ) from error


def _instead(name: str, depth: int) -> str:
    for other in (depth, 5, 4, 3):
        with suppress(Exception):
            _trial(name, other, 2**other, None)
            return f"set them to {other} and {2**other}, where it works, or choose a ResNet"
    return "choose another one, such as a ResNet or ConvNeXt"


def _check_name(name: str) -> None:
    if not name.startswith("tu-"):
        check_choice("encoder", name, smp.encoders.get_encoder_names())
        return
    if not timm.is_model(model := name.removeprefix("tu-")):
        near = ", ".join(f"tu-{n}" for n in get_close_matches(model, timm.list_models()))
        raise UserError(
            f"unknown encoder {name!r}: timm has no {model}; close names: {near or 'none'}"
        )
    facts = timm.get_pretrained_cfg(model)
    if facts is not None and facts.fixed_input_size:
        raise UserError(
            f"encoder {name!r} takes images of one size only; choose one for any size, such as a "
            "ResNet or ConvNeXt"
        )


def _check_hrnet(*, depth: int, output_stride: int) -> None:
    if output_stride != 4 or not 3 <= depth <= 5:
        raise UserError(
            "an HRNet has 2 to 4 branches and one map at stride 4: set encoder.output_stride=4 and "
            f"encoder.depth to 3, 4 or 5, got {output_stride} and {depth}"
        )


def _check_multi_grid(name: str, depth: int, output_stride: int, multi_grid: Sequence[int]) -> None:
    if not multi_grid or min(multi_grid) < 1:
        raise UserError(
            "encoder.multi_grid must be null or a list of dilations of at least 1, such as "
            f"[4, 8, 16], got {list(multi_grid)}"
        )
    ours = smp.encoders.encoders.get(
        name, {"encoder": ResNetEncoder}
    )  # timm's are checked by the trial
    if ours["encoder"] is not ResNetEncoder or name.startswith(_HRNET):
        raise _not_a_resnet(name)
    if (depth, output_stride) != (5, 8):
        raise UserError(
            "encoder.multi_grid dilates the last stage of a ResNet at stride 8: set encoder.depth=5"
            " and encoder.output_stride=8, or encoder.multi_grid=null; "
            f"got encoder.depth={depth} and encoder.output_stride={output_stride}"
        )


def _not_a_resnet(name: str) -> UserError:
    return UserError(
        f"encoder {name!r} is not a ResNet, so encoder.multi_grid has no effect; choose one "
        "such as resnet50, resnet101 or tu-resnet101s, or set encoder.multi_grid=null"
    )


def build_encoder(
    name: str,
    *,
    depth: int = 5,
    output_stride: int = 8,
    multi_grid: Sequence[int] | None = None,
    weights: str | None = None,
) -> nn.Module:
    """Return an encoder whose last map has the given stride, without the stages it does not use.

    It maps [B, 3, H, W], with sides divisible by its `size_multiple`, to a list of maps, fine to
    coarse. `out_channels` lists their channels, with 0 for a stride without a map.

    Args:
        name: Any encoder name of segmentation-models-pytorch; timm's start with "tu-".
        depth: Number of stages, 1 to 5; the native stride is 2 ** depth. An HRNet takes 3 to 5 and
            has branches at stride 4 to 2 ** depth.
        output_stride: 8, 16 or 32; 4 for an HRNet. Below the native stride, the last stages are
            dilated. In a ResNet, every 3x3 convolution of a stage gets dilation native stride /
            output_stride, as in FLANet's code.
        multi_grid: Dilations of the blocks of a ResNet's last stage, cycled, at stride 8 (DANet,
            arXiv 1809.02983, table 3; its code has [4, 8, 16], and [2, 4, 4] without multi-grid).
            The stage before then has dilation 1 in its first block and 2 in the others, as in
            DANet's code.
        weights: Name of pretrained weights in smp, such as "imagenet"; all of timm's have this
            name. None starts from scratch.

    Raises:
        UserError: See `check_encoder`; or the encoder does not have these weights.
    """
    check_encoder(name=name, depth=depth, output_stride=output_stride, multi_grid=multi_grid)
    asked = name, depth, output_stride, multi_grid and tuple(multi_grid)
    unused, size_multiple = _trial(*asked)
    encoder = _assemble(*asked, weights)
    for path in unused:
        encoder.set_submodule(path, _Unused())
    encoder.size_multiple = size_multiple
    return encoder


def _assemble(
    name: str, depth: int, stride: int, multi_grid: Sequence[int] | None, weights: str | None
) -> Any:
    """Return the encoder with its dilations and all its stages."""
    is_hrnet = name.startswith(_HRNET)
    if weights is not None:
        # for timm's encoders, smp treats any word as "yes", also a misspelt one
        check_choice("encoder.weights", weights, weight_names(name))
    try:
        encoder = smp.encoders.get_encoder(
            name,
            depth=depth,
            # 32 means "no dilation" to smp, which families that cannot dilate accept
            output_stride=32 if is_hrnet or stride == 2**depth else stride,
            weights=True if weights is not None and name.startswith("tu-") else weights,
            # "" gives the branches themselves; timm's default gives its classifier's wider ones
            **({"feature_location": ""} if is_hrnet else {}),
        )
    except OSError as error:  # no network, or no room for the file
        raise UserError(
            f"cannot fetch the weights {weights!r} of encoder {name!r} "
            f"({first_line(error)}). Fetch them once with network access: they stay in "
            "HF_HOME (default ~/.cache/huggingface); or give a file, encoder.weights=FILE"
        ) from error
    _slice_narrow(encoder)
    if is_hrnet:
        return HRNetEncoder(encoder, depth=depth)
    if not _dilate(encoder, stride, multi_grid) and multi_grid is not None:
        raise _not_a_resnet(name)
    return encoder


def _slice_narrow(encoder: nn.Module) -> None:
    """Keep 1x1 convolutions of stride 2 and fewer than 16 channels from oneDNN's backward pass.

    OneDNN writes past its memory there (https://github.com/uxlfoundation/oneDNN/issues/6035).
    """
    for conv in (m for m in encoder.modules() if isinstance(m, nn.Conv2d) and m.in_channels < 16):
        if (conv.kernel_size, conv.stride) == ((1, 1), (2, 2)):
            conv.stride = (1, 1)
            conv.register_forward_pre_hook(lambda _, x: x[0][..., ::2, ::2])


def _dilate(encoder: nn.Module, output_stride: int, multi_grid: Sequence[int] | None) -> bool:
    """Dilate the 3x3 convolutions of a ResNet's last stages; False if it has no such stage."""
    body = getattr(encoder, "model", encoder)  # timm's network is inside smp's encoder
    stages = {native: list(getattr(body, f"layer{i}", [])) for native, i in ((16, 3), (32, 4))}
    found = False
    for native, blocks in stages.items():
        if blocks and all(isinstance(block, _RESIDUAL_BLOCKS) for block in blocks):
            found = True
            rates = _rates(native, len(blocks), output_stride, multi_grid)
            for block, rate in zip(blocks, rates, strict=True):
                for m in block.children():
                    if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3):
                        m.dilation = m.padding = (rate, rate)
    return found


def _rates(
    native: int, num_blocks: int, output_stride: int, multi_grid: Sequence[int] | None
) -> list[int]:
    """Return the dilation of each block of a stage."""
    if multi_grid is None:
        # all blocks alike: timm would give the first one the rate of the stage before
        return [max(native // output_stride, 1)] * num_blocks
    if native == 16:
        return [1] + [2] * (num_blocks - 1)
    return list(islice(cycle(multi_grid), num_blocks))


@cache
def _trial(name: str, depth: int, stride: int, grid: tuple[int, ...] | None) -> _Found:
    """Train one step on random weights; the global random state stays.

    smp keeps the stages behind the last map: 10.6 of ResNet-18's 11.3 M parameters at depth 3.
    Unused modules are found by their missing gradients, which works for every family.

    Returns:
        Modules without which the encoder gives the same maps, and the number that the sides of an
        image must be divisible by.
    """
    with torch.random.fork_rng(devices=[]), torch.inference_mode(False), torch.enable_grad():
        encoder = _assemble(name, depth, stride, grid, None).eval()
        images, maps, size_multiple = _first_maps(encoder, stride)
        maps[-1].sum().backward()
        unused = list(_without_gradient(encoder))
        for path in unused:
            encoder.set_submodule(path, _Unused())
        if not _gives(maps, encoder, images[:1]):
            raise ValueError("it needs the stages behind its last map")
        encoder.to(memory_format=torch.channels_last).train()(images)[-1].sum().backward()
    if any(p.requires_grad and p.grad is None for p in encoder.parameters()):
        raise ValueError("some weights get no gradient")
    return unused, size_multiple


def _first_maps(encoder: Any, stride: int) -> tuple[Tensor, list[Tensor], int]:
    """Return two images, the maps of the first, and a number that divides their sides."""
    errors = []
    said, smallest = list(encoder.out_channels), getattr(encoder, "size_multiple", stride)
    for multiple in sorted({smallest, 32, 64}):
        height, width = {8: (72, 88), 16: (80, 112), 32: (96, 64), 64: (64, 192)}[multiple]
        images = torch.randn(2, 3, height, width).to(memory_format=torch.channels_last)
        try:
            maps = encoder(images[:1])
            found = [*(x.shape[1] for x in maps), *maps[-1].shape[2:]]
            if found != [*said, height // stride, width // stride]:
                raise ValueError(f"channels of its maps and size of the last are {found}")
            return images, maps, multiple
        except Exception as error:
            errors.append(error)
    raise errors[0]


def _gives(maps: Sequence[Tensor], encoder: nn.Module, image: Tensor) -> bool:
    """Return whether the encoder still gives these maps; False if it raises without a module."""
    with suppress(Exception), torch.no_grad():
        again = encoder(image)
        return len(again) == len(maps) and all(map(torch.equal, maps, again))
    return False


def _without_gradient(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the outermost modules whose parameters the last map does not depend on."""
    for name, child in module.named_children():
        parameters = list(child.parameters())
        if parameters and all(p.requires_grad and p.grad is None for p in parameters):
            yield prefix + name
        else:
            yield from _without_gradient(child, f"{prefix}{name}.")


class _Unused(nn.Module):
    """Replaces a stage whose output is unused; some encoders call it with extra arguments."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x
