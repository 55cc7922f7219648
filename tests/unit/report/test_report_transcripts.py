from __future__ import annotations

from cai_lightning.report.transcripts import choose
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Answer, Prompt, Revision

SAMPLER = {"model": "m", "temperature": 1.0, "prompt_tokens": 3, "tokens": 4, "finish": "stop"}


def prompt(name: str, kind: str = "red_team") -> Prompt:
    return Prompt(id=name, dialogue=human(f"Ask {name}"), source="s", kind=kind, cluster=name)


def revision(name: str, round: int, previous: str, text: str, *, seed: int = 0, critique: str | None = "c") -> Revision:
    return Revision(
        id=f"{name}{round}{seed}{text}",
        prompt=prompt(name),
        round=round,
        previous=previous,
        critique=critique,
        text=text,
        principle=f"principle {round}",
        principle_hash="h",
        seed=seed,
        **SAMPLER,  # type: ignore[arg-type]
    )


def answer(name: str, player: str, kind: str = "red_team") -> Answer:
    text = f"{player} says"
    return Answer(
        id=name + player,
        player=player,
        sequences=None,
        prompt=prompt(name, kind),
        text=text,
        seed=0,
        **SAMPLER,  # type: ignore[arg-type]
    )


def test_a_chain_follows_its_own_rounds() -> None:
    rows = [
        revision("p", 2, "r1", "r2"),
        revision("p", 1, "reply", "r1"),
        revision("p", 1, "reply", "other", seed=1),
        revision("p", 2, "other", "elsewhere", seed=1, critique=None),
    ]
    (talk,) = choose(rows, [answer("p", "ppo"), answer("p", "ppo@64"), answer("p", "sl_cai")], count=30)
    assert talk["prompt"] == [{"role": "human", "content": "Ask p"}]
    assert talk["reply"] == "reply"
    assert talk["rounds"] == [
        {"round": 1, "principle": "principle 1", "critique": "c", "revision": "r1"},
        {"round": 2, "principle": "principle 2", "critique": "c", "revision": "r2"},
    ]
    assert talk["answers"] == [{"player": "ppo", "text": "ppo says"}, {"player": "sl_cai", "text": "sl_cai says"}]


def test_thirty_are_chosen_whatever_the_order_of_rows() -> None:
    revisions = [revision(f"r{k}", 1, "reply", "revised") for k in range(100)]
    answers = [answer(f"a{k}", "ppo", ("benign", "red_team", "borderline")[k % 3]) for k in range(100)]
    chosen = choose(revisions, answers, count=30)
    assert chosen == choose(revisions[::-1], answers[::-1], count=30)
    assert len(chosen) == 30
    assert sum(bool(talk["rounds"]) for talk in chosen) == 15
    assert {
        kind: sum(talk["kind"] == kind and not talk["rounds"] for talk in chosen) for kind in ("benign", "red_team")
    } == {
        "benign": 5,
        "red_team": 5,
    }


def test_prompts_with_chain_and_answers_come_first() -> None:
    revisions = [revision(f"p{k}", 1, "reply", "revised") for k in range(5)]
    chosen = choose(revisions, [answer("p3", "ppo"), answer("q", "ppo")], count=2)
    assert chosen[0]["id"] == "p3"


def test_nothing_to_show() -> None:
    assert choose([], [], count=30) == []
