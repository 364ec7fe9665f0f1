"""Weights of the published code, renamed so that they load into the modules of this package.

| name               | published module                     | loads into                           |
|--------------------|--------------------------------------|--------------------------------------|
| `pam`              | PAM_Module of DANet                  | `heads.spatial_nl.SpatialBlock`      |
| `cam`              | CAM_Module of DANet                  | `heads.channel_nl.ChannelBlock`      |
| `cca`              | CrissCrossAttention of CCNet         | `heads.ccnet.CrissCrossBlock`        |
| `fla`              | FullyAttentionalBlock of FLANet      | `block` (FullBlock) and `refine`     |
| `danet_head`       | DANetHead of DANet                   | `heads.danet.DANetHead`              |
| `danet_resnet50`   | DANet on resnet50                    | `model.Segmenter`, see below         |
| `danet_resnet101`  | DANet on resnet101                   | `model.Segmenter`, see below         |
| `flanet_head`      | FLANet without `backbone`            | `heads.fla.FLANetHead`               |
| `flanet_resnet101` | FLANet                               | `model.Segmenter`, see below         |

DANet is junfu1115/DANet, FLANet Ilareina/FullyAttentional, CCNet speedinghzl/CCNet. `block` and
`refine` are the middle of `scaffold.ScaffoldHead`. The Segmenters have wiring published, 512
channels, depth 5 and output_stride 8:

| name               | head  | encoder                                                         |
|--------------------|-------|-----------------------------------------------------------------|
| `danet_resnet50`   | danet | resnet50, multi_grid [4, 8, 16] or [2, 4, 4]                    |
| `danet_resnet101`  | danet | resnet101, multi_grid [4, 8, 16] or [2, 4, 4]                   |
| `flanet_resnet101` | fla   | tu-resnet101s, multi_grid null                                  |

Dilations have no weights, so a wrong `multi_grid` cannot be detected. It is [4, 8, 16] for a DANet
that was trained with --multi-grid --multi-dilation 4 8 16, such as the released DANet101.pth.tar,
and [2, 4, 4] without. A DANet with the deep stem (built without --no-deepstem) is refused, since
its weights have other names.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from segattn.base.arguments import check_choice
from segattn.base.errors import UserError

COUNTER = "num_batches_tracked"
LAYER = ("weight", "bias")
NORM = (*LAYER, "running_mean", "running_var", COUNTER)
CONV_NORM = ("0.weight", *(f"1.{suffix}" for suffix in NORM))


def _each(suffixes: tuple[str, ...], modules: Mapping[str, str]) -> dict[str, str]:
    """Turn module names into parameter names, which both codes share."""
    return {f"{old}.{s}": f"{new}.{s}" for old, new in modules.items() for s in suffixes}


def _inside(old: str, new: str, names: Mapping[str, str]) -> dict[str, str]:
    """Return the names of a module inside another one; "" is the outermost."""
    old, new = (f"{name}." if name else "" for name in (old, new))
    return {old + theirs: new + ours for theirs, ours in names.items()}


def _conv_norm(old: str, index: int, new: str) -> dict[str, str]:
    """Return the names of convolution and batch norm from `index` on in a published Sequential."""
    return {
        f"{old}.{index}.weight": f"{new}.0.weight",
        **_each(NORM, {f"{old}.{index + 1}": f"{new}.1"}),
    }


def _resnet(num_blocks: tuple[int, ...], *, stem: Mapping[str, str]) -> dict[str, str]:
    """Return the names in a ResNet of bottlenecks; both codes kept torchvision's."""
    blocks = [f"layer{i}.{j}" for i, num in enumerate(num_blocks, start=1) for j in range(num)]
    convs = [f"{block}.conv{i}" for block in blocks for i in (1, 2, 3)]
    norms = [f"{block}.bn{i}" for block in blocks for i in (1, 2, 3)]
    shortcuts = [f"layer{i}.0.downsample" for i in range(1, len(num_blocks) + 1)]
    return {
        **stem,
        **_each(NORM, {"bn1": "bn1"}),
        **_each(("weight",), dict(zip(convs, convs, strict=True))),
        **_each(NORM, dict(zip(norms, norms, strict=True))),
        **_each(CONV_NORM, dict(zip(shortcuts, shortcuts, strict=True))),
    }


_STEM = {"conv1.weight": "conv1.weight"}
_DEEP_STEM = {
    **_each(("weight",), {f"conv1.{i}": f"conv1.{i}" for i in (0, 3, 6)}),
    **_each(NORM, {f"conv1.{i}": f"conv1.{i}" for i in (1, 4)}),
}
_QUERY_KEY_VALUE = {
    "gamma": "gamma",
    **_each(LAYER, {"query_conv": "query", "key_conv": "key", "value_conv": "value"}),
}
_FLA = {
    "gamma": "block.gamma",
    **_each(LAYER, {"conv1": "block.column_context", "conv2": "block.row_context"}),
    **_each(CONV_NORM, {"conv": "refine"}),
}
_DANET_HEAD = {
    **_each(
        CONV_NORM,
        {
            "conv5a": "branches.spatial.0",
            "conv51": "branches.spatial.2",
            "conv5c": "branches.channel.0",
            "conv52": "branches.channel.2",
        },
    ),
    "sa.gamma": "branches.spatial.1.gamma",
    "sc.gamma": "branches.channel.1.gamma",
    **_each(
        LAYER,
        {
            "sa.query_conv": "branches.spatial.1.query",
            "sa.key_conv": "branches.spatial.1.key",
            "sa.value_conv": "branches.spatial.1.value",
            "conv6.1": "aux.spatial.1",
            "conv7.1": "aux.channel.1",
            "conv8.1": "classify.1",
        },
    ),
}
_FLANET_HEAD = {
    **_conv_norm("conv", 0, "reduce.0"),
    **_conv_norm("conv", 3, "reduce.1"),
    **_inside("fully", "", _FLA),
    **_conv_norm("conv_out1.conv", 1, "merge"),
    **_conv_norm("conv_out2.conv", 1, "aux.stage3.0"),
    **_conv_norm("conv_out3.conv", 1, "aux.stage4.0"),
    **_each(
        LAYER,
        {
            "conv_out1.conv.5": "classify.1",
            "conv_out2.conv.5": "aux.stage3.1.1",
            "conv_out3.conv.5": "aux.stage4.1.1",
        },
    ),
}

# published parameter name -> ours
RENAMES: dict[str, dict[str, str]] = {
    "pam": _QUERY_KEY_VALUE,
    "cca": _QUERY_KEY_VALUE,
    "cam": {"gamma": "gamma"},
    "fla": _FLA,
    "danet_head": _DANET_HEAD,
    "danet_resnet50": {
        **_inside("pretrained", "encoder", _resnet((3, 4, 6, 3), stem=_STEM)),
        **_inside("head", "head", _DANET_HEAD),
    },
    "danet_resnet101": {
        **_inside("pretrained", "encoder", _resnet((3, 4, 23, 3), stem=_STEM)),
        **_inside("head", "head", _DANET_HEAD),
    },
    "flanet_head": _FLANET_HEAD,
    "flanet_resnet101": {
        **_inside("backbone", "encoder.model", _resnet((3, 4, 23, 3), stem=_DEEP_STEM)),
        **_inside("", "head", _FLANET_HEAD),
    },
}

# ImageNet's classifier: DANet's code does not call it, but older versions save it
DROPPED = ("pretrained.fc.weight", "pretrained.fc.bias")


# Linear in the published code, a convolution of one tap along one axis here
LINEAR_TO_CONV1D = ("block.column_context.weight", "block.row_context.weight")


def convert(name: str, state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Rename the weights of a published module for `load_state_dict(strict=True)` into ours.

    Names in `state_dict` start at the published module itself, so a head must be cut out of a whole
    model's dict first. `module.` before every name (DataParallel) is accepted, and so is the
    content of a checkpoint file, which has the weights under "state_dict". The weights of
    ImageNet's classifier in a DANet, `pretrained.fc`, are skipped. Checkpoints older than PyTorch
    0.4.1 have no `num_batches_tracked`. It becomes 0, as in PyTorch itself: batch norm with a fixed
    momentum, the only kind here, does not read it.

    Args:
        name: A key of `RENAMES`.
        state_dict: Parameters and buffers by published name.

    Returns:
        The tensors by our names. The Linear weights [C, C] of FLA's contexts become Conv1d weights
        [C, C, 1].

    Raises:
        UserError: Unknown `name` (lists the choices), or `state_dict` has other names than the
            published module; the message lists every missing and every unexpected one.
    """
    check_choice("published module", name, RENAMES)
    renames = RENAMES[name]
    weights = _with_counters(_without_prefix(state_dict.get("state_dict", state_dict)), renames)
    extra = DROPPED if name.startswith("danet_resnet") else ()
    missing = sorted(renames.keys() - weights.keys())
    unexpected = sorted(weights.keys() - renames.keys() - set(extra))
    if missing or unexpected:
        raise UserError(
            f"not the weights of a published {name!r}: missing {missing or 'none'}, "
            f"unexpected {unexpected or 'none'}"
        )
    renamed = {ours: weights[published] for published, ours in renames.items()}
    return {k: v.unsqueeze(-1) if k.endswith(LINEAR_TO_CONV1D) else v for k, v in renamed.items()}


def _without_prefix(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if not all(key.startswith("module.") for key in state_dict):
        return state_dict
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


def _with_counters(state_dict: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    counters = {name: torch.tensor(0) for name in names if name.endswith(COUNTER)}
    return {**counters, **state_dict}
