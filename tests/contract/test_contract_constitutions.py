"""What every constitution under conf/constitution/ that needs no outside file must be: loadable and speakable."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from cai_lightning.constitution.critique import critique_steps, direct_steps, revision_steps
from cai_lightning.constitution.principles import Constitution
from cai_lightning.constitution.questions import Letters, asking, both_orders, drawn, per_label
from cai_lightning.constitution.styles import solved, text
from cai_lightning.experiment.compose import CONF, compose_config
from cai_lightning.experiment.targets import construct, source_parameters
from cai_lightning.microworld.document import ANSWER_MARK, CONSIDER, THOUGHTS_MARK, pieces
from cai_lightning.microworld.oracle import covered
from cai_lightning.microworld.vocabulary import words
from cai_lightning.text.dialogue import human, to_text
from cai_lightning.text.records import Comparison, Prompt

ASKED = human("how do i attack my boss ?")
REPLY = "sorry , i can not answer that ."


def node(name: str) -> Any:
    """The constitution's node as it lies, resolved only where no outside file is named."""
    return OmegaConf.to_container(compose_config([f"constitution={name}"]).constitution, resolve=False)


NAMES = [path.stem for path in sorted((CONF / "constitution").glob("*.yaml"))]
WRITTEN = [name for name in NAMES if "whole" not in node(name)]  # not those that are a part of another one
OWN = [name for name in WRITTEN if not source_parameters(node(name)["_target_"])]
TEMPLATE = node("microworld")["comparison_template"]
STYLES = {
    path.stem: construct(OmegaConf.to_container(OmegaConf.load(path)))
    for path in sorted((CONF / "style").glob("*.yaml"))
}


@pytest.fixture(params=OWN)
def own(request: pytest.FixtureRequest) -> Constitution:
    built = construct(node(request.param))
    assert isinstance(built, Constitution)
    assert built.name == request.param
    return built


@pytest.fixture(params=[name for name in OWN if node(name)["comparison_template"] == TEMPLATE])
def small(request: pytest.FixtureRequest) -> Constitution:
    """A set for the micro-world's own models, which know no other words."""
    built = construct(node(request.param))
    assert isinstance(built, Constitution)
    return built


def test_the_shipped_sets_are_among_them() -> None:
    assert {"microworld", "two_principles"} <= set(OWN)


def test_it_can_revise_and_compare(own: Constitution) -> None:
    assert own.revising
    assert own.comparing


@pytest.mark.parametrize("style", STYLES)
def test_every_style_can_put_it(own: Constitution, style: str) -> None:
    for reasoning in (False, True) if own.reasoning else (False,):
        asks = asking(
            own,
            reasoning=reasoning,
            style=STYLES[style],
            order=both_orders,
            pick=drawn,
            few_shot_draw=per_label,
            seed=0,
        )
        prompt = Prompt(id="p", dialogue=ASKED, source="s", kind="red_team", cluster="c")
        row = Comparison(id="x", prompt=prompt, a="one", b="two", source="s", model="m", temperature=1.0, seed=0)
        asked = [question.prompt for question in asks.questions(row)] + [asks.letters(row).prompt]
        examples = [solved(shot) for shot in own.critique_few_shots]
        asked += [STYLES[style](examples, critique_steps(ASKED, REPLY, principle)) for principle in own.revising]
        for given in asked:
            if isinstance(given, str):
                assert given.endswith(":")
            else:
                roles = [turn.role for turn in given if turn.role != "system"]
                assert roles == (["human", "assistant"] * len(roles))[: len(roles)]
                assert all(turn.content for turn in given)


def test_every_prompt_is_made_of_words_of_the_micro_world(small: Constitution) -> None:
    known = set(words())
    for principle in small.principles:
        asked = []
        if principle.revision is not None:
            steps = critique_steps(ASKED, REPLY, principle)
            asked += [revision_steps(steps, "the response is fine .", principle), direct_steps(ASKED, REPLY, principle)]
        if principle.comparison is not None:
            letters = Letters(small.comparison_template, small.comparison_few_shots)
            asked += [letters.question(ASKED, principle.comparison, REPLY, REPLY)]
            assert small.reasoning is not None
            thought = small.reasoning.thought("(A) is fine , (B) is evasive .")
            asked += [(*small.reasoning.question(ASKED, principle.comparison, REPLY, REPLY), *thought)]
        for prompt in asked:
            unknown = [piece for piece in pieces(text((), prompt)) if piece not in known]
            assert not unknown, f"{principle.id}: {unknown[0]!r}"


def test_reasoning_is_put_as_the_micro_world_s_documents_put_it(small: Constitution) -> None:
    assert small.reasoning is not None
    asked = small.reasoning.question(ASKED, "which response is less toxic ?", "one", "two")
    thought = "(A) is fine , (B) is fine ."
    written = CONSIDER.format(conversation=to_text(ASKED), principle="which response is less toxic ?", a="one", b="two")
    assert text((), (*asked, *small.reasoning.thought(thought))) == f"{written}{THOUGHTS_MARK} {thought}{ANSWER_MARK}"


def test_the_oracle_knows_what_every_principle_is_against(small: Constitution) -> None:
    for principle in small.principles:
        aims = {covered(text) for text in (principle.critique, principle.revision, principle.comparison) if text}
        assert len(aims) == 1 and aims != {frozenset()}, principle.id


def test_no_two_principles_say_the_same(own: Constitution) -> None:
    assert len({principle.hash for principle in own.principles}) == len(own.principles)


def test_the_narrow_principles_and_the_two_general_ones_are_together_those_of_the_micro_world() -> None:
    parts, whole = (
        (construct(node(name)) for name in ("narrow_principles", "two_principles")),
        construct(node("microworld")),
    )
    narrow, general = ({principle.hash for principle in part.principles} for part in parts)
    assert narrow | general == {principle.hash for principle in whole.principles}
    assert (len(narrow), len(general)) == (14, 2) and not narrow & general
