"""Supervised finetuning on revisions and helpful replies: the SL-CAI model (Bai et al. 2022, section 3)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai_lightning.stages.estimates import Estimate, learned
from cai_lightning.text.artifacts import CausalLM, ResponseRows, RevisionRows
from cai_lightning.text.records import ROWS, Response, Revision, iter_rows, read_rows

if TYPE_CHECKING:
    from cai_lightning.data.unfinished import Unfinished

Choose = Callable[[Sequence[Revision]], list[Revision]]


def final(chain: Sequence[Revision]) -> list[Revision]:
    """The last revision of a chain (section 1.2 of the paper)."""
    return [max(chain, key=lambda revision: revision.round)]


def every(chain: Sequence[Revision]) -> list[Revision]:
    """The revisions of all rounds (section 3.1 of the paper)."""
    return list(chain)


def up_to(chain: Sequence[Revision], *, rounds: int) -> list[Revision]:
    """The revisions of rounds 1..`rounds` (SL-CAI-n, section 3.4 of the paper)."""
    return [revision for revision in chain if revision.round <= rounds]


def after(chain: Sequence[Revision], *, round: int) -> list[Revision]:
    """The revision of round `round` alone: what `final` is where a chain ends there, and as many rows."""
    return [revision for revision in chain if revision.round == round]


def run(
    out: Path,
    *,
    policy: CausalLM,
    revisions: RevisionRows,
    responses: ResponseRows,
    choose: Choose,
    unfinished: Unfinished,
    adapter: Callable[..., None],
    base_dtype: str,
    optimizer: Callable[..., Any],
    schedule: Callable[..., Any],
    data: Callable[..., Any],
    fit: Callable[..., Any],
    max_tokens: int,
    dtype: str,
    seed: int,
) -> CausalLM:
    """A causal-LM folder: `policy` trained on the chosen revisions and on the helpful `responses`.

    `unfinished` says whether replies that were cut are learned, and with an end token. `adapter` says what of the
    policy learns, `base_dtype` is the number format of what does not.
    """
    from cai_lightning.data.sft import sft_rows
    from cai_lightning.learning.sft import SFTModule
    from cai_lightning.models.causal import load_causal, save_trained
    from cai_lightning.models.engine import fits
    from cai_lightning.models.format import Format
    from cai_lightning.stages.checks import supervision
    from cai_lightning.stages.reading import write_counts
    from cai_lightning.stages.session import prepare
    from cai_lightning.stages.training import batches_of, train

    prepare()
    model, tokenizer = load_causal(policy, dtype=base_dtype, merge=False)
    fits(model, max_tokens)
    adapter(model, seed=seed)
    chains: dict[str, list[Revision]] = {}
    for revision in read_rows(revisions, Revision):
        chains.setdefault(revision.prompt.id, []).append(revision)
    chosen = [revision for chain in chains.values() for revision in choose(chain)]
    finish = Counter(stop=0, length=0)
    one, other = itertools.tee(_counted(chosen, responses, finish))
    format = Format(tokenizer)
    rows, counts = sft_rows(
        ((row.prompt.dialogue, row.text) for row in one),
        format,
        max_tokens=max_tokens,
        ended=(unfinished(row.finish == "stop") for row in other),
        folder=out,
    )
    write_counts(out, {"revisions": len(chosen), "finish": dict(finish), **counts})
    batches = data(rows, [], seed=seed)
    module = SFTModule(model, optimizer=optimizer, schedule=schedule)
    checks = [supervision(format, every_end=not counts["no_end"])]
    train(out, module, batches, fit, batches=batches_of(batches, fit), seed=seed, callbacks=checks)
    save_trained(model, tokenizer, out, parent=policy, dtype=dtype)
    return out


def _counted(chosen: Sequence[Revision], responses: Path, finish: Counter[str]) -> Iterator[Revision | Response]:
    """The rows to learn, responses as they are read: they may be many; `finish` counts how they end."""
    rows: Iterator[Revision | Response] = itertools.chain(chosen, iter_rows(responses / ROWS, Response))
    for row in rows:
        finish[row.finish] += 1
        yield row


def estimate(recipe: Mapping[str, Any]) -> Estimate:
    """One text a chosen revision, helpful response and epoch."""
    revisions, responses, epochs = recipe["revisions"], recipe["responses"], recipe["fit"]["epochs"]
    choose = recipe["choose"]
    chosen = min(revisions.rows, revisions.prompts * choose.get("rounds", 1))
    if choose["_target_"].endswith(".every"):
        chosen = revisions.rows
    tokens = chosen * revisions.length + responses.rows * responses.length
    calls, policy = (chosen + responses.rows) * epochs, recipe["policy"]
    return Estimate(None, calls, tokens * epochs, memory=learned(recipe, policy, head=True), shape=policy.shape)
