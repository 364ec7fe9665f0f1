"""Encoders of segmentation-models-pytorch (smp), their dilation, and HRNet.

| name                                 | stride of the last map | dilation                       |
|--------------------------------------|------------------------|--------------------------------|
| ResNets, smp's and timm's ("tu-...") | 8, 16, 32              | 3x3 convolutions, `multi_grid` |
| other encoders                       | 8, 16, 32              | as smp or timm does it, if so  |
| "tu-hrnet_..."                       | 4                      | none                           |
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
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
from segattn.models.upsampling import upsample

_RESIDUAL_BLOCKS = (
    torchvision_resnet.BasicBlock,
    torchvision_resnet.Bottleneck,
    timm_resnet.BasicBlock,
    timm_resnet.Bottleneck,
)


def architecture(options: dict[str, Any]) -> dict[str, Any]:
    """What of a config's section is the network, and not where its first weights come from."""
    return {key: value for key, value in options.items() if not key.startswith("weights")}


def check_encoder(
    *, name: str, depth: int, output_stride: int, multi_grid: Sequence[int] | None = None
) -> None:
    """Raise UserError for an unknown encoder, or a stride or dilations that it cannot give."""
    if _is_timm(name):
        _check_timm(name)
    else:
        check_choice("encoder", name, smp.encoders.get_encoder_names())
    if _is_hrnet(name):
        _check_hrnet(depth=depth, output_stride=output_stride)
    elif output_stride not in (8, 16, 32) or 2**depth < output_stride:
        raise UserError(
            f"encoder.output_stride must be 8, 16 or 32 and at most 2 ** encoder.depth = "
            f"{2**depth}, got {output_stride}"
        )
    if multi_grid is not None:
        _check_multi_grid(name, depth, output_stride, multi_grid)


def _check_timm(name: str) -> None:
    model = name.removeprefix("tu-")
    if not timm.is_model(model):
        near = ", ".join(f"tu-{n}" for n in get_close_matches(model, timm.list_models()))
        raise UserError(f"unknown encoder {name!r}: timm has no {model}; near are {near or 'none'}")
    facts = timm.get_pretrained_cfg(model)
    if facts is not None and facts.fixed_input_size:
        raise UserError(
            f"encoder {name!r} takes images of one size alone; take one for any size, such as a "
            "ResNet or ConvNeXt"
        )


def _is_timm(name: str) -> bool:
    return name.startswith("tu-")


def _is_hrnet(name: str) -> bool:
    return name.startswith("tu-hrnet")


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
    # other encoders of timm are looked at when they are built
    other = not _is_timm(name) and smp.encoders.encoders[name]["encoder"] is not ResNetEncoder
    if other or _is_hrnet(name):
        raise _no_resnet(name)
    if (depth, output_stride) != (5, 8):
        raise UserError(
            "encoder.multi_grid dilates the last stage of a ResNet at stride 8: set encoder.depth=5"
            " and encoder.output_stride=8, or encoder.multi_grid=null; "
            f"got encoder.depth={depth} and encoder.output_stride={output_stride}"
        )


def _no_resnet(name: str) -> UserError:
    return UserError(
        f"encoder {name!r} is no ResNet, so encoder.multi_grid has nothing to set; take one such "
        "as resnet50, resnet101 or tu-resnet101s, or set encoder.multi_grid=null"
    )


def build_encoder(
    name: str,
    *,
    depth: int = 5,
    output_stride: int = 8,
    multi_grid: Sequence[int] | None = None,
    weights: str | None = None,
) -> nn.Module:
    """An encoder whose last map has the given stride, without the stages it does not use.

    It maps [B, 3, H, W], sides divisible by its `size_multiple` if it has one and by its
    `output_stride` if not, to a list of maps, fine to coarse, the first of them the input;
    `out_channels` lists their channels.

    Args:
        name: Any encoder name of segmentation-models-pytorch, timm's as "tu-...".
        depth: Number of stages, 1 to 5; the native stride is 2 ** depth. Of an HRNet, 3 to 5: the
            branches are those at stride 4 to 2 ** depth.
        output_stride: 8, 16 or 32; below the native stride, the last stages are dilated: every
            3x3 convolution of a ResNet's stage by its native stride / output_stride, as in FLANet's
            code. 4 for an HRNet.
        multi_grid: Dilations of the blocks of a ResNet's last stage, cycled, at stride 8 (DANet,
            arXiv 1809.02983, table 3; its code takes [4, 8, 16]). The stage before is then as in
            DANet's code too: dilation 1 in its first block, 2 in the others. Its network without
            multi-grid is [2, 4, 4].
        weights: Pretrained weights by smp's name, e.g. "imagenet", which is also the name of
            timm's; None starts from scratch.

    Raises:
        UserError: Unknown encoder or weights, a stride that the depth cannot give, or multi-grid
            for what is no ResNet at stride 8.
    """
    check_encoder(name=name, depth=depth, output_stride=output_stride, multi_grid=multi_grid)
    encoder = _pretrained(name, weights, depth=depth, output_stride=output_stride)
    if _is_hrnet(name):
        return HRNetEncoder(encoder, depth=depth)
    stages = dict(_residual_stages(encoder))
    if multi_grid is not None and not stages:
        raise _no_resnet(name)
    for native, blocks in stages.items():
        _dilate(blocks, _rates(native, len(blocks), output_stride, multi_grid))
    _drop_unused(encoder)
    return encoder


def _pretrained(name: str, weights: str | None, *, depth: int, output_stride: int) -> nn.Module:
    """The encoder as smp gives it."""
    if _is_timm(name) and weights is not None:
        # smp takes any word for "yes" here, a misspelt one too
        check_choice("encoder.weights", weights, ["imagenet"])
    try:
        return smp.encoders.get_encoder(
            name,
            depth=depth,
            # 32 means "no dilation" to smp; asking for it keeps families that cannot dilate usable
            output_stride=32 if _is_hrnet(name) or output_stride == 2**depth else output_stride,
            weights=True if _is_timm(name) and weights is not None else weights,
            # "" is the branches themselves; timm's default is the widened ones of its classifier
            **({"feature_location": ""} if _is_hrnet(name) else {}),
        )
    except OSError as error:  # no network, or no room for the file
        raise UserError(
            f"cannot fetch the weights {weights!r} of encoder {name!r} "
            f"({first_line(error)}). Start it once where there is a network: they stay in "
            "HF_HOME (else ~/.cache/huggingface); or give a file, encoder.weights=FILE"
        ) from error
    except (KeyError, RuntimeError, ValueError) as error:
        raise UserError(f"encoder {name!r}: {first_line(error)}") from error
    except (TypeError, AssertionError) as error:  # as timm says that it cannot be dilated
        raise UserError(
            f"encoder {name!r} cannot be built at encoder.output_stride={output_stride}; set it to "
            f"{2**depth}, where nothing is dilated, or take a ResNet ({first_line(error)})"
        ) from error


def _residual_stages(encoder: nn.Module) -> Iterator[tuple[int, list[nn.Module]]]:
    """Native stride and blocks of the stages of a ResNet that can be dilated; else nothing."""
    body = getattr(encoder, "model", encoder)  # timm's network is inside smp's encoder
    for native, name in ((16, "layer3"), (32, "layer4")):
        blocks = list(getattr(body, name, nn.Sequential()))
        if blocks and all(isinstance(block, _RESIDUAL_BLOCKS) for block in blocks):
            yield native, blocks


def _rates(
    native: int, num_blocks: int, output_stride: int, multi_grid: Sequence[int] | None
) -> list[int]:
    """Dilation of each block of a stage."""
    if multi_grid is None:
        # timm leaves the first block of a stage at the rate of the stage before, smp does not
        return [max(native // output_stride, 1)] * num_blocks
    if native == 16:
        return [1] + [2] * (num_blocks - 1)
    return list(islice(cycle(multi_grid), num_blocks))


def _dilate(blocks: Sequence[nn.Module], rates: Sequence[int]) -> None:
    for block, rate in zip(blocks, rates, strict=True):
        for module in block.children():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                module.dilation = module.padding = (rate, rate)


class HRNetEncoder(nn.Module):
    """HRNetV2 (arXiv 1904.04514, section 3): all branches in one map at stride 4.

    Branches are upsampled to the finest one and concatenated: 48 + 96 + 192 + 384 = 720 channels of
    HRNet-W48. Bilinear with align_corners=False, as the authors' segmentation code does it (its
    first version, and ALIGN_CORNERS: False in the published configs): corners that are aligned
    would shift coarse branches against fine ones by up to half a coarse cell.

    Deviation: inside the network, branches are fused after upsampling to the nearest neighbour, as
    in the ImageNet network whose weights timm has; the segmentation code fuses bilinearly.

    Args:
        encoder: smp's encoder of timm's HRNet without widened branches.
        depth: 3, 4 or 5: the coarsest branch is at stride 2 ** depth.
    """

    output_stride = 4

    def __init__(self, encoder: Any, *, depth: int) -> None:
        super().__init__()
        self.branches = encoder
        self.size_multiple = 2**depth
        self.out_channels = [3, sum(encoder.out_channels[2:])]
        for stage in range(depth, 5):  # timm passes on what goes into identities
            setattr(encoder.model, f"stage{stage}", nn.Identity())
            transitions = nn.ModuleList(nn.Identity() for _ in range(depth - 1))
            setattr(encoder.model, f"transition{stage - 1}", transitions)

    def forward(self, x: Tensor) -> list[Tensor]:
        """[B, 3, H, W] to itself and the map [B, C, H / 4, W / 4]."""
        first, *others = self.branches(x)[2:]
        full = [
            upsample(branch, stride=2**i, size=first.shape[2:]).to(first.dtype)
            for i, branch in enumerate(others, start=1)
        ]
        return [x, torch.cat([first, *full], dim=1)]


def _drop_unused(encoder: nn.Module) -> None:
    """Drop the modules that do not reach the last map, such as layer4 at depth 3.

    smp keeps them, which would count 10.6 of ResNet-18's 11.3 M parameters at depth 3 for nothing.
    What is unused is read off the gradients, so that it holds for every encoder family.
    """
    training = encoder.training
    encoder.eval()  # batch norm must not see the probe
    probe = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.enable_grad():  # a checkpoint may be loaded under no_grad
        encoder(probe)[-1].sum().backward()
    used = {id(p) for p in encoder.parameters() if p.grad is not None}
    _replace_unused(encoder, used)
    encoder.zero_grad(set_to_none=True)
    encoder.train(training)


def _replace_unused(module: nn.Module, used: set[int]) -> None:
    for name, child in module.named_children():
        parameters = list(child.parameters())
        if parameters and not any(id(p) in used for p in parameters):
            setattr(module, name, _Unused())
        else:
            _replace_unused(child, used)


class _Unused(nn.Module):
    """Stands for a stage whose output nobody reads; some encoders call it with extra arguments."""

    def forward(self, x: Tensor, *_: object) -> Tensor:
        return x
