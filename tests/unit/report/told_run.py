"""A run's folder as `cai run` leaves it, made by hand: two stages, their results, and what W&B was told of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURE = {"value": 12.0, "low": 3.0, "high": 21.0, "n": 40}
HEAD = {
    **{"mode": "offline", "project": "p", "group": "a-sweep", "upload": "manifests", "samples": 3, "patience": 1.0},
    **{"kind": "run", "token": "1", "experiment": "e", "sweep": "kl_coef", "replicate": 2, "constitution": "one"},
    "agent": {},
}
RECIPE = {"lr": 0.5, "base": {"stage": "a" * 16}}
SFT_ROWS = [{"step": 9, "loss": 2.0}, {"step": 19, "loss": None}]
PPO_ROWS = [{"step": 0, "episode": 16.0, "objective/kl": 0.1}, {"step": 3, "loss/policy_avg": 0.5}]
SAMPLES = [
    {"prompt": {"id": str(number), "dialogue": [{"role": "human", "content": "hi"}]}, "reply": str(number), "score": 1}
    for number in range(9)
]
SUMMARY = {
    "players": {"ppo": {"harmless_elo": FIGURE}},
    "curve": [
        {
            "player": "ppo@64",
            "run": "ppo",
            "sequences": 64,
            "harmless_elo": FIGURE,
            "evasive_rate": FIGURE | {"value": None},
        },
        {"player": "ppo@32", "run": "ppo", "sequences": 32, "harmless_elo": FIGURE | {"value": 5.0}},
    ],
    "feedback": {"accuracy": 0.75},
    "reward_model": {"accuracy_helpful": None},
    "frontier": {"hypervolume": None},
    "seconds": 4.0,
    "tables": {},
}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def told(root: Path, **head: Any) -> Path:
    """The folder of job 0 of a sweep: `sft`, then `ppo` from it; both are in the store."""
    folder, store = root / "sweeps" / "a-sweep" / "0", root / "store"
    for stage, upstream, rows in (("sft", {}, SFT_ROWS), ("ppo", {"policy": f"sft/{16 * 's'}"}, PPO_ROWS)):
        result = store / stage / (16 * stage[0])
        write_lines(result / "metrics.jsonl", rows)
        about = {"stage": stage, "key": result.name, "version": 1, "upstream": upstream}
        (result / "manifest.json").write_text(json.dumps(about))
        (result / "timing.json").write_text('{"seconds": 7.5}')
    write_lines(result / "samples.jsonl", SAMPLES)
    names = {"sft": f"sft/{16 * 's'}", "ppo": f"ppo/{16 * 'p'}"}
    (folder / "wandb").mkdir(parents=True)
    (folder / "artifacts.json").write_text(json.dumps(names))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    write_lines(folder / "wandb" / "events.jsonl", list(events(store, **head)))
    return folder


def events(store: Path, **head: Any) -> list[dict[str, Any]]:
    def begun(slot: str, upstream: dict[str, str]) -> dict[str, Any]:
        key = 16 * slot[0]
        place = {"slot": slot, "stage": slot, "key": key, "folder": str(store / slot / f"{key}.partial")}
        return {"event": "begun", **place, "version": 1, "recipe": RECIPE, "upstream": upstream}

    return [
        {"event": "start", **HEAD, "store": str(store), **head},
        begun("sft", {}),
        {"event": "built", "slot": "sft"},
        begun("ppo", {"policy": f"sft/{16 * 's'}"}),
        {"event": "built", "slot": "ppo"},
        {"event": "published"},
        {"event": "end", "failed": False},
    ]
