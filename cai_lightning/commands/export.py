"""`cai export KEY DIR`: a model of the store as a Hugging Face folder, with a card that says how it was made."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cai_lightning.commands.card import Written, base_on_hub, model_card
from cai_lightning.commands.folders import whole
from cai_lightning.commands.origins import write_recipes
from cai_lightning.commands.players import Player, is_reward, player
from cai_lightning.commands.workspace import Workspace


def main(arguments: list[str], workspace: Workspace) -> int:
    """Exit code 0."""
    parser = argparse.ArgumentParser(
        prog="cai export",
        description="Write a language model or a reward model as a folder that transformers, TRL, PEFT and lm_eval "
        "load. An adapter stays one, its base beside it, unless --merge.",
    )
    parser.add_argument("key", metavar="KEY", help="key, slot of the latest run (ppo), or snapshot (ppo@256)")
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or empty folder")
    parser.add_argument("--merge", action="store_true", help="write dense weights, the adapters folded in")
    parser.add_argument("--dtype", help="of the weights: float32, bfloat16, ...; without it as they are kept")
    given = parser.parse_args(arguments)
    wanted = player(workspace, given.key)
    with whole(given.folder) as out:
        written = write(wanted, out, merge=given.merge, dtype=given.dtype)
        write_recipes(wanted.result, out)
        (out / "README.md").write_text(model_card(wanted, written, workspace), encoding="utf-8")
    for caution in written.cautions:
        print(f"warning: {caution}", file=sys.stderr)
    print(f"{wanted.result.name} -> {given.folder}")
    return 0


def write(wanted: Player, out: Path, *, merge: bool, dtype: str | None) -> Written:
    """Writes the model's files into `out`, in `dtype` or as they are kept; what was written."""
    from cai_lightning.commands import huggingface
    from cai_lightning.models.causal import load_tokenizer
    from cai_lightning.models.lineage import is_adapter

    reward = is_reward(wanted.folder)
    hub_id = base_on_hub(wanted.result)
    base = None
    kept = huggingface.stored_dtype(wanted.folder)
    if is_adapter(wanted.folder):  # folded into what it was trained on
        trained_on = wanted.result.manifest.get("recipe", {}).get("base_dtype")
        kept = trained_on if trained_on in ("float32", "bfloat16", "float16") else kept
    if is_adapter(wanted.folder) and not merge:
        if dtype is not None:
            raise ValueError(f"{wanted.name}: an adapter is exported as it is kept, so --dtype needs --merge")
        huggingface.write_adapter(wanted.folder, out, hub_id=hub_id, dtype=kept)
        base = huggingface.BASE if (out / huggingface.BASE).is_dir() else hub_id
    elif reward:
        huggingface.write_reward(wanted.folder, out, dtype=dtype or kept)
    else:
        huggingface.write_causal(wanted.folder, out, dtype=dtype or kept)
    tokenizer = load_tokenizer(out)
    cut = huggingface.template_tail(tokenizer)
    cautions = []
    if other := huggingface.other_prompts(tokenizer):
        cautions.append(other)
    if reward and (reasons := huggingface.unequal(wanted.folder)):
        cautions.append(f"HF's class gives other scores than this model was trained for: {'; '.join(reasons)}")
    if reward and cut:
        cautions.append(
            f"its template writes {cut!r} behind a reply's end token; cut that off, or scores are read there"
        )
    return Written(reward, base, dtype or kept, cut if reward else "", cautions)
