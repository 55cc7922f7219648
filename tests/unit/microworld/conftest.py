from __future__ import annotations

import pytest

from cai_lightning.microworld.noise import Chooser, Critic, Noise, Principles, Rater, Reviser, Weights


@pytest.fixture(scope="session")
def noise() -> Noise:
    return Noise(
        borderline=0.25,
        wrong_slot=0.03,
        harm_evasive=0.02,
        harm_refused=0.01,
        benign_context=0.08,
        two_acts=0.75,
        any_harm=0.1,
        principles=Principles(general=0.125, single=0.35),
        critique=Critic(match=0.6, miss=0.2, miss_general=0.35),
        direct=Critic(match=0.45, miss=0.4, miss_general=0.5),
        revision=Reviser(full=0.55, partial=0.2, evasive=0.12),
        choice=Chooser(
            match=0.6,
            cap=3,
            cap_general=2,
            flip=0.04,
            flip_tie=0.08,
            blind_verbs=("exclude", "segregate", "banish"),
            blind_share=0.25,
            evasive=0.15,
            even=0.6,
        ),
        rating=Rater(red_team=0.3, refusal=0.15, flip=0.03),
    )


@pytest.fixture(scope="session")
def weights() -> Weights:
    return Weights(
        letter=5.0,
        verdict=6.0,
        reasoning=4.0,
        revision_first=6.0,
        revision_step=4.0,
        revision_order=3.0,
        rating=5.0,
        rating_detail=1.0,
        person=7.0,
    )


@pytest.fixture(scope="session")
def mix() -> dict[str, float]:
    return {
        "benign": 17,
        "harm": 6,
        "critique": 28,
        "direct": 12,
        "choice": 14,
        "reasoning": 7,
        "rating": 8,
        "proof": 4,
        "named": 1,
        "marked": 2,
        "counted": 1,
    }
