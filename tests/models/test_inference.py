"""Protocols against whole-image inference, where both must agree, and by hand where they differ."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from segattn.models.inference import Protocol, build_protocol, predict, window_starts

WHOLE = Protocol()


def sliding(crop, stride, **knobs):
    return Protocol(name="sliding", crop=crop, stride=stride, **knobs)


def random_images(*size, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8, generator=generator)


def per_pixel(images):
    """Four classes from the pixel alone; exact in float64."""
    weight = torch.arange(-6.0, 6.0, dtype=torch.float64).view(4, 3, 1, 1)
    return functional.conv2d(images.double(), weight)


def convolution(size):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(3, 4, size, padding=size // 2, bias=False).double()
    layer.weight.data = torch.randint(-3, 4, layer.weight.shape, generator=generator).double()
    return lambda images: layer(images.double()).detach()


def test_whole_images_are_one_call_without_a_copy():
    images, results = random_images(5, 7), []

    def model(given):
        assert given is images
        results.append(per_pixel(given))
        return results[0]

    assert predict(model, images, protocol=WHOLE) is results[0]
    assert len(results) == 1


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("size", "crop", "stride"),
    [
        ((8, 8), (8, 8), (8, 8)),
        ((8, 8), (4, 4), (4, 4)),
        ((8, 12), (4, 5), (4, 3)),  # last column of windows moves back
        ((11, 7), (4, 5), (3, 5)),
        ((7, 6), (3, 4), (1, 1)),
        ((3, 9), (5, 4), (5, 2)),  # lower than a window
        ((9, 3), (4, 5), (2, 5)),  # narrower
        ((2, 3), (5, 7), (1, 1)),  # both
        ((1, 1), (4, 4), (4, 4)),
    ],
)
def test_windows_of_a_local_network_give_the_whole_image(size, crop, stride, flip):
    images = random_images(*size)
    shapes = []

    def model(given):
        shapes.append(tuple(given.shape[2:]))
        assert given.dtype == torch.uint8
        return per_pixel(given)

    got = predict(model, images, protocol=sliding(crop, stride, flip=flip))
    torch.testing.assert_close(got, per_pixel(images), rtol=1e-12, atol=0)
    assert set(shapes) == {crop}


@pytest.mark.parametrize("stride", [1, 3, 4])
def test_windows_cover_every_pixel_and_end_at_the_border(stride):
    for length in range(4, 25):
        starts = window_starts(length, crop=4, stride=stride)
        assert starts[0] == 0
        assert starts[-1] == length - 4
        gaps = [b - a for a, b in itertools.pairwise(starts)]
        assert all(gap == stride for gap in gaps[:-1])
        assert all(0 < gap <= stride for gap in gaps[-1:])


def test_overlaps_are_means_over_the_windows_of_each_pixel():
    """Every window answers with its own number, so the result says which windows a pixel had."""
    numbers = iter([1.0, 2.0, 4.0])

    def model(given):
        return torch.full((1, 1, *given.shape[2:]), next(numbers))

    got = predict(model, random_images(2, 7, batch=1), protocol=sliding((2, 4), (2, 2)))
    # columns 0-3, 2-5 and 3-6
    expected = torch.tensor([1, 1, 1.5, 7 / 3, 3, 3, 4]).expand(1, 1, 2, 7)
    torch.testing.assert_close(got, expected)


def test_windows_are_cut_from_rows_and_columns_in_their_order():
    seen = []

    def model(given):
        seen.append(given[0, 0, 0, 0].item())
        return per_pixel(given)

    images = torch.arange(6 * 8, dtype=torch.uint8).view(1, 1, 6, 8).expand(1, 3, 6, 8)
    predict(model, images, protocol=sliding((4, 6), (2, 2)))
    assert seen == [0, 2, 16, 18]


def test_small_images_are_padded_below_and_right_with_the_mean_colour():
    images, seen = random_images(3, 4, batch=1), []

    def model(given):
        seen.append(given.clone())
        return per_pixel(given)

    predict(model, images, protocol=sliding((5, 6), (5, 6)))
    (padded,) = seen
    assert torch.equal(padded[..., :3, :4], images)
    colour = torch.tensor([124, 116, 104], dtype=torch.uint8).view(3, 1)
    assert torch.equal(padded[0, :, 3:].flatten(1), colour.expand(3, 12))
    assert torch.equal(padded[0, :, :3, 4:].flatten(1), colour.expand(3, 6))


def test_beyond_the_reach_of_a_window_border_a_convolution_gives_the_whole_image():
    images, model = random_images(8, 9), convolution(3)
    got = predict(model, images, protocol=sliding((8, 5), (8, 4)))  # columns 0-4 and 4-8
    whole = model(images)
    inner = [0, 1, 2, 3, 5, 6, 7, 8]
    torch.testing.assert_close(got[..., inner[:4]], whole[..., inner[:4]], rtol=1e-12, atol=0)
    torch.testing.assert_close(got[..., inner[4:]], whole[..., inner[4:]], rtol=1e-12, atol=0)
    assert not torch.allclose(got[..., 4], whole[..., 4])


@pytest.mark.parametrize("knobs", [{}, {"crop": (5, 4), "stride": (3, 4), "name": "sliding"}])
def test_mirror_image_changes_nothing_for_a_symmetric_network_only(knobs):
    images, layer = random_images(8, 9), convolution(3)

    def symmetric(given):
        return layer(given) + layer(given.flip(3)).flip(3)

    plain, mirrored = Protocol(**knobs), Protocol(**knobs, flip=True)
    expected = predict(symmetric, images, protocol=plain)
    torch.testing.assert_close(predict(symmetric, images, protocol=mirrored), expected)
    got = predict(layer, images, protocol=mirrored)
    torch.testing.assert_close(got, expected / 2)
    assert not torch.allclose(got, predict(layer, images, protocol=plain))


def test_scales_resize_the_image_and_the_logits():
    sizes = []

    def constant(given):
        sizes.append(tuple(given.shape[2:]))
        low, high = given.amin((2, 3)), given.amax((2, 3))
        torch.testing.assert_close(low, high)
        return given.float()

    images = torch.tensor([10, 200, 31], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 9, 15)
    got = predict(constant, images, protocol=Protocol(scales=[1.5, 0.5, 0.01, 1]))
    assert sizes == [(1, 1), (5, 8), (9, 15), (14, 23)]
    torch.testing.assert_close(got, images.float())


def test_scales_are_means_of_resized_passes():
    images = random_images(6, 8)
    got = predict(per_pixel, images, protocol=Protocol(scales=[0.5, 1]))
    half = functional.interpolate(images.double(), scale_factor=0.5, mode="bilinear")
    back = functional.interpolate(per_pixel(half), (6, 8), mode="bilinear")
    torch.testing.assert_close(got, (per_pixel(images) + back) / 2)


def test_windows_of_a_resized_image_have_their_size_in_its_pixels():
    shapes = []

    def model(given):
        shapes.append(tuple(given.shape))
        assert given.dtype == (torch.uint8 if len(shapes) == 1 else torch.float32)
        return per_pixel(given)

    images = random_images(4, 6)
    protocol = sliding((4, 6), (4, 6), scales=(1, 2))
    got = predict(model, images, protocol=protocol)
    assert shapes == [(2, 3, 4, 6)] * 5
    torch.testing.assert_close(got, predict(per_pixel, images, protocol=Protocol(scales=(1, 2))))


def test_probabilities_weigh_a_sure_pass_less_than_logits_do():
    """Logits 9 and -1 mean 4; their probabilities mean 0.63, barely a majority."""
    answers = {True: (9.0, 0.0, 0.0), False: (-1.0, 0.0, 1.0)}

    def run(average):
        sure = itertools.cycle([True, False])

        def model(given):
            return torch.tensor(answers[next(sure)]).view(1, 3, 1, 1).repeat(1, 1, *given.shape[2:])

        protocol = Protocol(flip=True, average=average)
        return predict(model, random_images(2, 2, batch=1), protocol=protocol)[0, :, 0, 0]

    torch.testing.assert_close(run("logits"), torch.tensor([4, 0, 0.5]))
    expected = (
        torch.tensor(answers[True]).softmax(0) + torch.tensor(answers[False]).softmax(0)
    ) / 2
    torch.testing.assert_close(run("probabilities"), expected)


@pytest.mark.parametrize(
    "protocol",
    [
        sliding((4, 4), (2, 3), average="probabilities"),
        Protocol(scales=(0.5, 1.0, 1.75), flip=True, average="probabilities"),
        sliding((9, 4), (2, 3), scales=(0.5, 1.3), average="probabilities"),
    ],
)
def test_mean_probabilities_are_probabilities(protocol):
    got = predict(per_pixel, random_images(6, 7), protocol=protocol)
    assert got.shape == (2, 4, 6, 7)
    assert got.amin() >= 0
    torch.testing.assert_close(got.sum(1), torch.ones(2, 6, 7, dtype=got.dtype))


def test_labels_are_words_and_no_two_protocols_share_one():
    assert WHOLE.label == "whole"
    published = sliding(
        [768, 768], [512, 512], scales=[1, 0.5, 0.75], flip=True, average="probabilities"
    )
    assert published.label == (
        "sliding 768x768, stride 512x512, scales 0.5 0.75 1, flip, mean probabilities"
    )
    assert Protocol(scales=[2, 0.5]) == Protocol(scales=(0.5, 2.0))
    windows = [
        {},
        *(
            {"name": "sliding", "crop": crop, "stride": stride}
            for crop in ((8, 8), (8, 16), (16, 8))
            for stride in ((4, 4), (4, 8), (8, 4))
        ),
    ]
    scales = [(1.0,), (0.5,), (0.5, 1.0), (1.0, 2.0), (0.3333333,), (0.33333331,), (10,)]
    protocols = [
        Protocol(**window, scales=scale, flip=flip, average=average)
        for window, scale, flip in itertools.product(windows, scales, (False, True))
        for average in ("logits", "probabilities")
        if window or flip or scale != (1.0,) or average == "logits"
    ]
    assert len({protocol.label for protocol in protocols}) == len(protocols) == 279


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "tiles"}, r"unknown protocol\.name 'tiles'.*sliding.*whole"),
        ({"average": "votes"}, r"unknown protocol\.average 'votes'.*logits.*probabilities"),
        ({"crops": [8, 8]}, "unknown key of protocol 'crops'.*'crop'.*'stride'"),
        ({"name": "sliding"}, r"protocol\.crop must be two whole numbers.*got None"),
        ({"name": "sliding", "crop": [8, 8]}, r"protocol\.stride must be two whole .*got None"),
        ({"name": "sliding", "crop": 8, "stride": [8, 8]}, r"protocol\.crop must be .*got 8"),
        ({"name": "sliding", "crop": [8, 8], "stride": [0, 8]}, r"protocol\.stride .*\[0, 8\]"),
        ({"name": "sliding", "crop": [8.5, 8], "stride": [8, 8]}, r"protocol\.crop .*8\.5"),
        ({"name": "sliding", "crop": [8, 8, 8], "stride": [8, 8]}, r"protocol\.crop .*8, 8, 8"),
        (
            {"name": "sliding", "crop": [8, 8], "stride": [8, 9]},
            r"stride \[8, 9\] is larger than protocol\.crop \[8, 8\].*lower the stride",
        ),
        ({"crop": [8, 8]}, r"protocol\.crop has no effect on whole images; set protocol\.name"),
        ({"stride": [8, 8]}, r"protocol\.stride has no effect on whole images"),
        ({"average": "probabilities"}, r"has no effect on one pass.*add protocol\.flip"),
        ({"scales": []}, r"protocol\.scales must be a list of numbers in \[0\.01, 10\], got \[\]"),
        ({"scales": 0.5}, r"protocol\.scales must be a list .*got 0\.5"),
        ({"scales": [1, 0]}, r"protocol\.scales must be .*\[1, 0\]"),
        ({"scales": [float("nan")]}, r"protocol\.scales must be .*nan"),
        ({"scales": [float("inf")]}, r"protocol\.scales must be .*inf"),
        ({"scales": ["1"]}, r"protocol\.scales must be .*'1'"),
        ({"scales": [1, 1.0]}, r"protocol\.scales names a scale twice"),
        ({"flip": "yes"}, r"protocol\.flip must be true or false, got 'yes'"),
    ],
)
def test_bad_protocol_is_named(values, message):
    with pytest.raises(ValueError, match=message):
        build_protocol(values)


def test_plain_values_build_the_protocol():
    values = {"name": "sliding", "crop": [8, 6], "stride": [4, 6], "scales": [2, 1], "flip": True}
    protocol = build_protocol(values)
    assert protocol == sliding((8, 6), (4, 6), scales=(1.0, 2.0), flip=True)
    assert build_protocol({}) == WHOLE
