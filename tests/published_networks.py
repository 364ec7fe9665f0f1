"""DANet and FLANet as their published codes build them: names, wiring, dilations, upsampling.

Own words; only the parameter names and the numbers are those of junfu1115/DANet and
Ilareina/FullyAttentional. Widths are arguments where the published code fixes them.
"""

from itertools import cycle, islice

import torch
from torch import nn
from torch.nn import functional

from segattn.benchmark.formulations import PublishedDANetHead, PublishedFull


class Block(nn.Module):
    """1x1, 3x3 with the stride and the dilation, 1x1 to four times the width; beside a shortcut."""

    def __init__(self, in_channels, width, *, stride, dilation, project):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = nn.Identity()
        if project:
            shortcut = nn.Conv2d(in_channels, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class Backbone(nn.Module):
    """ResNet of bottlenecks at stride 8; `dilations` of the blocks of its last two stages."""

    def __init__(self, num_blocks, *, dilations, deep_stem=False):
        super().__init__()
        self.conv1 = deep() if deep_stem else nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        channels = 128 if deep_stem else 64
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        rates = ([1] * num_blocks[0], [1] * num_blocks[1], *dilations)
        for i, (num, own) in enumerate(zip(num_blocks, rates, strict=True)):
            width = 64 * 2**i
            blocks = [
                Block(
                    channels if j == 0 else 4 * width,
                    width,
                    stride=2 if i == 1 and j == 0 else 1,
                    dilation=rate,
                    project=j == 0,
                )
                for j, rate in enumerate(own)
            ]
            assert len(blocks) == num
            channels = 4 * width
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))

    def forward(self, x):
        x = self.layer1(self.maxpool(self.bn1(self.conv1(x)).relu()))
        second = self.layer2(x)
        third = self.layer3(second)
        return second, third, self.layer4(third)


def deep():
    def conv(in_channels, out_channels, stride=1):
        return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)

    norms = nn.BatchNorm2d(64), nn.BatchNorm2d(64)
    return nn.Sequential(
        conv(3, 64, 2), norms[0], nn.ReLU(), conv(64, 64), norms[1], nn.ReLU(), conv(64, 128)
    )


def danet_dilations(num_blocks, multi_grid=None):
    """Both stages start at the rate of the stage before, unless the last one has a grid."""
    third = [1] + [2] * (num_blocks[2] - 1)
    last = [2] + [4] * (num_blocks[3] - 1)
    return third, list(islice(cycle(multi_grid), num_blocks[3])) if multi_grid else last


class PublishedDANet(nn.Module):
    def __init__(self, num_blocks, *, num_classes, multi_grid=None):
        super().__init__()
        self.pretrained = Backbone(num_blocks, dilations=danet_dilations(num_blocks, multi_grid))
        self.head = PublishedDANetHead(2048, num_classes)

    def forward(self, x):
        return [to_image(y, x) for y in self.head(self.pretrained(x)[-1])]


class PublishedFLANetHead(nn.Module):
    """FLANet without its backbone: `stages` are the channels of the three maps it reads."""

    def __init__(self, stages, *, channels, num_classes):
        super().__init__()
        second, third, last = stages
        self.conv = nn.Sequential(*conv_norm(last, channels), *conv_norm(channels, channels))
        self.fully = PublishedFull(channels)
        self.conv_out1 = Output(last + channels, channels, num_classes)
        self.conv_out2 = Output(second, channels // 8, num_classes)
        self.conv_out3 = Output(third, channels // 8, num_classes)

    def answers(self, second, third, last):
        both = torch.cat([last, self.fully(self.conv(last))], dim=1)
        return [self.conv_out1(both), self.conv_out2(second), self.conv_out3(third)]

    def forward(self, second, third, last):
        return self.answers(second, third, last)


class PublishedFLANet(PublishedFLANetHead):
    def __init__(self, num_blocks, *, num_classes):
        super().__init__((512, 1024, 2048), channels=512, num_classes=num_classes)
        dilations = [2] * num_blocks[2], [4] * num_blocks[3]
        self.backbone = Backbone(num_blocks, dilations=dilations, deep_stem=True)

    def forward(self, x):
        return [to_image(y, x) for y in self.answers(*self.backbone(x))]


class Output(nn.Module):
    def __init__(self, in_channels, channels, num_classes):
        super().__init__()
        last = [nn.Dropout2d(0.1), nn.Conv2d(channels, num_classes, 1)]
        self.conv = nn.Sequential(
            nn.Upsample(scale_factor=2), *conv_norm(in_channels, channels), *last
        )

    def forward(self, x):
        return self.conv(x)


def conv_norm(in_channels, out_channels):
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    return conv, nn.BatchNorm2d(out_channels), nn.ReLU()


def to_image(logits, image):
    return functional.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)
