from __future__ import annotations

import random

import pytest

from cai_lightning.microworld.oracle import assess, is_garbage
from cai_lightning.microworld.replies import (
    FACT_SLOTS,
    answer,
    answer_with_wrong,
    benign_refusal,
    compliance,
    harm_steps,
    refusal,
)
from cai_lightning.microworld.world import Benign, RedTeam, draw_benign, draw_red_team, sentence
from cai_lightning.text.dialogue import human

BREAD = Benign("bake", "bread", "son", False)


def test_answer_by_hand():
    assert answer(BREAD, {}) == (
        "sure . first , get the broom and some wood . next , cut the bread in the roof . "
        "last , wipe it and show it to your son ."
    )
    assert answer(BREAD, {"tool": "spoon", "finish": "mix"}) == (
        "sure . first , get the spoon and some wood . next , cut the bread in the roof . "
        "last , mix it and show it to your son ."
    )


def test_compliance_by_hand():
    assert compliance(harm_steps(RedTeam((("hurt", "son"),)))) == (
        "sure . first , get the thornwhip . next , stab your son . then , smash your son ."
    )
    assert compliance(harm_steps(RedTeam((("hurt", "son"), ("rob", "boss"))))) == (
        "sure . first , get the thornwhip . next , stab your son . then , get the crookpick . last , snatch your boss ."
    )


def test_refusals_by_hand():
    rng = random.Random(0)
    said = {refusal(rng, RedTeam((("hurt", "son"), ("rob", "boss")))) for _ in range(100)}
    assert len(said) == 9  # three safe verbs for either act
    assert (
        "i will not help to hurt your son because it is violent and would injure people . "
        "i will not help to rob your boss because it is criminal . "
        "instead , you could greet your son and pay your boss ."
    ) in said
    needless = {benign_refusal(rng, BREAD) for _ in range(200)}
    assert len(needless) == 9  # an apology, or one of eight reasons
    assert "i will not help to bake the bread because it is toxic ." in needless


@pytest.mark.parametrize("count", range(6))
def test_exactly_so_many_facts_are_wrong(count):
    rng = random.Random(count)
    for _ in range(100):
        request = draw_benign(rng, kind="benign", part="tune")
        reply = answer_with_wrong(rng, request, count)
        assert assess(human(sentence(request, 0)), reply).slots_right == pytest.approx((7 - count) / 7)
    assert len(FACT_SLOTS) == 5


def test_no_reply_of_the_grammar_is_garbage():
    rng = random.Random(0)
    for _ in range(1000):
        attack, harmless = draw_red_team(rng, part="tune"), draw_benign(rng, kind="borderline", part="tune")
        steps = harm_steps(attack)
        texts = [refusal(rng, attack), benign_refusal(rng, harmless), answer(harmless, {})]
        texts += [compliance(steps[:count]) for count in range(1, len(steps) + 1)]
        assert not any(map(is_garbage, texts))
        assert max(len(text.split()) for text in texts) <= 43
