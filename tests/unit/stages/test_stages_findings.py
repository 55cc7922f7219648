"""Rows of assessment stages against slow loops and hand counts; how findings name arms over a sweep."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from cai_lightning import microworld
from cai_lightning.microworld.judge import OracleJudge
from cai_lightning.microworld.prompts import red_team
from cai_lightning.models.adapters import full
from cai_lightning.models.causal import load_causal
from cai_lightning.models.reward import load_reward, reward_from_causal, save_reward
from cai_lightning.stages import assessments, divergence, diversity, findings, margin_spread, margins
from cai_lightning.stages.verdicts import ASSESSMENTS
from cai_lightning.text.records import Answer, Assessment, Label, Prompt, Revision, Verdict, read_rows, write_rows

MODEL = Path(microworld.__file__).parent / "weights" / "small"
SCORED: dict[str, Any] = {"batch_size": 4, "dtype": "float32", "precision": "32-true"}
METRIC = {"label": "Harmful", "unit": "share", "better": "less", "key": "harmful", "kinds": ["red_team"]}
ELO = {"label": "Elo", "unit": "Elo", "better": "more", "criterion": "harmless"}


@pytest.fixture(scope="module")
def judge_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reward model with a head at random: its scores differ."""
    made, tokenizer = reward_from_causal(
        MODEL, adapter=full, marker=None, mean=True, gain=1.0, dtype="float32", head_std=0.5, seed=0
    )
    folder = tmp_path_factory.mktemp("reward")
    save_reward(made, tokenizer, folder, parent=MODEL, dtype="float32")
    return folder


def folder(path: Path, rows: Any, name: str = "rows.jsonl") -> Path:
    path.mkdir(exist_ok=True)
    write_rows(path, rows, name)
    return path


def answer(prompt: Prompt, text: str, *, sequences: int | None = None, finish: str = "stop") -> Answer:
    counts: dict[str, Any] = {"prompt_tokens": 1, "tokens": 1, "seed": 0, "temperature": 1.0}
    return Answer(
        id=f"{prompt.id}/{sequences}",
        player="ppo",
        sequences=sequences,
        prompt=prompt,
        text=text,
        model="m",
        finish=finish,
        **counts,
    )


def revised(chain: list[Revision], prompt: Prompt, texts: list[str]) -> list[Revision]:
    """A chain over texts, the first of which is the reply that it began with."""
    return [
        dataclasses.replace(chain[0], id=f"{prompt.id}.r{k}", prompt=prompt, round=k, previous=old, text=new)
        for k, (old, new) in enumerate(pairwise(texts), start=1)
    ]


HARM = "sure . first , get the redpowder ."
SORRY = "sorry , i can not answer that ."


def test_every_round_and_snapshot_is_a_player_with_the_judge_s_metrics(tmp_path: Path, chain: list[Revision]) -> None:
    prompts = red_team(split="tune", count=2, seed=0)
    chains = folder(tmp_path / "chains", [r for p in prompts for r in revised(chain, p, [HARM, HARM, SORRY])])
    answers = folder(tmp_path / "answers", [answer(prompts[0], SORRY, sequences=s) for s in (None, 64)])
    out = folder(tmp_path / "out", [])
    (out / "rows.jsonl").unlink()
    judge = OracleJudge(punish_evasion=True)
    assessments.run(
        out, answers={"ppo": answers}, revisions={"r": chains}, judge=judge, reward_models={}, chunk=3, **SCORED
    )
    rows = read_rows(out, Assessment)
    assert [row.player for row in rows] == ["ppo", "ppo@64", *["r@0", "r@1", "r@2"] * 2]
    assert [row.metrics["evasive"] for row in rows] == [1, 1, 0, 0, 1, 0, 0, 1]
    assert rows[2].cluster == prompts[0].cluster and rows[2].sequences == 0 and rows[0].sequences is None


def test_scores_do_not_depend_on_chunks_and_margins_are_their_differences(
    tmp_path: Path, judge_folder: Path, make_label: Callable[..., Label]
) -> None:
    prompts = red_team(split="tune", count=3, seed=0)
    texts = {"a": HARM, "b": SORRY}
    score: dict[str, list[float]] = {}
    for name, text in texts.items():
        given = folder(tmp_path / name, [answer(p, text) for p in prompts])
        for chunk in (1, 3):
            out = tmp_path / f"{name}{chunk}"
            out.mkdir()
            models = {"x": judge_folder}
            assessments.run(
                out, answers={"p": given}, revisions={}, judge=None, reward_models=models, chunk=chunk, **SCORED
            )
            score[f"{name}{chunk}"] = [float(row.metrics["score_x"] or 0) for row in read_rows(out, Assessment)]
        assert score[f"{name}1"] == pytest.approx(score[f"{name}3"], abs=1e-5)
    p_a = [0.9, 0.2, 0.5]
    labels = [make_label(f"l{k}", prompt=p, a=HARM, b=SORRY, p_a=p_a[k]) for k, p in enumerate(prompts)]
    (tmp_path / "out").mkdir()
    margins.run(
        tmp_path / "out", reward_models={"x": judge_folder}, tests={"t": folder(tmp_path / "l", labels)}, **SCORED
    )
    rows = read_rows(tmp_path / "out", Assessment)
    assert [(row.prompt, row.player, row.kind) for row in rows] == [("l0", "x", "t"), ("l1", "x", "t")]
    gaps = [a - b for a, b in zip(score["a1"], score["b1"], strict=True)]
    assert [row.metrics["margin"] for row in rows] == pytest.approx([gaps[0], -gaps[1]], abs=1e-4)
    assert [row.metrics["correct"] for row in rows] == [float(gaps[0] > 0), float(gaps[1] < 0)]
    p = torch.sigmoid(torch.tensor(gaps[0])).item()
    by_hand = -(0.9 * torch.log(torch.tensor(p)) + 0.1 * torch.log(torch.tensor(1 - p))).item()
    assert rows[0].metrics["nll"] == pytest.approx(by_hand, abs=1e-4)


def test_models_differ_by_what_their_own_margins_say(
    tmp_path: Path, judge_folder: Path, make_label: Callable[..., Label]
) -> None:
    """Of a model and a copy with its head turned round: margins of opposite sign, split on every pair."""
    made, tokenizer = load_reward(judge_folder, dtype="float32")
    with torch.no_grad():
        made.model.score.weight.neg_()
    turned = tmp_path / "turned"
    turned.mkdir()
    save_reward(made, tokenizer, turned, parent=judge_folder, dtype="float32")
    prompts = red_team(split="tune", count=2, seed=0)
    labels = [make_label(f"l{k}", prompt=p, a=HARM, b=SORRY, p_a=0.9) for k, p in enumerate(prompts)]
    tests = {"t": folder(tmp_path / "l", labels)}
    for name in ("alone", "three"):
        (tmp_path / name).mkdir()
    margins.run(tmp_path / "alone", reward_models={"x": judge_folder}, tests=tests, **SCORED)
    models = {"x": judge_folder, "y": turned, "z": judge_folder}
    margin_spread.run(tmp_path / "three", player="p", reward_models=models, tests=tests, **SCORED)
    alone = [row.metrics["margin"] or 0 for row in read_rows(tmp_path / "alone", Assessment)]
    found = read_rows(tmp_path / "three", Assessment)
    assert [row.metrics["margin"] for row in found] == pytest.approx([m / 3 for m in alone], abs=1e-5)
    # of m, -m, m the mean is m / 3, the squares about it 4/9, 16/9 and 4/9 of m's
    assert [row.metrics["spread"] for row in found] == pytest.approx([(4 / 3) ** 0.5 * abs(m) for m in alone], abs=1e-4)
    assert [row.metrics["split"] for row in found] == [2 / 3, 2 / 3]


def test_the_distance_of_chains_by_hand(tmp_path: Path, chain: list[Revision]) -> None:
    """Words {a b c}, {a b d}, {a b c}: distances 1/2, 0, 1/2; word pairs ab bc, ab bd, ca ab: 4 of 6 differ."""
    (prompt,) = red_team(split="tune", count=1, seed=0)
    chains = {
        name: folder(tmp_path / name, revised(chain, prompt, ["x", text, "same"]))
        for name, text in (("one", "a b c"), ("two", "A b d"), ("three", "c a b"))
    }
    (tmp_path / "out").mkdir()
    diversity.run(tmp_path / "out", player="r", revisions=chains, gram=2)
    first, second = read_rows(tmp_path / "out", Assessment)
    assert first.player == "r@1" and first.metrics["distance"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert first.metrics["distinct"] == pytest.approx(4 / 6)
    assert second.metrics["distance"] == 0
    with pytest.raises(ValueError, match="2 of 3 chains have it"):
        short = folder(tmp_path / "short", revised(chain, prompt, ["x", "a b c"]))
        diversity.run(tmp_path / "out", player="r", revisions={**chains, "three": short}, gram=2)


def moved(path: Path, source: Path, amount: float) -> Path:
    model, tokenizer = load_causal(source, dtype="float32")
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight += amount * torch.randn_like(weight)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_the_divergence_of_replies_is_the_slow_loop(tmp_path: Path) -> None:
    prompts = red_team(split="tune", count=2, seed=0)
    rows = [answer(prompts[0], SORRY), answer(prompts[1], HARM, finish="length"), answer(prompts[0], HARM, sequences=8)]
    given = folder(tmp_path / "answers", rows)
    policy = moved(tmp_path / "policy", MODEL, 0.05)
    moved(policy / "snapshots" / f"{8:08d}", MODEL, 0.0)
    (tmp_path / "out").mkdir()
    divergence.run(tmp_path / "out", answers=given, policy=policy, reference=MODEL, batch_size=2, dtype="float32")
    found = read_rows(tmp_path / "out", Assessment)
    assert [row.player for row in found] == ["ppo", "ppo", "ppo@8"]
    assert found[2].metrics == {"kl": pytest.approx(0, abs=1e-6), "log_ratio": pytest.approx(0, abs=1e-6)}
    models = [load_causal(path, dtype="float32")[0] for path in (policy, MODEL)]
    tokenizer = load_causal(MODEL, dtype="float32")[1]
    for row, one in zip(rows[:2], found[:2], strict=True):
        text = f"\n\nHuman: {row.prompt.dialogue[-1].content}\n\nAssistant:"
        prompt = tokenizer(text).input_ids
        whole = tokenizer(f"{text} {row.text}").input_ids
        prompt, whole = ([i for i in ids if i != tokenizer.eos_token_id] for ids in (prompt, whole))
        whole = whole + ([tokenizer.eos_token_id] if row.finish == "stop" else [])
        kl = ratio = 0.0
        for at in range(len(prompt), len(whole)):
            with torch.no_grad():
                ours, theirs = (m(torch.tensor([whole[:at]])).logits[0, -1].double().log_softmax(-1) for m in models)
            kl += float((ours.exp() * (ours - theirs)).sum())
            ratio += float(ours[whole[at]] - theirs[whole[at]])
        assert one.metrics["kl"] == pytest.approx(kl, rel=1e-3) and kl > 0.01
        assert one.metrics["log_ratio"] == pytest.approx(ratio, rel=1e-3, abs=1e-4)


def judged(path: Path, player: str, opponent: str, scores: list[float]) -> Path:
    verdicts = [
        Verdict(
            prompt=f"p{k}",
            cluster=f"c{k}",
            kind="red_team",
            criterion="harmless",
            player=player,
            opponent=opponent,
            score=s,
        )
        for k, s in enumerate(scores)
    ]
    rows = [
        Assessment(
            prompt=f"p{k}", cluster=f"c{k}", kind="red_team", player=player, sequences=None, metrics={"harmful": 1 - s}
        )
        for k, s in enumerate(scores)
    ]
    folder(path, verdicts)
    return folder(path, rows, ASSESSMENTS)


def run(out: Path, runs: list[dict[str, Any]], claims: list[dict[str, Any]]) -> dict[str, Any]:
    out.mkdir()
    said = {"name": "n", "question": "q", "prediction": "p", "reseeded": "all", "note": None, "figure": None}
    findings.run(
        out,
        runs=runs,
        metrics={"harmful_rate": METRIC, "harmless_elo": ELO},
        claims=claims,
        anchor="base",
        prior_sd=2.0,
        resamples=200,
        seed=0,
        **said,
    )
    return dict(json.loads((out / "findings.json").read_text()))


def claim(**changes: Any) -> dict[str, Any]:
    fields = {"says": "s", "source": None, "metric": "harmful_rate", "of": {"ppo [k=1]": 1}, "expected": "less"}
    return fields | {"margin": 0.0} | changes


def test_arms_of_a_sweep_carry_their_job_s_setting_and_meet_the_opponents_of_their_own_job(tmp_path: Path) -> None:
    base = judged(tmp_path / "base", "base", "nobody", [0.0] * 12)
    write_rows(base, [])
    jobs = []
    for setting, wins in (("k=1", 11), ("k=2", 4)):
        ppo = judged(tmp_path / f"ppo{setting}", "ppo", "base", [1.0] * wins + [0.0] * (12 - wins))
        other = judged(tmp_path / f"other{setting}", "other", "ppo", [0.5] * 12)
        measured = {"base": base, f"ppo [{setting}]": ppo, f"other [{setting}]": other}
        jobs.append({"replicate": 0, "measured": measured})
    table = run(tmp_path / "out", jobs, [claim(of={"ppo [k=1]": 1, "ppo [k=2]": -1})])
    figures = {arm["arm"]: arm["figures"] for arm in table["arms"]}
    assert list(figures) == ["base", "other [k=1]", "other [k=2]", "ppo [k=1]", "ppo [k=2]"]
    assert figures["ppo [k=1]"]["harmful_rate"]["value"] == pytest.approx(1 / 12)
    # ties with the ppo of its own job: as strong
    for setting in ("k=1", "k=2"):
        elo = [figures[f"{name} [{setting}]"]["harmless_elo"]["value"] for name in ("other", "ppo")]
        assert elo[0] == pytest.approx(elo[1], abs=60) and abs(elo[0]) > 20
    (said,) = table["claims"]
    assert said["value"] == pytest.approx(-7 / 12) and said["verdict"] == "reproduced"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expected": "bigger"}, r"claims\[0\].expected: is 'bigger'; it must be more, less, equal"),
        ({"expected": "equal"}, r"claims\[0\].margin: is 0.0; what is called equal needs one above 0"),
        ({"off": {}}, r"claims\[0\].off: unknown key"),
        ({"metric": "harm"}, r"claims\[0\].metric: 'harm' is not among the metrics"),
    ],
)
def test_a_wrong_claim_is_refused_while_planning(changes: dict[str, Any], message: str) -> None:
    values = {"metrics": {"harmful_rate": METRIC}, "claims": [claim(**changes)]}
    with pytest.raises(ValueError, match=message):
        findings.check_recipe(values)


def test_a_claim_without_a_margin_is_refused() -> None:
    fields = claim()
    del fields["margin"]
    with pytest.raises(ValueError, match=r"claims\[0\].margin: missing; a claim has says, source, metric"):
        findings.check_recipe({"metrics": {"harmful_rate": METRIC}, "claims": [fields]})
