"""How often a reward model puts the better of two held-out replies first, and whether words alone do as well."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.baseline import HITS
from cai_lightning.stages.estimates import Estimate, scored, taken
from cai_lightning.text.artifacts import LabelRows, Table
from cai_lightning.text.records import Label, read_rows

if TYPE_CHECKING:
    from cai_lightning.evaluation.intervals import Floats


def run(
    out: Path,
    *,
    runs: list[dict[str, Any]],
    tests: dict[str, LabelRows],
    baseline: Table | None,
    combine: Callable[..., Any],
    resamples: int,
    batch_size: int,
    dtype: str,
    precision: str,
    seed: int,
) -> Table:
    """`reward_model.json`: for each named test set `accuracy_<name>` with a 95 % interval by prompt cluster, and n.

    Labels with p_a of 0.5 are left out; equal rewards count one half. Several runs are several replicates: their
    hits on a pair are averaged first, and `ensemble_<name>` is the accuracy of the one reward that `combine` makes of
    theirs, members named by their place, "0" and so on. With a `baseline`, `difference_<name>` and
    `ensemble_difference_<name>` say how much better they are than its bag of words on the same pairs. Raises ValueError
    where it was not asked for one of them. `dtype` is the number format of the weights.
    """
    import numpy as np

    from cai_lightning.models.reward_ensemble import combined

    labels = {name: [row for row in read_rows(path, Label) if row.p_a != 0.5] for name, path in tests.items()}
    scores = [rewards_of(Path(one["reward_model"]), labels, batch_size, dtype, precision) for one in runs]
    words = None if baseline is None else json.loads((baseline / HITS).read_text(encoding="utf-8"))["bag_of_words"]
    table: dict[str, Any] = {}
    for name, rows in labels.items():
        members = {str(place): one[name] for place, one in enumerate(scores)}
        players = {"": _hits(np.array([*members.values()]), rows)}
        if len(runs) > 1:
            players["ensemble_"] = _hits(np.array([combined(members, combine)]), rows)
        for player, hits in players.items():
            table[f"{player or 'accuracy_'}{name}"] = _accuracy(hits, rows)
            if words is not None:
                table[f"{player}difference_{name}"] = _difference(
                    hits, words.get(name, {}), rows, resamples=resamples, seed=seed
                )
    (out / "reward_model.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    return out


def rewards_of(
    path: Path, labels: Mapping[str, Sequence[Label]], batch_size: int, dtype: str, precision: str
) -> dict[str, list[float]]:
    """The rewards of a and b, one after the other, for each label of each test set."""
    import torch

    from cai_lightning.models.reward import load_reward
    from cai_lightning.stages.session import autocast, device, prepare

    prepare()
    model, tokenizer = load_reward(path, dtype=dtype)
    model.to(device())
    found = {}
    for name, rows in labels.items():
        dialogues = [row.prompt.dialogue for row in rows for _ in "ab"]
        replies = [reply for row in rows for reply in (row.a, row.b)]
        with torch.inference_mode(), autocast(precision):
            found[name] = model.score_replies(tokenizer, dialogues, replies, batch_size=batch_size)
    return found


def _hits(rewards: Floats, rows: Sequence[Label]) -> Floats:
    """Whether each run's rewards (runs, 2 x labels) put the better reply first; one half where they are equal."""
    import numpy as np

    better = np.sign([row.p_a - 0.5 for row in rows])
    return np.asarray((np.sign(rewards[:, ::2] - rewards[:, 1::2]) * better + 1) / 2, np.float64)


def _accuracy(hits: Floats, rows: Sequence[Label]) -> dict[str, Any]:
    from cai_lightning.evaluation.intervals import clustered_share, estimate

    return estimate(*clustered_share(hits.mean(0), [row.prompt.cluster for row in rows]))


def _difference(
    hits: Floats, words: Mapping[str, float], rows: Sequence[Label], *, resamples: int, seed: int
) -> dict[str, Any]:
    import numpy as np

    from cai_lightning.evaluation.paired import difference

    if missing := [row.id for row in rows if row.id not in words]:
        raise ValueError(f"baseline: lacks {len(missing)} test pairs, {missing[0]} first; give it the same tests")
    theirs = np.array([words[row.id] for row in rows])
    return difference(hits, theirs, [row.prompt.cluster for row in rows], resamples=resamples, seed=seed)


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """Two scored texts a test pair and run."""
    rows, tokens = taken(recipe["tests"], dict.fromkeys(recipe["tests"]))
    judge, length = recipe["runs"][0]["reward_model"], max(given.length for given in recipe["tests"].values()) / 2
    memory = scored(recipe, judge, rows=2 * rows, length=length)
    return Estimate(None, 2 * rows * len(recipe["runs"]), tokens * len(recipe["runs"]), memory=memory)
