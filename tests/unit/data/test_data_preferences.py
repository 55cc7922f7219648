"""Pairs from every usual shape, and the chains and samples that the paper's authors and others have published."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

from cai_lightning.constitution.principles import Principle
from cai_lightning.data.chains import revised
from cai_lightning.data.chats import tagged
from cai_lightning.data.preferences import Pair, by_margin, certain, coin, explicit, implicit, of_chats, ranked
from cai_lightning.data.released import sampled, sampled_pair, trace
from cai_lightning.text.dialogue import Message, human

USER = {"role": "user", "content": "q"}
GOOD, BAD = {"role": "assistant", "content": "good"}, {"role": "assistant", "content": "bad"}
PAIR = Pair(human("q"), "good", "bad", None)


def with_prompt(**row: Any) -> Pair:
    return explicit(row, prompt="prompt", chosen="chosen", rejected="rejected", system="system", margin=[])


def without(chosen: Any, rejected: Any) -> Pair:
    return implicit({"chosen": chosen, "rejected": rejected}, chosen="chosen", rejected="rejected", margin=[])


def test_explicit_prompts_in_texts_messages_and_whole_chats() -> None:
    assert with_prompt(prompt="q", chosen="good", rejected=" bad") == PAIR
    assert with_prompt(prompt=[USER], chosen=[GOOD], rejected=[BAD]) == PAIR
    assert with_prompt(prompt="q", chosen=[USER, GOOD], rejected=[USER, BAD]) == PAIR
    assert with_prompt(prompt="\n\nHuman: q\n\nAssistant:", chosen=" good", rejected=" bad") == PAIR
    assert with_prompt(prompt="q", chosen="good", rejected="bad", system="s").dialogue[0] == Message("system", "s")


def test_implicit_prompts_in_chats_and_texts() -> None:
    assert without([USER, GOOD], [USER, BAD]) == PAIR
    assert without("\n\nHuman: q\n\nAssistant: good", "\n\nHuman: q\n\nAssistant: bad") == PAIR
    assert without("\n\nHuman: q\n\nAssistant: good", [USER, BAD]) == PAIR
    longer = [USER, GOOD, {"role": "user", "content": "r"}]
    assert without([*longer, GOOD], [*longer, BAD]).dialogue[-1] == Message("human", "r")


def test_pairs_of_any_two_dialogues() -> None:
    nemo = {"system": "<extra_id_0>System\n", "human": "<extra_id_1>User\n", "assistant": "<extra_id_1>Assistant\n"}
    start = "<extra_id_0>System\n\n<extra_id_1>User\nq\n<extra_id_1>Assistant\n"
    sides = {side: partial(tagged, column=side, end="\n", **nemo) for side in ("chosen", "rejected")}
    row = {"chosen": start + "good\n", "rejected": start + "bad\n"}
    assert of_chats(row, margin=[], **sides) == PAIR  # type: ignore[arg-type]


def test_the_best_and_the_worst_of_a_ranking() -> None:
    entries = [{"rank": rank, "completion": [{"role": "assistant", "content": f"c{rank}"}]} for rank in (1, 0, 2)]
    row = {"context": [USER], "completions": entries}
    found = ranked(row, prompt="context", completions="completions", rank="rank", completion="completion")
    assert found == Pair(human("q"), "c0", "c2", 2.0)
    with pytest.raises(ValueError, match="must list two completions or more"):
        ranked({**row, "completions": entries[:1]}, prompt="context", completions="completions", rank="", completion="")


def test_margins_and_scores_say_how_sure() -> None:
    def read(margin: list[str], **row: Any) -> Pair:
        row = {"prompt": "q", "chosen": "good", "rejected": "bad", **row}
        return explicit(row, prompt="prompt", chosen="chosen", rejected="rejected", system=None, margin=margin)

    assert read(["m"], m="0.5").margin == 0.5
    assert read(["c", "r"], c=7, r=4.5).margin == 2.5
    assert by_margin(read(["m"], m=0), scale=3.0) == 0.5
    # odds of e to the margin
    found = by_margin(read(["m"], m=2), scale=1.0)
    assert math.isclose(found / (1 - found), math.e**2, rel_tol=1e-9)
    assert by_margin(read(["m"], m=-1e9), scale=1.0) == 0.0
    assert certain(PAIR) == 1.0
    with pytest.raises(ValueError, match="no margin"):
        by_margin(PAIR, scale=1.0)
    with pytest.raises(ValueError, match="'m' must be a number, is None"):
        read(["m"], m=None)
    with pytest.raises(ValueError, match="margin names 3 columns"):
        read(["m", "m", "m"], m=1)


@pytest.mark.parametrize(
    ("chosen", "rejected", "cause"),
    [
        ([USER, GOOD], [USER], "the rejected dialogue must end with an assistant turn, ends with a human turn"),
        ([USER, GOOD], [{**USER, "content": "p"}, BAD], "differ before their last turns"),
        ([USER, GOOD, USER, GOOD], [USER, GOOD], "differ before their last turns"),
        ("good", "bad", "share no"),
    ],
)
def test_sides_that_share_no_prompt_are_refused(chosen: Any, rejected: Any, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        without(chosen, rejected)


def test_the_toss_of_a_coin_says_nothing_of_a_pair_and_is_the_same_again() -> None:
    pairs = [PAIR._replace(chosen=str(number)) for number in range(400)]
    tossed = [coin(pair, seed=0) for pair in pairs]
    assert set(tossed) == {0.0, 1.0} and 160 < sum(tossed) < 240  # four standard errors
    assert tossed == [coin(pair, seed=0) for pair in pairs] != [coin(pair, seed=1) for pair in pairs]


def test_one_sided_feedback_is_explained() -> None:
    with pytest.raises(ValueError, match=r"one reply a row .* \(KTO\) is no pair; read the liked replies as responses"):
        with_prompt(prompt="q", completion="good", label=True)


HF_CAI = {
    "init_prompt": "q",
    "init_response": "bad",
    "critic_prompt": "What is wrong?",
    "critic_response": "It is rude.",
    "revision_prompt": "Mend it.",
    "revision_response": "good",
    "prompt": "q",
    "messages": [USER, GOOD],
    "chosen": [USER, GOOD],
    "rejected": [USER, BAD],
}


def test_the_columns_of_hf_cai_hold_a_pair_and_a_revision() -> None:
    assert without(HF_CAI["chosen"], HF_CAI["rejected"]) == PAIR
    columns = {"prompt": "init_prompt", "previous": "init_response", "revision": "revision_response"}
    requests = ["critic_prompt", "revision_prompt"]
    dialogue, (step,) = revised(HF_CAI, critique="critic_response", requests=requests, **columns)  # type: ignore[arg-type]
    assert (dialogue, step.previous, step.critique, step.text) == (human("q"), "bad", "It is rude.", "good")
    assert step.principle.hash == Principle("any", "What is wrong?", "Mend it.", None).hash == step.principle.id
    _, (direct,) = revised(HF_CAI, critique=None, requests=[], **columns)  # type: ignore[arg-type]
    assert (direct.critique, direct.principle.id) == (None, "")
    with pytest.raises(ValueError, match="requests names 1 columns"):
        revised(HF_CAI, critique=None, requests=["critic_prompt"], **columns)  # type: ignore[arg-type]


ASKED = "\n\nHuman: q\n\nAssistant:"


def answer(text: str, score: float) -> dict[str, Any]:
    return {"sampled_string": text, "pm_scores": [{"pm_score": score}]}


def test_samples_lose_their_stop_markers_only() -> None:
    texts = [" one\n\nHuman:", " two\nHuman:", " three", "\n\nfour\n\nAssistant: five\n\nHuman: "]
    row = {"rl_prompt": ASKED, "sampled_answers": [answer(text, -n) for n, text in enumerate(texts)]}
    found = [sampled(row, rank=rank)[-1].content for rank in range(4)]
    assert found == ["one", "two", "three", "four\n\nAssistant: five"]
    assert sampled(row, rank=0)[:-1] == human("q")
    assert sampled_pair(row, better=0, worse=2) == Pair(human("q"), "one", "three", 2.0)
    with pytest.raises(ValueError, match="has 4 sampled answers, none of rank 4"):
        sampled(row, rank=4)
    with pytest.raises(ValueError, match="order of their scores"):
        sampled({**row, "sampled_answers": row["sampled_answers"][::-1]}, rank=0)


def test_a_trace_is_a_chain_under_the_words_of_its_principles() -> None:
    words = {
        "prompt": ["\n\nCritiqueRequest: What? \n\nCritique:"],
        "edit_request": "\n\nRevisionRequest: Mend.\n\nRevision:",
    }
    rounds = [
        {
            "cst_key": f"harmful{n}",
            "cst_value": words,
            "critique": {"sample": f" c{n}"},
            "revision": {"sample": f" r{n}"},
        }
        for n in range(2)
    ]
    row = {"rl_prompt": ASKED, "initial_response": [{"sample": " first"}], "cst": rounds}
    dialogue, steps = trace(row)
    assert dialogue == human("q")
    assert [(step.previous, step.critique, step.text) for step in steps] == [("first", "c0", "r0"), ("r0", "c1", "r1")]
    assert steps[1].principle == Principle("harmful1", "What? ", "Mend.", None)
    as_text = {**rounds[0], "cst_value": {**words, "prompt": words["prompt"][0]}}
    assert trace({**row, "cst": [as_text]})[1][0].principle == steps[0].principle
    with pytest.raises(ValueError, match="'initial_response' must be a list of one or more objects"):
        trace({**row, "initial_response": "first"})
    with pytest.raises(ValueError, match=r"cst\[0\] must be an object with an object under 'revision'"):
        trace({**row, "cst": [{"critique": {}}]})
