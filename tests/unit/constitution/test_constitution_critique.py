from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from cai_lightning.constitution.cleaning import Cleaning
from cai_lightning.constitution.cleaning import cleaning as rules
from cai_lightning.constitution.critique import revise
from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.constitution.styles import Style, system, text, turns
from cai_lightning.text.backends import Completion, Request, Sampling
from cai_lightning.text.dialogue import Message, human
from cai_lightning.text.records import Prompt, Response, Revision

PRINCIPLE = Principle("kind", "What is unkind?", "Be kind.", None)
NO_RULES = Cleaning((), ())
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
        return [Completion(self.answer(request), len(str(request.prompt)), 3, "stop") for request in requests]


def constitution(*principles: Principle) -> Constitution:
    return Constitution("test", principles or (PRINCIPLE,), (FEW_SHOT,), (), "")


def response(id: str, question: str, reply: str) -> Response:
    prompt = Prompt(id=f"p-{id}", dialogue=human(question), source="s", kind="red_team", cluster=id)
    return Response(
        id=id, prompt=prompt, text=reply, model="m", temperature=1.0, seed=0, prompt_tokens=1, tokens=1, finish="stop"
    )


def run(
    generator: Script,
    rows: Sequence[Response],
    *,
    rounds: int,
    critique: bool = True,
    style: Style = text,
    cleaning: Cleaning = NO_RULES,
) -> list[Revision]:
    return revise(
        generator,
        rows,
        constitution(),
        style=style,
        cleaning=cleaning,
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
    asked = [(request.row, request.prompt) for requests, _ in script.calls for request in requests]
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
    assert [request.prompt for requests, _ in script.calls for request in requests] == [
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
    assert (row.prompt_tokens, row.tokens, row.finish) == (len(str(script.calls[1][0][0].prompt)), 3, "stop")


@pytest.mark.parametrize("written", ["", " ", "\n\n", " No revision needed.", " No changes are necessary"])
def test_a_revision_that_says_nothing_keeps_the_text(written: str) -> None:
    script = Script(lambda request: written if "/revision/" in request.row else " fine")
    rows = run(script, [response("x", "q", "the reply")], rounds=2)
    assert [row.text for row in rows] == ["the reply", "the reply"]
    assert [(row.raw, row.cleaned) for row in rows] == [(written.strip(), ("revision/kept",))] * 2


@pytest.mark.parametrize("written", ["No.", "!", "No changes will help you, call a doctor.", "🙂"])
def test_a_short_revision_is_a_revision(written: str) -> None:
    script = Script(lambda request: f" {written}" if "/revision/" in request.row else " fine")
    assert run(script, [response("x", "q", "a")], rounds=1)[0].text == written


def test_odd_critiques_pass_through_braces_and_invented_tags_included() -> None:
    odd = "{0} \n\nRevisionNone: the reply needs none"
    script = Script(lambda request: f" {odd}\n\n\n" if "/critique/" in request.row else " ok")
    (row,) = run(script, [response("x", "q", "a")], rounds=1)
    assert row.critique == odd
    assert str(script.calls[1][0][0].prompt).endswith(f"Critique: {odd}\n\nRevisionRequest: Be kind.\n\nRevision:")


def test_an_empty_critique_leaves_no_space_behind() -> None:
    script = Script(lambda request: "" if "/critique/" in request.row else " ok")
    (row,) = run(script, [response("x", "q", "a")], rounds=1)
    assert row.critique == ""
    assert "\n\nCritique:\n\nRevisionRequest:" in str(script.calls[1][0][0].prompt)


def test_a_row_s_chain_does_not_depend_on_its_company() -> None:
    principles = [Principle(f"p{i}", f"c{i}", f"r{i}", None) for i in range(6)]
    rows = [response(f"row{i}", f"q{i}", f"a{i}") for i in range(8)]

    def chains(rows: Sequence[Response], replacement: bool) -> dict[str, Revision]:
        done = revise(
            Script(lambda request: f" {request.row}"),
            rows,
            constitution(*principles),
            style=text,
            cleaning=NO_RULES,
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


SHOT = (
    "\n\nHuman: e\n\nAssistant: f\n\nCritiqueRequest: rude?\n\nCritique: yes"
    "\n\nRevisionRequest: be kind\n\nRevision: Sorry!"
)


def chat(style: Style, *, critique: bool) -> list[list[tuple[str, str]]]:
    """The turns of every request of one round over one row, with one whole example."""
    script = Script(by_step)
    revise(
        script,
        [response("x", "q", "a")],
        Constitution("test", (PRINCIPLE,), (SHOT,), (), ""),
        style=style,
        cleaning=NO_RULES,
        rounds=1,
        critique=critique,
        replacement=True,
        seed=5,
        critique_sampling=CRITIQUE,
        revision_sampling=REVISION,
        model="m",
    )
    prompts = [request.prompt for requests, _ in script.calls for request in requests]
    return [[(turn.role, turn.content) for turn in prompt if isinstance(turn, Message)] for prompt in prompts]


def test_in_a_chat_examples_requests_and_answers_are_turns() -> None:
    example = [("human", "e"), ("assistant", "f"), ("human", "rude?"), ("assistant", "yes")]
    example += [("human", "be kind"), ("assistant", "Sorry!")]
    asked = [("human", "q"), ("assistant", "a"), ("human", "What is unkind?")]
    assert chat(partial(turns, system=None), critique=True) == [
        example + asked,
        [*example, *asked, ("assistant", "c1"), ("human", "Be kind.")],
    ]
    assert chat(partial(turns, system="You revise."), critique=False) == [
        [("system", "You revise."), ("human", "q"), ("assistant", "a"), ("human", "Be kind.")]
    ]


def test_examples_may_stand_as_text_in_the_system_message() -> None:
    style = partial(system, heading="Examples:", system="You revise.")
    asked = [("human", "q"), ("assistant", "a"), ("human", "What is unkind?")]
    first, second = chat(style, critique=True)
    assert first == [("system", "You revise.\n\nExamples:\n\n" + SHOT.strip()), *asked]
    assert second[1:] == [*asked, ("assistant", "c1"), ("human", "Be kind.")]
    # without examples there is no heading, and without words no system message
    assert chat(partial(system, heading="Examples:", system=None), critique=False) == [
        [("human", "q"), ("assistant", "a"), ("human", "Be kind.")]
    ]


def test_what_goes_on_is_cleaned_and_what_was_written_is_kept() -> None:
    label = {"name": "label", "pattern": r"\AOh:\s*", "replacement": ""}
    shout = {"name": "shout", "pattern": r"!+\Z", "replacement": ""}
    script = Script(lambda request: f"Oh: {by_step(request).strip()}!!")
    rows = run(script, [response("x", "q", "a")], rounds=2, cleaning=rules(critique=[label], revision=[label, shout]))
    assert [(row.critique, row.critique_raw) for row in rows] == [("c1!!", "Oh: c1!!"), ("c2!!", "Oh: c2!!")]
    assert [(row.text, row.raw) for row in rows] == [("r1", "Oh: r1!!"), ("r2", "Oh: r2!!")]
    assert rows[0].cleaned == ("critique/label", "revision/label", "revision/shout")
    assert "\n\nCritique: c1!!\n\nRevisionRequest:" in str(script.calls[1][0][0].prompt)
    assert "\n\nAssistant: r1\n\n" in str(script.calls[2][0][0].prompt)


def test_without_rules_nothing_is_kept_beside_the_reply() -> None:
    (row,) = run(Script(by_step), [response("x", "q", "a")], rounds=1)
    assert (row.raw, row.critique_raw, row.cleaned) == (None, None, ())
