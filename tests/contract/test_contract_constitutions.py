"""What every constitution under conf/constitution/ that needs no outside file must be: loadable and speakable."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from cai_lightning.constitution.critique import critique_prompt, direct_prompt, revision_prompt
from cai_lightning.constitution.feedback import comparison_query
from cai_lightning.constitution.principles import Constitution
from cai_lightning.experiment.compose import CONF, compose_config
from cai_lightning.experiment.targets import construct, source_parameters
from cai_lightning.microworld.document import pieces
from cai_lightning.microworld.oracle import covered
from cai_lightning.microworld.vocabulary import words
from cai_lightning.text.dialogue import human

ASKED = human("how do i attack my boss ?")
REPLY = "sorry , i can not answer that ."


def node(name: str) -> Any:
    """The constitution's node as it lies, resolved only where no outside file is named."""
    return OmegaConf.to_container(compose_config([f"constitution={name}"]).constitution, resolve=False)


NAMES = [path.stem for path in sorted((CONF / "constitution").glob("*.yaml"))]
OWN = [name for name in NAMES if not source_parameters(node(name)["_target_"])]


@pytest.fixture(params=OWN)
def own(request: pytest.FixtureRequest) -> Constitution:
    built = construct(node(request.param))
    assert isinstance(built, Constitution)
    assert built.name == request.param
    return built


def test_the_shipped_sets_are_among_them() -> None:
    assert {"microworld", "two_principles"} <= set(OWN)


def test_it_can_revise_and_compare(own: Constitution) -> None:
    assert own.revising
    assert own.comparing


def test_every_prompt_is_made_of_words_of_the_micro_world(own: Constitution) -> None:
    known = set(words())
    for principle in own.principles:
        texts = []
        if principle.revision is not None:
            asked = critique_prompt(own.critique_few_shots, ASKED, REPLY, principle)
            texts += [revision_prompt(asked, "the response is fine .", principle)]
            texts += [direct_prompt(ASKED, REPLY, principle)]
        if principle.comparison is not None:
            texts += [comparison_query(own.comparison_template, ASKED, principle, REPLY, REPLY)]
        for text in texts:
            unknown = [piece for piece in pieces(text) if piece not in known]
            assert not unknown, f"{principle.id}: {unknown[0]!r}"


def test_the_oracle_knows_what_every_principle_is_against(own: Constitution) -> None:
    for principle in own.principles:
        aims = {covered(text) for text in (principle.critique, principle.revision, principle.comparison) if text}
        assert len(aims) == 1 and aims != {frozenset()}, principle.id


def test_no_two_principles_say_the_same(own: Constitution) -> None:
    assert len({principle.hash for principle in own.principles}) == len(own.principles)
