from itertools import count

import numpy as np
import pytest
from scipy import stats

from segattn.analysis.power import holm, minimal_detectable_effect, seeds_needed
from segattn.analysis.stats import Estimate, welch_df

NAN = float("nan")


def study(seeds, *, seed_sd=1.0, se_images=0.0, blocks=200):
    """An estimate with a known standard deviation over seeds."""
    variances = seed_sd**2 / seeds if seeds > 1 else 0.0, se_images**2
    se, se_seed = np.sqrt(sum(variances)), np.sqrt(variances[0])
    df = welch_df(variances[0], image_var=variances[1], seeds=seeds, blocks=blocks)
    return Estimate(NAN, NAN, NAN, se, se_seed, se_images, df, NAN, seeds, blocks, blocks)


def test_holm_by_hand():
    # sorted: 4 * 0.005, 3 * 0.01, 2 * 0.03, and 0.04 not below the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_leaves_nan_out_of_the_family():
    got = holm([NAN, 0.02, 0.01, NAN])
    assert got[1:3] == pytest.approx([0.02, 0.02])
    assert np.isnan([got[0], got[3]]).all()
    assert np.isnan(holm([NAN])).all()


def test_holm_rejects_as_the_step_down_procedure():
    for p in np.random.default_rng(0).beta(0.2, 1, (200, 5)).tolist():
        rejected = set()
        for step, index in enumerate(np.argsort(p)):
            if p[index] > 0.05 / (5 - step):
                break
            rejected.add(int(index))
        assert {index for index, value in enumerate(holm(p)) if value <= 0.05} == rejected


# the design's table is rounded and, for 5 seeds, 1.3% below the exact 1.682
@pytest.mark.parametrize(("seeds", "effect"), [(3, 3.2), (5, 1.66), (8, 1.15), (10, 0.99)])
def test_detectable_effect_without_image_noise_in_units_of_the_seed_noise(seeds, effect):
    assert minimal_detectable_effect(study(seeds)) == pytest.approx(effect, rel=0.025)


@pytest.mark.parametrize(
    ("seeds", "power", "alpha"), [(3, 0.8, 0.05), (5, 0.5, 0.1), (9, 0.2, 0.1)]
)
def test_a_t_test_finds_the_detectable_effect_with_the_given_power(seeds, power, alpha):
    effect = minimal_detectable_effect(study(seeds), power=power, alpha=alpha)
    differences = np.random.default_rng(0).normal(effect, 1, (100_000, seeds))
    rejected = stats.ttest_1samp(differences, 0, axis=1).pvalue < alpha
    assert rejected.mean() == pytest.approx(power, abs=0.006)  # 4 standard errors


def test_a_planned_number_of_seeds_rescales_the_seed_part_only():
    pilot, later = (study(seeds, se_images=0.3) for seeds in (3, 8))
    assert minimal_detectable_effect(pilot, seeds=3) == minimal_detectable_effect(pilot)
    assert minimal_detectable_effect(pilot, seeds=8) == pytest.approx(
        minimal_detectable_effect(later)
    )
    images_only = study(2, seed_sd=0, se_images=0.3)
    assert minimal_detectable_effect(pilot, seeds=10**7) == pytest.approx(
        minimal_detectable_effect(images_only), rel=1e-4
    )


def test_detectable_effect_of_a_study_without_noise_is_zero():
    assert minimal_detectable_effect(study(3, seed_sd=0)) == 0
    assert seeds_needed(study(3, seed_sd=0), effect=0.01) == 2


def test_one_seed_tells_no_detectable_effect():
    one, three = study(1, se_images=0.3), study(3, se_images=0.3)
    assert np.isnan(minimal_detectable_effect(one))
    assert np.isnan(minimal_detectable_effect(one, seeds=8))
    assert np.isnan(minimal_detectable_effect(three, seeds=1))
    assert seeds_needed(one, effect=100) is None


def test_an_absent_score_has_no_detectable_effect():
    absent = study(3, seed_sd=NAN, se_images=NAN)
    assert np.isnan(minimal_detectable_effect(absent))
    assert seeds_needed(absent, effect=1) is None


@pytest.mark.parametrize(("se_images", "blocks"), [(0.0, 200), (0.2, 200), (0.2, 4)])
@pytest.mark.parametrize("effect", [0.9, 1.5, 4.0])
def test_seeds_needed_is_the_first_number_that_is_enough(effect, se_images, blocks):
    pilot = study(3, se_images=se_images, blocks=blocks)
    effects = ((n, minimal_detectable_effect(pilot, seeds=n)) for n in count(2))
    assert seeds_needed(pilot, effect=effect) == next(n for n, mde in effects if mde <= effect)


def test_seeds_needed_where_more_seeds_shift_the_weight_to_two_blocks():
    # two blocks give the image part 1 degree of freedom, so 1000 seeds detect less than 30
    pilot = study(5, se_images=0.2, blocks=2)
    few, many = (minimal_detectable_effect(pilot, seeds=n) for n in (30, 1000))
    assert few < many
    assert seeds_needed(pilot, effect=few) <= 30


def test_an_effect_that_is_just_detectable_needs_no_more_seeds():
    pilot = study(3, se_images=0.2)
    for seeds in range(2, 40):
        effect = minimal_detectable_effect(pilot, seeds=seeds)
        assert seeds_needed(pilot, effect=effect) == seeds
        assert seeds_needed(pilot, effect=effect * (1 - 1e-6)) == seeds + 1


def test_no_number_of_seeds_makes_up_for_too_few_images():
    pilot = study(3, se_images=0.2)
    assert seeds_needed(pilot, effect=0.5) is None
    assert seeds_needed(study(3), effect=0.5, limit=30) is None
    assert seeds_needed(study(3), effect=0.5) == seeds_needed(study(3), effect=0.5, limit=40)


def test_a_tiny_rounding_error_is_detected_at_once():
    assert seeds_needed(study(3, seed_sd=1e-17), effect=0.01) == 2


def test_impossible_powers_and_effects_are_refused():
    for power in (0.05, 1, 80):
        with pytest.raises(ValueError, match=f"between alpha and 1, got power {power}"):
            minimal_detectable_effect(study(3), power=power)
    with pytest.raises(ValueError, match="must be positive, got 0"):
        seeds_needed(study(3), effect=0)
