"""A critique and revision of one reply, as in the run that made a model: its principles, its reviser, its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from cai_lightning.commands.origins import constitution, made, nearest
from cai_lightning.commands.players import found
from cai_lightning.commands.workspace import Result, Workspace
from cai_lightning.constitution.cleaning import Cleaning
from cai_lightning.constitution.critique import CRITIQUE_STOP, REVISION_STOP, revise
from cai_lightning.constitution.principles import Constitution, Principle
from cai_lightning.constitution.styles import Style, text
from cai_lightning.text.backends import Generator, Sampling
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Prompt, Response, Revision, prompt_id


class Critic(NamedTuple):
    """The settings of a revising stage with its principles; `reviser` is the model that revised, if there was one."""

    constitution: Constitution
    settings: Mapping[str, Any]
    style: Style
    cleaning: Cleaning
    reviser: Result | None

    def revision(self, generator: Generator, dialogue: Dialogue, reply: str, *, row: str) -> tuple[Principle, Revision]:
        """The principle drawn for `row`, and one round under it."""
        name = prompt_id(dialogue)
        prompt = Prompt(id=name, dialogue=dialogue, source="chat", kind="chat", cluster=name)
        settings = self.settings
        response = Response(
            id=row,
            prompt=prompt,
            text=reply,
            model="",
            temperature=0.0,
            seed=0,
            prompt_tokens=0,
            tokens=0,
            finish="stop",
        )
        (revised,) = revise(
            generator,
            [response],
            self.constitution,
            style=self.style,
            cleaning=self.cleaning,
            rounds=1,
            critique=settings["critique"],
            replacement=settings["replacement"],
            seed=settings["seed"],
            critique_sampling=Sampling(
                settings["temperature"], settings["critique_tokens"], CRITIQUE_STOP, settings["seed"]
            ),
            revision_sampling=Sampling(
                settings["temperature"], settings["revision_tokens"], REVISION_STOP, settings["seed"]
            ),
            model="",
        )
        principle = next(one for one in self.constitution.principles if one.id == revised.principle)
        return principle, revised


def critic(result: Result, workspace: Workspace, *, wanted: str | None, style: str | None) -> Critic:
    """The critic of the run that made a result, or with `wanted`, a revising stage's key or a constitution's name.

    `style` names another way to ask, an option of the config group. Raises ValueError where the lineage revised
    nothing and nothing else is wanted.
    """
    stage = nearest(result, "revise")
    by_name = wanted in workspace.options("constitution") if wanted else False
    if wanted and not by_name:
        stage = nearest(found(workspace, wanted), "revise")
    if stage is None and not by_name:
        raise ValueError(
            f"{wanted or result.name}: nothing was revised on the way to it, so it has no constitution; give one with "
            "--constitution (its name, or the key of a revising stage)"
        )
    settings = stage.manifest["recipe"] if stage else workspace.value("stages.revisions")
    principles = workspace.option("constitution", str(wanted)).build() if by_name else None
    if principles is None:
        principles = constitution(settings["constitution"], workspace)
    if not isinstance(principles, Constitution):
        raise ValueError(f"{wanted or result.name}: the files of its constitution are not at hand; see --constitution")
    return Critic(
        principles,
        settings,
        workspace.option("style", style).build() if style else _of(settings.get("style"), text),
        _of(settings.get("cleaning"), Cleaning((), ())),
        _reviser(stage),
    )


def _of(node: Any, otherwise: Any) -> Any:
    """What a node of a recipe makes; `otherwise` for recipes from before there was one."""
    return made(node) if node is not None else otherwise


def _reviser(stage: Result | None) -> Result | None:
    if stage is None:
        return None
    key = stage.manifest["recipe"]["reviser"]["stage"]
    return next((above for above in stage.upstream.values() if above.name.endswith(f"/{key}")), None)
