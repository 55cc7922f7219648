"""The data configs for the hub and for one's own files build rows, every slot of them, and their parts are disjoint."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from omegaconf import OmegaConf

from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.targets import construct

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = COMMIT[::-1]
SLOTS = ("red_team", "helpful", "pair_red_team", "pair_helpful", "rl", "human_labels", "reward_test_harmless", "eval")


def slots(overrides: list[str]) -> dict[str, list[Any]]:
    """The rows of every slot of a data config, its windows made small."""
    data = OmegaConf.to_container(compose_config(overrides).data, resolve=True)
    assert isinstance(data, dict)
    names = (
        *SLOTS,
        *(name for name in ("written_responses", "written_revisions", "helpful_responses") if name in data),
    )
    readers = {name: shrunk(data[name]) for name in names}
    return {name: [row for reading in construct(nodes) for row in reading.rows] for name, nodes in readers.items()}


def shrunk(value: Any) -> Any:
    """Windows of thousands as windows of units."""
    if isinstance(value, list):
        return [shrunk(item) for item in value]
    if not isinstance(value, dict):
        return value
    small = {name: item // 1000 if name == "skip" else shrunk(item) for name, item in value.items()}
    if isinstance(small.get("limit"), int):
        small["limit"] = max(1, small["limit"] // 1000)
    return small


def hf_row(name: str) -> dict[str, Any]:
    chat = [{"role": "user", "content": name}]
    sides = {side: [*chat, {"role": "assistant", "content": f"{side} {name}"}] for side in ("chosen", "rejected")}
    return {
        "init_prompt": name,
        "init_response": f"rejected {name}",
        "critic_prompt": "What is wrong?",
        "critic_response": "It is rude.",
        "revision_prompt": "Mend it.",
        "revision_response": f"chosen {name}",
        "prompt": name,
        "messages": sides["chosen"],
        **sides,
    }


def ultrachat_row(name: str) -> dict[str, Any]:
    turns = [("user", name), ("assistant", "a"), ("user", "more"), ("assistant", "b")]
    return {"prompt": name, "messages": [{"role": role, "content": text} for role, text in turns]}


def test_the_hub_config_reads_its_columns_from_the_named_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(hub_id: str, config: str | None, *, data_dir: str | None, split: str, revision: str) -> datasets.Dataset:
        assert config is data_dir is None
        make, wanted = (ultrachat_row, OTHER) if "ultrachat" in hub_id else (hf_row, COMMIT)
        assert revision == wanted
        return datasets.Dataset.from_list([make(f"{hub_id[-3:]}/{split}/{n}") for n in range(20)])

    monkeypatch.setattr("datasets.load_dataset", load)
    found = slots(["data=hf_cai", f"data.revision={COMMIT}", f"data.ultrachat_revision={OTHER}"])
    assert {name: len(rows) for name, rows in found.items()} == {
        "red_team": 4,
        "helpful": 4,
        "pair_red_team": 4,
        "pair_helpful": 1,
        "rl": 8,
        "human_labels": 4,
        "reward_test_harmless": 1,
        "eval": 1 + 3 + 1,
        "written_responses": 4,
        "written_revisions": 4,
        "helpful_responses": 8,
    }
    disjoint({name: found[name] for name in SLOTS})
    assert [row.kind for row in found["eval"]] == ["red_team", *["jailbreak"] * 3, "benign"]
    assert [row.prompt for row in found["written_responses"]] == found["red_team"]
    assert [row.previous for row in found["written_revisions"]] == [row.text for row in found["written_responses"]]
    assert found["human_labels"][0].a.startswith("chosen")
    assert [row.text for row in found["helpful_responses"]] == ["a", "b"] * 4


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_own_files_fall_into_disjoint_parts(tmp_path: Path, kind: str) -> None:
    def write(name: str, rows: list[dict[str, str]]) -> str:
        path = tmp_path / f"{name}.{kind}"
        lines = (
            [",".join(rows[0]), *(",".join(row.values()) for row in rows)] if kind == "csv" else map(json.dumps, rows)
        )
        path.write_text("".join(f"{line}\n" for line in lines))
        return f"data.{name}_file={path}"

    files = [
        write("red_team", [{"prompt": f"red {n}"} for n in range(60)]),
        write("helpful", [{"prompt": f"kind {n}"} for n in range(60)]),
        write("preference", [{"prompt": f"p {n}", "chosen": f"good {n}", "rejected": f"bad {n}"} for n in range(60)]),
    ]
    found = slots(["data=own_files", *files])
    disjoint(found)
    assert all(found.values())
    plain = {row.id for name in SLOTS if "label" not in name and "reward" not in name for row in found[name]}
    jailbroken = [row for row in found["eval"] if "+" in row.source]
    assert len(plain) == 120 + len(jailbroken)
    assert {row.kind for row in jailbroken} == {"jailbreak"}
    assert {row.kind for row in found["eval"] if row not in jailbroken} == {"red_team", "benign"}
    assert len(jailbroken) == 3 * sum(row.source == "own-red-team" for row in found["eval"])
    assert len(found["human_labels"]) + len(found["reward_test_harmless"]) == 60


def disjoint(found: dict[str, list[Any]]) -> None:
    clusters = {name: {getattr(row, "prompt", row).cluster for row in rows} for name, rows in found.items()}
    for one, other in itertools.combinations(clusters, 2):
        assert not clusters[one] & clusters[other], f"{one} and {other} share a conversation"


def test_margins_of_one_s_own_file_are_asked_for(tmp_path: Path) -> None:
    preference = [{"prompt": f"p {n}", "chosen": f"good {n}", "rejected": "bad", "margin": n / 2} for n in range(60)]
    names = {"red_team": [{"prompt": "red"}] * 2, "helpful": [{"prompt": "kind"}] * 2, "preference": preference}
    for name, rows in names.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = slots(["data=own_margins", *(f"data.{name}_file={tmp_path / name}.jsonl" for name in names)])
    labels = [*found["human_labels"], *found["reward_test_harmless"]]
    assert len(labels) == 60
    assert all(row.margin == int(row.a.split()[1]) / 2 and row.p_a == 1.0 for row in labels)
