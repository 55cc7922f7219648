"""What a judge and reward models find in each of many replies alone: answers of players, rounds of revision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import Estimate, scored
from cai_lightning.stages.texts import Text, answered, revised
from cai_lightning.text.artifacts import AnswerRows, AssessmentRows, RevisionRows, RewardModel
from cai_lightning.text.records import Assessment

if TYPE_CHECKING:
    from cai_lightning.evaluation.judges import Judge

SCORE = "score_"  # before the name of a reward model, in a metric's


def run(
    out: Path,
    *,
    answers: dict[str, AnswerRows],
    revisions: dict[str, RevisionRows],
    judge: Judge | None,
    reward_models: dict[str, RewardModel],
    chunk: int,
    batch_size: int,
    dtype: str,
    precision: str,
) -> AssessmentRows:
    """Assessment rows: the judge's metrics of every text, and `score_<name>` of every reward model, in its own units.

    Players are the names given here: `name` or `name@sequences` for answers, `name@round` for revisions, where round 0
    is the reply that a chain began with.
    """
    from cai_lightning.stages.session import progress
    from cai_lightning.text.chunks import in_chunks

    texts = [*answered(answers), *revised(revisions, beginnings=True)]
    score = _scorer(reward_models, batch_size=batch_size, dtype=dtype, precision=precision)

    def work(part: Sequence[Text]) -> Iterator[Assessment]:
        scores = score(part)
        for place, one in enumerate(part):
            found = {} if judge is None else judge.assess(one.prompt.dialogue, one.text)
            own = {f"{SCORE}{name}": values[place] for name, values in scores.items()}
            yield Assessment(
                prompt=one.prompt.id,
                cluster=one.prompt.cluster,
                kind=one.prompt.kind,
                player=one.name,
                sequences=one.at,
                metrics={**found, **own},
            )

    with progress(len(texts), "texts") as advance:
        in_chunks(out, texts, size=chunk, work=work, advance=advance)
    return out


def _scorer(folders: Mapping[str, Path], *, batch_size: int, dtype: str, precision: str) -> Any:
    """A function from texts to the scores of each reward model by its name."""
    import torch

    from cai_lightning.models.reward import load_reward
    from cai_lightning.stages.session import autocast, device, prepare

    prepare()
    models = {name: load_reward(folder, dtype=dtype) for name, folder in folders.items()}

    def score(part: Sequence[Text]) -> dict[str, list[float]]:
        found = {}
        for name, (model, tokenizer) in models.items():
            model.to(device())
            with torch.inference_mode(), autocast(precision):
                found[name] = model.score_replies(
                    tokenizer, [one.prompt.dialogue for one in part], [one.text for one in part], batch_size=batch_size
                )
        return found

    return score


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One scored text an answer, or a round and its beginning, and reward model."""
    given = [*recipe["answers"].values(), *recipe["revisions"].values()]
    rows = sum(one.rows for one in recipe["answers"].values())
    rows += sum(one.rows + one.prompts for one in recipe["revisions"].values())
    length, judges = max((one.length for one in given), default=0), recipe["reward_models"].values()
    memory = sum(scored(recipe, judge, rows=rows, length=length) for judge in judges)
    return Estimate(rows, rows * len(judges), rows * len(judges) * length, length, rows, memory=memory)
