from __future__ import annotations

import re
from typing import Any

from cai_lightning.report.public import Shown, nested, public

ATTACK = "<i>x</i>"


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "n": 40}


def asked(**other: Any) -> dict[str, Any]:
    given = {"accuracy": 0.471, "low": 0.402, "high": 0.537, "n": 1233, "clusters": 9, "first_order_accuracy": 0.506}
    guesses: dict[str, Any] = {
        "position_bias": -0.07,
        "always_first": 0.498,
        "majority": None,
        "classes": {},
        "dropped": 19,
    }
    return given | guesses | {"shots": 6} | other


def replies() -> dict[str, Any]:
    shares = ("short", "boilerplate", "refusal", "short_canned", "repeated")
    known = {share: figure(0.125 * k, 0.01, 0.99) for k, share in enumerate(shares, start=1)}
    more = {"n": 221, "explained": figure(None), "mean_words": 47.26, "duplicate_share": 0.0724, "distinct_ratio": 0.7}
    return known | more


def chain() -> dict[str, Any]:
    return {"n": 13, "similarity": [0.43, 0.56], "unchanged": [0, 1], "mean_chars": [406.2, 346.0, 1333.0]}


def loss(bits: float, change: float | None) -> dict[str, Any]:
    given = {"documents": 24, "tokens": 4744, "bytes": 16038, "nats_per_token": figure(7.6, 7.5, 7.7)}
    bits_per_byte = figure(bits, bits - 0.5, bits + 0.5)
    other = None if change is None else {"bits_per_byte": figure(change, change - 0.0001, change + 0.0001)}
    return given | {"nats_per_byte": figure(2.0), "bits_per_byte": bits_per_byte, "difference": other}


def text(**tables: Shown) -> str:
    """What a reader sees, each tag a space."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", public(tables)))


def test_choices_stand_beside_what_is_right_without_reading() -> None:
    classes = {"theft": {"accuracy": 0.25, "n": 4}}
    nine = asked(majority=0.188, classes=classes)
    shown = text(one=Shown("evals", {"file": asked()}), with_thoughts=Shown("evals", {"file": asked(), "nine": nine}))
    assert "47.1 40.2 … 53.7 49.8 – 50.6 \u22120.07 1,233 19 6" in shown
    assert "49.8 18.8" in shown and "theft 25.0 4" in shown
    assert "file One" in shown and "file With thoughts" in shown
    assert "One" not in text(one=Shown("evals", {"file": asked()}))  # nothing to tell apart


def test_reward_model_words_and_lengths_share_a_table_with_the_paired_difference() -> None:
    learned = {"accuracy_harmless": figure(0.72, 0.7, 0.75), "difference_harmless": figure(0.0312, -0.0104, 0.0731)}
    side = {"accuracy_harmless": figure(0.69, 0.6, 0.8), "accuracy_helpful": figure(0.5, None, None)}
    model = {"l2": 30.0, "features": 1813, "better": {"please": 0.25, ATTACK: 0.2}, "worse": {"no": -0.5}}
    baseline = {"bag_of_words": side, "shorter": {"accuracy_harmless": figure(0.553, 0.4, 0.7)}, "model": model}
    shown = text(reward_model=Shown("reward_model", learned), words=Shown("baseline", baseline))
    assert "Harmless, % Helpful, %" in shown
    assert "Reward model 72.0 70.0 … 75.0 –" in shown
    assert "Bag of words 69.0 60.0 … 80.0 50.0 no interval" in shown
    assert "The shorter reply 55.3" in shown
    assert "Reward model minus bag of words +3.1 \u22121.0 … +7.3" in shown
    assert "one reward of the runs" not in shown  # one run has no ensemble
    assert "of 1,813 (L2 30)" in shown and "please (+0.25) no (-0.50)" in shown
    assert ATTACK not in public({"words": Shown("baseline", baseline)})
    both = text(one=Shown("baseline", baseline), two=Shown("baseline", baseline))
    assert "Bag of words (One)" in both and "Bag of words (Two)" in both


def test_replies_of_this_run_stand_beside_released_ones() -> None:
    table = {
        "rules": {"short": 20, "boilerplate": "x", "refusal": "x", "reason": "x", "gram": 3},
        "samples": {"LAMDA_RLMADISON": replies(), "unheard_of": replies()},
        "answers": {"ppo": replies(), "ppo@16": replies()},
        "traces": {"LAMDA_SLMADISON": chain()},
        "revisions": {"ours": chain()},
    }
    shown = text(surface=Shown("surface", table))
    figures = "47.3 12.5 1.0 … 99.0 25.0 1.0 … 99.0 37.5 1.0 … 99.0 62.5 1.0 … 99.0 7.2 70.0 221"
    assert f"RL-CAI (PPO) this run {figures} RL-CAI (PPO) @16 this run {figures}" in shown
    assert f"LAMDA_RLMADISON RL-CAI, LAMDA prompts {figures} unheard_of released {figures}" in shown
    assert "Under 20 words" in shown and "Distinct 3-grams" in shown
    assert "Ours this run 0.43 → 0.56 0 → 1 406 → 346 → 1,333 13" in shown


def test_plain_text_has_decimals_enough_for_its_differences() -> None:
    table = {"helpful_only": loss(3.25, None), "sl_cai": loss(3.2501, 0.0001), "ppo [a]": loss(3.2502, 0.0002)}
    shown = text(plain_text=Shown("plain_text", table))
    assert "Minus Helpful only" in shown
    assert "Helpful only 3.2500 2.7500 … 3.7500 – 7.6000" in shown
    assert "SL-CAI 3.2501 2.7501 … 3.7501 +0.000100 +0.000000 … +0.000200" in shown
    assert "RL-CAI (PPO) [a]" in shown


def test_any_other_table_is_shown_as_it_is() -> None:
    odd = {"a": {"b": [1, 2.5, None], "c": figure(0.5, 0.25, 0.75)}, "d": [{"e": ATTACK}], "f": figure(1.0), "g": []}
    shown = text(some_name=Shown("something", odd))
    assert shown.startswith(" Some name ")
    assert "b 1, 2.5, – c 0.5 (0.25 … 0.75), n = 40" in shown and "f 1, n = 40" in shown
    assert "d 1 e &lt;i&gt;x" in shown
    assert nested({}) == ""


def test_nothing_to_show() -> None:
    assert public({}) == ""


def probe(value: float | None, honest: tuple[float, float] | None, fails: bool | None) -> dict[str, Any]:
    bounds = (None, None) if value is None else (value - 0.01, value + 0.01)
    return {**figure(value, *bounds), "honest": honest, "fails": fails}


def test_probes_stand_beside_what_an_honest_judge_shows() -> None:
    both = {"copy": probe(0.5, (1, 1), True), "null": probe(0.25, None, None)}
    table = {
        "harmless": {
            "probes": both | {"injected_letter": probe(0.4, (0, 0.5), False)},
            "bias": -0.5,
            "failed": ["copy"],
        },
        "helpful": {"probes": both | {"one_order": probe(None, None, None)}, "bias": None, "failed": ["copy"]},
    }
    shown = text(probes=Shown("probes", table))
    assert "Probe Honest Harmless Helpful" in shown
    assert "Empty words beat the reply – 25.0 24.0 … 26.0 25.0 24.0 … 26.0" in shown
    assert "A copy ties with the reply 100 50.0 49.0 … 51.0 fails 50.0 49.0 … 51.0 fails" in shown
    assert "A copy that instructs the judge (letter) beats the reply at most 50 40.0 39.0 … 41.0 –" in shown
    assert "Either order alone says the same – – –" in shown
    assert "Worth of the first place, nats 0 \u22120.50 –" in shown
    assert shown.index("Empty words") < shown.index("A copy ties") < shown.index("instructs the judge")


def test_wins_at_equal_length_stand_beside_those_as_they_are() -> None:
    one = {"raw": figure(0.7, 0.6, 0.8), "controlled": figure(0.5, 0.4, 0.6), "difference": figure(-0.2, -0.3, -0.1)}
    none = {"raw": figure(1.0, 0.9, 1.0), "controlled": figure(None), "difference": figure(None), "why": "all wins"}
    rest = {"words": 3.25, "sd": 2.0, "slope": figure(1.0), "beyond": True, "why": None}
    table = {"anchor": "helpful_only", "players": {"ppo": {"harmless": rest | one}, "dpo": {"helpful": rest | none}}}
    shown = text(length=Shown("length", table))
    wins = "70.0 60.0 … 80.0 50.0 40.0 … 60.0 beyond the data \u221220.0 \u221230.0 … \u221210.0 +3.2"
    assert f"RL-CAI (PPO), harmless {wins}" in shown
    assert "DPO-CAI, helpful 100.0 90.0 … 100.0 all wins – +3.2" in shown
    assert "Against Helpful only" in shown


def test_labels_are_shown_as_one_reliability_diagram_a_table() -> None:
    known = {
        "n": 2,
        "accuracy": 0.5,
        "ece": 0.3,
        "brier": 0.29,
        "bins": [{"p": 0.8, "share": 0.5, "low": 0.1, "high": 0.9, "n": 2}],
    }
    none = {"n": 0, "accuracy": None, "ece": None, "brier": None, "bins": []}
    page = public(
        {"<soft>": Shown("feedback", known), "hard": Shown("feedback", known), "few": Shown("feedback", none)}
    )
    assert page.count("<svg") == 2 and page.count("Reliability of labels") == 1
    assert "&lt;soft&gt;" in page and "<soft>" not in page and "few" not in page
