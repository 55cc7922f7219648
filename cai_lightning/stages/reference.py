"""Reference log-probabilities of labelled replies: made once, shared by every preference loss and beta."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cai_lightning.text.artifacts import CausalLM, LabelRows, ReferenceRows
from cai_lightning.text.records import Label, Reference, read_rows


def run(
    out: Path,
    *,
    policy: CausalLM,
    labels: dict[str, LabelRows],
    max_tokens: int,
    multiple: int,
    chunk: int,
    precision: str,
) -> ReferenceRows:
    """Reference rows: summed log-probabilities in nats of both replies of every label, by the frozen `policy`."""
    import torch

    from cai_lightning.data.pairs import collate_pairs, pair_rows
    from cai_lightning.models.causal import load_causal, pad_id
    from cai_lightning.models.logprobs import response_logprobs
    from cai_lightning.stages.session import autocast, device, progress, prepare
    from cai_lightning.text.chunks import in_chunks

    prepare()
    model, tokenizer = load_causal(policy, dtype="float32")
    model.to(device())
    rows = [row for folder in labels.values() for row in read_rows(folder, Label)]

    def work(part: Sequence[Label]) -> list[Reference]:
        pairs, _ = pair_rows(part, None, tokenizer, suffix="", end=True, max_tokens=max_tokens)
        if not pairs:
            return []
        batch = collate_pairs(pairs, list(range(len(pairs))), 1.0, pad=pad_id(tokenizer), multiple=multiple)
        with torch.inference_mode(), autocast(precision):
            sums = response_logprobs(model, batch.input_ids.to(device()), batch.mask.to(device()), temperature=1.0)
        chosen, rejected = sums.sum(1).float().cpu().chunk(2)
        by_id = {label.id: label for label in part}
        out_rows = []
        for pair, c, r in zip(pairs, chosen.tolist(), rejected.tolist(), strict=True):
            a, b = (c, r) if by_id[pair.id].p_a >= 0.5 else (r, c)
            out_rows.append(Reference(id=pair.id, logp_a=a, logp_b=b))
        return out_rows

    with progress(len(rows), "labels") as advance:
        in_chunks(out, rows, size=chunk, work=work, advance=advance)
    return out
