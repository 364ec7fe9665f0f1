"""The published formulations: the baseline that the attention of this package is measured against.

Written anew from the equations, with two things kept from the published code on purpose: the
parameter names, so that a published state dict loads, and the memory behaviour. Hence every N x N
or C x C map is a tensor of its own, contexts are tiled, and intermediate results keep a name, which
holds their memory until the function returns. Do not optimise this file; the blocks to use are in
`segattn.models.heads`, and `segattn.models.published` carries weights over.

Axes: B batch, C channels, D query/key channels, H rows, W columns, N = H * W positions. Features
are floating; every block computes in the dtype of its weights (our blocks stay in float32 under
autocast, these follow it, as published).

DANet: Fu et al., CVPR 2019, arXiv 1809.02983, code junfu1115/DANet.
FLA: Song et al., AAAI 2022, arXiv 2112.04108, code Ilareina/FullyAttentional.
CCNet: Huang et al., ICCV 2019, arXiv 1811.11721, code speedinghzl/CCNet.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class _Projections(nn.Module):
    """Queries, keys and values by 1x1 convolutions, and gamma, as the published codes build them.

    Args:
        channels: C, at least 8; queries and keys have D = C / 8 channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.key_conv = nn.Conv2d(channels, channels // 8, kernel_size=1)
        self.value_conv = nn.Conv2d(channels, channels, kernel_size=1)
        self.gamma = nn.Parameter(torch.zeros(1))


class PublishedSpatial(_Projections):
    """Spatial non-local block, the PAM of DANet (section 3.2, code junfu1115/DANet).

    gamma * V softmax(Q^T K)^T + X. Kept: the N x N energies and the N x N map exist side by side,
    and training keeps the map for the backward pass.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        queries = self.query_conv(x).flatten(2).transpose(1, 2)  # [B, N, D]
        keys = self.key_conv(x).flatten(2)  # [B, D, N]
        energies = torch.bmm(queries, keys)
        attention = torch.softmax(energies, dim=-1)
        values = self.value_conv(x).flatten(2)  # [B, C, N]
        result = torch.bmm(values, attention.transpose(1, 2)).view_as(x)
        return self.gamma * result + x


class PublishedChannel(nn.Module):
    """Channel non-local block, the CAM of DANet (section 3.3, code junfu1115/DANet).

    gamma * softmax(max(E) - E) X + X with E = X X^T. Kept: the sign of the energies, which is the
    opposite of equation 3, and three C x C tensors, one of them from the expanded maximum.

    Args:
        channels: C; the block has no weights that depend on it.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        flat = x.flatten(2)  # [B, C, N]
        energies = torch.bmm(flat, flat.transpose(1, 2))
        flipped = energies.max(dim=-1, keepdim=True).values.expand_as(energies) - energies
        attention = torch.softmax(flipped, dim=-1)
        result = torch.bmm(attention, flat).view_as(x)
        return self.gamma * result + x


class PublishedCrissCross(_Projections):
    """One loop of criss-cross attention, CCNet (section 3.2, code speedinghzl/CCNet).

    gamma * attention + X. Kept: queries, keys and values are copied by column and by row, and
    energies and maps exist side by side. The network calls it twice.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        batch, _, height, width = x.shape
        queries, keys, values = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        # by column [B * W, channels, H], by row [B * H, channels, W]
        column_queries, column_keys, column_values = (
            y.permute(0, 3, 1, 2).contiguous().flatten(0, 1) for y in (queries, keys, values)
        )
        row_queries, row_keys, row_values = (
            y.permute(0, 2, 1, 3).contiguous().flatten(0, 1) for y in (queries, keys, values)
        )
        itself = torch.diag(x.new_full((height,), torch.inf))
        column_energies = torch.bmm(column_queries.transpose(1, 2), column_keys) - itself
        row_energies = torch.bmm(row_queries.transpose(1, 2), row_keys)
        energies = torch.cat(
            [
                column_energies.unflatten(0, (batch, width)).transpose(1, 2),
                row_energies.unflatten(0, (batch, height)),
            ],
            dim=3,
        )  # [B, H, W, H + W]
        maps = torch.softmax(energies, dim=3)
        column_maps = maps[..., :height].transpose(1, 2).flatten(0, 1)  # [B * W, H, H]
        row_maps = maps[..., height:].flatten(0, 1)  # [B * H, W, W]
        by_column = torch.bmm(column_values, column_maps.transpose(1, 2)).unflatten(
            0, (batch, width)
        )
        by_row = torch.bmm(row_values, row_maps.transpose(1, 2)).unflatten(0, (batch, height))
        return self.gamma * (by_column.permute(0, 2, 3, 1) + by_row.permute(0, 2, 1, 3)) + x


class PublishedFull(nn.Module):
    """Fully attentional block, FLA (section 3.2, code Ilareina/FullyAttentional).

    Channel attention inside every column and every row, then a 3x3 convolution. Kept: columns and
    rows are copied, the context of an image is tiled once per slice, both sets of C x C maps and
    energies exist side by side, and the tiling mixes the images of a batch, see
    `segattn.models.attention.full_attention`. H and W may differ.

    Deviation: the published block is one function and holds its energies during the 3x3
    convolution too, `forward` does not; so measure the memory of the attention on `attend`.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Linear(channels, channels)
        self.conv2 = nn.Linear(channels, channels)
        self.conv = _conv_norm_relu(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))

    def attend(self, x: Tensor) -> Tensor:
        """The block up to its 3x3 convolution, gamma * attention + x; keeps [B, C, H, W]."""
        batch, _, height, width = x.shape
        columns = x.permute(0, 3, 1, 2).contiguous().flatten(0, 1)  # [B * W, C, H]
        rows = x.permute(0, 2, 1, 3).contiguous().flatten(0, 1)  # [B * H, C, W]
        column_context = _encoded_mean(x, (1, width), self.conv1)  # [B, H, C]
        row_context = _encoded_mean(x, (height, 1), self.conv2)  # [B, W, C]
        # the bug: tiled contexts have the batch as their fast axis, columns and rows as their slow
        column_energies = torch.bmm(columns, column_context.repeat(width, 1, 1))
        row_energies = torch.bmm(rows, row_context.repeat(height, 1, 1))
        column_maps = torch.softmax(column_energies, dim=-1)
        row_maps = torch.softmax(row_energies, dim=-1)
        by_column = torch.bmm(column_maps, columns).unflatten(0, (batch, width))  # [B, W, C, H]
        by_row = torch.bmm(row_maps, rows).unflatten(0, (batch, height))  # [B, H, C, W]
        return self.gamma * (by_column.permute(0, 2, 3, 1) + by_row.permute(0, 2, 1, 3)) + x

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same shape."""
        return self.conv(self.attend(x))


class PublishedDANetHead(nn.Module):
    """Dual non-local head of DANet (section 3.1, figure 2, code junfu1115/DANet).

    Kept: all three classifiers run in evaluation too, the result is a tuple, and the activations
    are not in place.

    Args:
        in_channels: Channels of the encoder's last map, at least 32; the inner width is a quarter.
        num_classes: Number of classes.
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        channels = in_channels // 4
        self.conv5a = _conv_norm_relu(in_channels, channels)
        self.conv5c = _conv_norm_relu(in_channels, channels)
        self.sa = PublishedSpatial(channels)
        self.sc = PublishedChannel(channels)
        self.conv51 = _conv_norm_relu(channels, channels)
        self.conv52 = _conv_norm_relu(channels, channels)
        self.conv6 = _classifier(channels, num_classes)
        self.conv7 = _classifier(channels, num_classes)
        self.conv8 = _classifier(channels, num_classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, in_channels, h, w] to the logits of the sum, the spatial and the channel branch."""
        spatial_reduced = self.conv5a(features)
        spatial_attended = self.sa(spatial_reduced)
        spatial = self.conv51(spatial_attended)
        spatial_logits = self.conv6(spatial)
        channel_reduced = self.conv5c(features)
        channel_attended = self.sc(channel_reduced)
        channel = self.conv52(channel_attended)
        channel_logits = self.conv7(channel)
        return self.conv8(spatial + channel), spatial_logits, channel_logits


def _encoded_mean(x: Tensor, window: tuple[int, int], encode: nn.Linear) -> Tensor:
    """Mean of x [B, C, H, W] over a window that spans one axis, encoded: [B, other axis, C]."""
    mean = functional.avg_pool2d(x, window).flatten(2)
    return encode(mean.transpose(1, 2).contiguous())


# a copy of the layer in segattn.models.scaffold: the baseline must not change with it
def _conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _classifier(in_channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(in_channels, num_classes, kernel_size=1))
