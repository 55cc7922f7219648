from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from cai_lightning.constitution.critique import revise
from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.text.backends import Completion, Request, Sampling
from cai_lightning.text.dialogue import human
from cai_lightning.text.records import Prompt, Response, Revision

PRINCIPLE = Principle("kind", "What is unkind?", "Be kind.", None)
FEW_SHOT = "\n\nHuman: e\n\nAssistant: f"
CRITIQUE = Sampling(temperature=1.0, max_new_tokens=9, stop=("!!",), seed=99)
REVISION = Sampling(temperature=0.5, max_new_tokens=7, stop=(), seed=99)


class Script:
    """A generator that answers by a rule and remembers what it was asked."""

    def __init__(self, answer: Callable[[Request], str]) -> None:
        self.answer = answer
        self.calls: list[tuple[list[Request], Sampling]] = []

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        self.calls.append((list(requests), sampling))
        return [Completion(self.answer(request), len(request.text), 3, "stop") for request in requests]


def constitution(*principles: Principle) -> Constitution:
    return Constitution("test", principles or (PRINCIPLE,), (FEW_SHOT,), (), "")


def response(id: str, question: str, reply: str) -> Response:
    prompt = Prompt(id=f"p-{id}", dialogue=human(question), source="s", kind="red_team", cluster=id)
    return Response(
        id=id, prompt=prompt, text=reply, model="m", temperature=1.0, seed=0, prompt_tokens=1, tokens=1, finish="stop"
    )


def run(generator: Script, rows: Sequence[Response], *, rounds: int, critique: bool = True) -> list[Revision]:
    return revise(
        generator,
        rows,
        constitution(),
        rounds=rounds,
        critique=critique,
        replacement=True,
        seed=5,
        critique_sampling=CRITIQUE,
        revision_sampling=REVISION,
        model="reviser",
    )


def by_step(request: Request) -> str:
    _, step, round = request.row.split("/")
    return f" {step[0]}{round} "


def test_the_exact_texts_of_two_rounds() -> None:
    script = Script(by_step)
    run(script, [response("x", "q", "a")], rounds=2)
    asked = [(request.row, request.text) for requests, _ in script.calls for request in requests]
    head = "\n\nHuman: e\n\nAssistant: f\n\nHuman: q\n\nAssistant: "
    critique = "\n\nCritiqueRequest: What is unkind?\n\nCritique:"
    revision = "\n\nRevisionRequest: Be kind.\n\nRevision:"
    # the second round starts from the clean dialogue: no critique of the first in it
    assert asked == [
        ("x/critique/1", head + "a" + critique),
        ("x/revision/1", head + "a" + critique + " c1" + revision),
        ("x/critique/2", head + "r1" + critique),
        ("x/revision/2", head + "r1" + critique + " c2" + revision),
    ]


def test_direct_revision_shows_neither_examples_nor_critique() -> None:
    script = Script(by_step)
    rows = run(script, [response("x", "q", "a")], rounds=2, critique=False)
    assert [request.text for requests, _ in script.calls for request in requests] == [
        "\n\nHuman: q\n\nAssistant: a\n\nRevisionRequest: Be kind.\n\nRevision:",
        "\n\nHuman: q\n\nAssistant: r1\n\nRevisionRequest: Be kind.\n\nRevision:",
    ]
    assert [row.critique for row in rows] == [None, None]


def test_stops_of_the_format_are_kept_and_the_seed_is_the_stage_s() -> None:
    script = Script(by_step)
    run(script, [response("x", "q", "a")], rounds=1)
    first, second = (sampling for _, sampling in script.calls)
    assert first == Sampling(1.0, 9, ("\n\nRevisionRequest:", "\n\nHuman:", "!!"), 5)
    assert second == Sampling(0.5, 7, ("\n\nHuman:",), 5)


def test_rows_are_batched_by_round_and_returned_by_chain() -> None:
    script = Script(lambda request: f" {request.row} ")
    rows = run(script, [response("x", "q", "a"), response("y", "p", "b")], rounds=2)
    assert [len(requests) for requests, _ in script.calls] == [2, 2, 2, 2]
    assert [row.id for row in rows] == ["x.r1", "x.r2", "y.r1", "y.r2"]
    assert [row.text for row in rows] == ["x/revision/1", "x/revision/2", "y/revision/1", "y/revision/2"]
    assert [row.previous for row in rows] == ["a", "x/revision/1", "b", "y/revision/1"]
    assert [row.critique for row in rows[:2]] == ["x/critique/1", "x/critique/2"]


def test_provenance_is_that_of_the_revising_call() -> None:
    script = Script(by_step)
    (row,) = run(script, [response("x", "q", "a")], rounds=1)
    assert (row.prompt.id, row.round, row.model, row.temperature, row.seed) == ("p-x", 1, "reviser", 0.5, 5)
    assert (row.principle, row.principle_hash) == ("kind", PRINCIPLE.hash)
    assert (row.prompt_tokens, row.tokens, row.finish) == (len(script.calls[1][0][0].text), 3, "stop")


@pytest.mark.parametrize("written", ["", " ", "\n\n", " No revision needed.", " No changes are necessary"])
def test_a_revision_that_says_nothing_keeps_the_text(written: str) -> None:
    script = Script(lambda request: written if "/revision/" in request.row else " fine")
    rows = run(script, [response("x", "q", "the reply")], rounds=2)
    assert [row.text for row in rows] == ["the reply", "the reply"]


@pytest.mark.parametrize("written", ["No.", "!", "No changes will help you, call a doctor.", "🙂"])
def test_a_short_revision_is_a_revision(written: str) -> None:
    script = Script(lambda request: f" {written}" if "/revision/" in request.row else " fine")
    assert run(script, [response("x", "q", "a")], rounds=1)[0].text == written


def test_odd_critiques_pass_through_braces_and_invented_tags_included() -> None:
    odd = "{0} \n\nRevisionNone: the reply needs none"
    script = Script(lambda request: f" {odd}\n\n\n" if "/critique/" in request.row else " ok")
    (row,) = run(script, [response("x", "q", "a")], rounds=1)
    assert row.critique == odd
    assert script.calls[1][0][0].text.endswith(f"Critique: {odd}\n\nRevisionRequest: Be kind.\n\nRevision:")


def test_an_empty_critique_leaves_no_space_behind() -> None:
    script = Script(lambda request: "" if "/critique/" in request.row else " ok")
    (row,) = run(script, [response("x", "q", "a")], rounds=1)
    assert row.critique == ""
    assert "\n\nCritique:\n\nRevisionRequest:" in script.calls[1][0][0].text


def test_a_row_s_chain_does_not_depend_on_its_company() -> None:
    principles = [Principle(f"p{i}", f"c{i}", f"r{i}", None) for i in range(6)]
    rows = [response(f"row{i}", f"q{i}", f"a{i}") for i in range(8)]

    def chains(rows: Sequence[Response], replacement: bool) -> dict[str, Revision]:
        done = revise(
            Script(lambda request: f" {request.row}"),
            rows,
            constitution(*principles),
            rounds=3,
            critique=True,
            replacement=replacement,
            seed=1,
            critique_sampling=CRITIQUE,
            revision_sampling=REVISION,
            model="m",
        )
        return {row.id: row for row in done}

    for replacement in (True, False):
        whole = chains(rows, replacement)
        assert chains(rows[::-1], replacement) == whole
        assert {**chains(rows[:3], replacement), **chains(rows[3:], replacement)} == whole
    assert all(len({whole[f"row{i}.r{n}"].principle for n in (1, 2, 3)}) == 3 for i in range(8))


def test_two_rows_of_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="two rows share an id"):
        run(Script(by_step), [response("x", "q", "a"), response("x", "p", "b")], rounds=1)


def test_no_rounds_and_no_rows_give_nothing() -> None:
    assert run(Script(by_step), [response("x", "q", "a")], rounds=0) == []
    assert run(Script(by_step), [], rounds=2) == []
