from __future__ import annotations

import hashlib
import math

import torch

from cai_lightning.models.noise import gumbel, row_key

ROWS = torch.tensor([row_key(f"row-{number}") for number in range(400)])


def splitmix64(state: int) -> int:
    """The reference step in Python integers (Vigna's splitmix64.c, less the state update)."""
    mask = (1 << 64) - 1
    z = state & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_noise_is_the_inverse_gumbel_law_of_a_counter_hash():
    step, seed, position = 0x9E3779B97F4A7C15, 5, 3
    found = gumbel(seed, ROWS[:4], position, 6)
    for place, row in enumerate(ROWS[:4].tolist()):
        state = splitmix64(splitmix64(row + splitmix64(seed)) + (position + 1) * step)
        for token in range(6):
            u = ((splitmix64(state + (token + 1) * step) >> 1) + 0.5) / 2**63
            assert math.isclose(found[place, token].item(), -math.log(-math.log1p(-u)), rel_tol=1e-6)


def test_splitmix_reference_matches_its_published_first_output():
    assert splitmix64(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF


def test_noise_has_the_standard_gumbel_law():
    values = gumbel(0, ROWS, 0, 1000).flatten().double()
    count = len(values)
    sd = math.pi / math.sqrt(6)
    assert abs(values.mean() - 0.5772156649) < 4 * sd / math.sqrt(count)
    # the fourth central moment of the law is 27/5 sd^4, so sd of the sample variance is sd^2 sqrt(4.4 / n)
    assert abs(values.var() - sd**2) < 4 * sd**2 * math.sqrt(4.4 / count)
    ordered = torch.exp(-torch.exp(-values)).sort().values
    grid = torch.arange(1, count + 1, dtype=torch.float64) / count
    assert (ordered - grid).abs().max() < 1.95 / math.sqrt(count)  # Kolmogorov-Smirnov at 0.1 %
    assert torch.isfinite(values).all()


def test_neighbours_are_uncorrelated():
    noise = gumbel(1, ROWS, 0, 500)
    bound = 4 / math.sqrt(noise.numel())
    others = {
        "token": (noise[:, 1:], noise[:, :-1]),
        "row": (noise[1:], noise[:-1]),
        "position": (noise, gumbel(1, ROWS, 1, 500)),
        "seed": (noise, gumbel(2, ROWS, 0, 500)),
        "consecutive keys": (noise, gumbel(1, ROWS + 1, 0, 500)),
    }
    for name, pair in others.items():
        left, right = (side.flatten() - side.mean() for side in pair)
        assert abs((left * right).mean() / (left.std() * right.std())) < bound, name


def test_noise_depends_on_nothing_but_its_arguments():
    whole = gumbel(9, ROWS, 4, 70)
    assert torch.equal(whole[17:18], gumbel(9, ROWS[17:18], 4, 70))
    assert torch.equal(whole[:, :33], gumbel(9, ROWS, 4, 33))
    assert torch.equal(whole, gumbel(9, ROWS, torch.full((400,), 4), 70))
    before = ROWS.clone()
    gumbel(-1, ROWS, 0, 3), gumbel(2**64 + 9, ROWS, 0, 3)
    assert torch.equal(before, ROWS)


def test_argmax_draws_from_the_softmax():
    logits = torch.tensor([2.0, 0.0, -1.0, 1.0])
    rows = torch.arange(40_000)
    drawn = (logits + gumbel(3, rows, 0, 4)).argmax(-1).bincount(minlength=4).double() / len(rows)
    expected = logits.double().exp() / logits.double().exp().sum()
    assert ((drawn - expected).abs() < 4 * (expected * (1 - expected) / len(rows)).sqrt()).all()


def test_row_key_is_the_head_of_sha256():
    digest = int(hashlib.sha256(b"a/1").hexdigest()[:16], 16)
    assert row_key("a/1") == digest // 2
    assert 0 <= row_key("") < 2**63
