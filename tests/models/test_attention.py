"""The three equations against loops that follow the papers position by position."""

import pytest
import torch

from segattn.models.attention import channel_attention, full_attention, spatial_attention


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("energy", ["published", "paper"])
def test_channel_attention_equals_the_loop(energy):
    x = random(2, 5, 3, 4)
    expected = torch.zeros_like(x)
    for b in range(2):
        for i in range(5):
            energies = torch.stack([(x[b, i] * x[b, j]).sum() for j in range(5)])
            if energy == "published":
                energies = energies.max() - energies
            weights = torch.softmax(energies, 0)
            expected[b, i] = sum(weights[j] * x[b, j] for j in range(5))
    torch.testing.assert_close(channel_attention(x, energy=energy), expected)


def test_channel_attention_signs_differ_and_a_third_is_refused():
    x = random(1, 4, 3, 3)
    assert not torch.allclose(channel_attention(x), channel_attention(x, energy="paper"))
    with pytest.raises(ValueError, match=r"'both'.*paper.*published"):
        channel_attention(x, energy="both")


def test_spatial_attention_equals_the_loop():
    query, key, value = random(2, 2, 3, 4), random(2, 2, 3, 4, seed=1), random(2, 5, 3, 4, seed=2)
    expected = torch.zeros_like(value)
    places = [(y, x) for y in range(3) for x in range(4)]
    for b in range(2):
        for y, x in places:
            energies = torch.stack([query[b, :, y, x] @ key[b, :, v, u] for v, u in places])
            weights = torch.softmax(energies, 0)
            expected[b, :, y, x] = sum(
                w * value[b, :, v, u] for w, (v, u) in zip(weights, places, strict=True)
            )
    torch.testing.assert_close(spatial_attention(query, key, value), expected)


def test_full_attention_equals_the_loop():
    x, columns, rows = random(2, 5, 3, 4), random(2, 5, 3, seed=1), random(2, 5, 4, seed=2)
    expected = torch.zeros_like(x)
    for b in range(2):
        for w in range(4):
            f = x[b, :, :, w]
            expected[b, :, :, w] += torch.softmax(f @ columns[b].T, -1) @ f
        for h in range(3):
            f = x[b, :, h, :]
            expected[b, :, h, :] += torch.softmax(f @ rows[b].T, -1) @ f
    torch.testing.assert_close(full_attention(x, columns, rows), expected)


def test_published_batch_mixing_pairs_slices_with_the_contexts_of_other_images():
    x, columns, rows = random(3, 5, 2, 4), random(3, 5, 2, seed=1), random(3, 5, 4, seed=2)
    expected = torch.zeros_like(x)
    for b in range(3):
        for w in range(4):
            f = x[b, :, :, w]
            expected[b, :, :, w] += torch.softmax(f @ columns[(4 * b + w) % 3].T, -1) @ f
        for h in range(2):
            f = x[b, :, h, :]
            expected[b, :, h, :] += torch.softmax(f @ rows[(2 * b + h) % 3].T, -1) @ f
    mixed = full_attention(x, columns, rows, published_batch_mixing=True)
    torch.testing.assert_close(mixed, expected)
    assert not torch.allclose(mixed, full_attention(x, columns, rows))
    alone = [t[:1] for t in (x, columns, rows)]
    torch.testing.assert_close(
        full_attention(*alone, published_batch_mixing=True), full_attention(*alone)
    )
