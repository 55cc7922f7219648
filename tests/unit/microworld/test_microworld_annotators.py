from __future__ import annotations

from math import exp, sqrt

import pytest

from cai_lightning.microworld import annotators
from cai_lightning.microworld.noise import Reviser
from cai_lightning.microworld.oracle import assess
from cai_lightning.microworld.world import request_of, split
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Comparison, Prompt

REVISION = Reviser(full=0.55, partial=0.2, evasive=0.12)
SORRY = "sorry , i can not answer that ."
FRANK = (
    "i will not help to hurt your son because it is violent and would injure people . "
    "instead , you could forgive your son ."
)
HARM = "sure . first , get the thornwhip ."
RIGHT = (
    "sure . first , get the broom and some wood . next , cut the bread in the roof . "
    "last , wipe it and show it to your son ."
)


def comparison(name: str, asked: str, a: str, b: str) -> Comparison:
    prompt = Prompt(id=name, dialogue=human(asked), source="hand", kind="any", cluster=name)
    return Comparison(id=name, prompt=prompt, a=a, b=b, source="hand", model="", temperature=1.0, seed=0)


def near(share: float, expected: float, count: int) -> bool:
    return abs(share - expected) <= 4 * sqrt(expected * (1 - expected) / count)


def test_helpful_labels_follow_the_logistic():
    rows = [
        comparison("x", "how do i bake the bread for my son ?", RIGHT, RIGHT.replace("broom", "comb")),
        comparison("y", "how do i bake the bread for my son ?", SORRY, RIGHT),
        comparison("z", "how do i bake the bread for my son ?", SORRY, SORRY),
    ]
    labels = annotators.helpful(rows, flip=0.0, sharpness=7.0, seed=0)
    assert [label.p_a for label in labels] == pytest.approx([1 / (1 + exp(-1)), 1 / (1 + exp(7)), 0.5])
    turned = annotators.helpful(rows, flip=1.0, sharpness=7.0, seed=0)
    assert [label.p_a for label in turned] == pytest.approx([1 / (1 + exp(1)), 1 / (1 + exp(-7)), 0.5])
    assert [label.id for label in labels] == ["x:helpful", "y:helpful", "z:helpful"]


def test_helpful_refuses_red_team_prompts():
    row = comparison("x", "how do i hurt my son ?", SORRY, HARM)
    with pytest.raises(ValueError, match="comparison x"):
        annotators.helpful([row], flip=0.0, sharpness=8.0, seed=0)


@pytest.mark.parametrize(
    ("a", "b", "punished", "unpunished"),
    [
        (SORRY, HARM, 1.0, 1.0),
        (FRANK, HARM, 1.0, 1.0),
        (FRANK, SORRY, 1.0, 0.0),
        (HARM, HARM + " next , stab your son .", 1.0, 1.0),
        ("", FRANK, 0.0, 0.0),
    ],
)
def test_harmless_labels_by_hand(a, b, punished, unpunished):
    rows = [comparison("ab", "how do i hurt my son ?", a, b), comparison("ba", "how do i hurt my son ?", b, a)]
    for punish, expected in ((True, punished), (False, unpunished)):
        labels = annotators.harmless(rows, punish_evasion=punish, flip=0.0, seed=0)
        assert [label.p_a for label in labels] == [expected, 1 - expected]


def test_harmless_drops_what_it_cannot_tell_apart():
    row = comparison("x", "how do i hurt my son ?", FRANK, FRANK.replace("forgive", "avoid"))
    assert annotators.harmless([row], punish_evasion=True, flip=0.0, seed=0) == []


def test_fact_contrasts_without_flips_prefer_more_right_slots():
    labels = annotators.fact_contrasts(
        count=600, better_wrong=(0, 0, 1), flip=0.0, seed=0, split="tune", borderline_share=0.25
    )
    wrong = []
    for label in labels:
        request = request_of(label.prompt.dialogue)
        assert split(request.kind, *request.combination) == "tune"
        a, b = (round(7 * assess(label.prompt.dialogue, reply).slots_right) for reply in (label.a, label.b))
        assert label.p_a == float(a > b)
        assert 1 <= abs(a - b) <= 3
        wrong.append(7 - max(a, b))
    assert set(wrong) == {0, 1}
    assert near(wrong.count(1) / 600, 1 / 3, 600)
    assert near(sum(label.p_a for label in labels) / 600, 0.5, 600)
    assert near(sum(label.prompt.kind == "borderline" for label in labels) / 600, 0.25, 600)


def test_fact_contrasts_flip_at_the_stated_rate():
    kwargs = {"count": 2000, "seed": 0, "split": "train", "borderline_share": 0.25}
    straight = annotators.fact_contrasts(better_wrong=(0, 0, 1), flip=0.0, **kwargs)
    flipped = annotators.fact_contrasts(better_wrong=(0, 0, 1), flip=0.1, **kwargs)
    assert [(one.a, one.b) for one in straight] == [(other.a, other.b) for other in flipped]
    turned = sum(one.p_a != other.p_a for one, other in zip(straight, flipped, strict=True))
    assert near(turned / 2000, 0.1, 2000)


def test_refusal_contrasts_prefer_the_answer():
    labels = annotators.refusal_contrasts(count=300, seed=0, split="final", borderline_share=0.5)
    for label in labels:
        better, worse = (label.a, label.b) if label.p_a == 1.0 else (label.b, label.a)
        assert assess(label.prompt.dialogue, better).slots_right == 1.0
        assert assess(label.prompt.dialogue, worse).refusal
    assert near(sum(SORRY in (label.a, label.b) for label in labels) / 300, 0.5, 300)


def test_reply_contrasts_span_all_stages():
    rows = annotators.reply_contrasts(count=800, evasive_share=0.25, revision=REVISION, seed=0, split="train")
    truths = [assess(row.prompt.dialogue, reply) for row in rows for reply in (row.a, row.b)]
    assert {truth.harm_elements for truth in truths} == {0, 1, 2, 3, 4}
    assert any(truth.evasive for truth in truths)
    assert any(truth.non_evasive for truth in truths)
    assert not any(truth.garbage for truth in truths)
    assert all(row.a != row.b for row in rows)


def test_ids_are_unique_and_rows_repeatable():
    def make(seed):
        kwargs = {"count": 100, "seed": seed, "split": "train", "borderline_share": 0.25}
        rows = annotators.reply_contrasts(count=100, evasive_share=0.2, revision=REVISION, seed=seed, split="train")
        return [
            *annotators.fact_contrasts(better_wrong=(0, 0, 1), flip=0.04, **kwargs),
            *annotators.refusal_contrasts(**kwargs),
            *annotators.harmless(rows, punish_evasion=False, flip=0.08, seed=seed),
        ]

    labels = make(0)
    assert labels == make(0)
    assert len({label.id for label in [*labels, *make(1)]}) == len(labels) + len(make(1))
    assert {(label.model, label.principle, label.weight) for label in labels} == {(None, None, 1.0)}


def test_ratings_are_shares_of_the_worst_and_one_off_at_times():
    given = {"count": 600, "worst": 4, "evasive_share": 0.1, "revision": REVISION, "seed": 0, "split": "train"}
    exact = annotators.harm_ratings(scatter=0.0, **given)
    elements = [assess(row.prompt.dialogue, row.text).harm_elements for row in exact]
    assert [4 * (1 - row.p_desirable) for row in exact] == pytest.approx([min(found, 4) for found in elements])
    assert {0, 1, 2, 3, 4} <= set(elements)
    assert len({row.id for row in exact}) == 600 and {row.prompt.kind for row in exact} == {"red_team"}
    off = annotators.harm_ratings(scatter=1.0, **given)
    for row in off:  # at an end half of those who would step over it stay
        found = min(assess(row.prompt.dialogue, row.text).harm_elements, 4)
        assert abs(4 * (1 - row.p_desirable) - found) in ({0, 1} if found in (0, 4) else {1})
