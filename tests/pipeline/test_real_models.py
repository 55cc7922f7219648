"""Real architectures on real files, from first replies to ratings, through the command line; models tiny and random.

Three runs hold every value of every axis once: Llama, Mistral, Qwen2 · Human/Assistant text, chat turns, chat with a
system message · letters, letters with averaged principles and few-shots drawn per label, thoughts, an ensemble · every
weight, merged and stacked adapters. What is expected comes from the released files and from transformers alone.
"""

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from transformers import PreTrainedTokenizerFast

from cai_lightning.constitution.questions import asking
from cai_lightning.constitution.reasoning import Reasoning
from cai_lightning.experiment.compose import compose_config
from cai_lightning.experiment.targets import construct
from cai_lightning.models.causal import load_causal
from cai_lightning.models.format import Format
from cai_lightning.text.dialogue import Dialogue
from cai_lightning.text.records import Answer, Comparison, Label, Prompt, Reference, Response, Revision, read_rows

DATA = os.environ.get("CAI_SHARED_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="CAI_SHARED_DATA names no folder with the released files")

# fewer rows than the experiment's own; tables about released models and question files are tested elsewhere
SMALL = [
    "data.red_team.0.limit=6",
    "data.helpful.0.limit=6",
    "data.pair_red_team.0.limit=6",
    "data.human_labels.0.limit=12",
    "data.reward_test_harmless.0.limit=12",
    "data.rl.0.limit=6",
    "data.rl.1.limit=6",
    "data.eval.0.limit=4",
    "data.eval.1.limit=4",
    "stages.revisions.rounds=1",
    "stages.dpo.fit.log_every=1",
    "stages.dpo.fit.precision=32-true",
    "stages.ppo.iterations=1",
    "stages.ppo.rollouts=8",
    "stages.ppo.snapshots=[]",
    "stages.ratings.resamples=50",
    "report.evals=null",
]
TRAINED = ("sft", "reward_model", "dpo", "ppo")
START, END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class Case:
    """One run: the tiny model's architecture and whether it chats, the experiment, and what differs from it."""

    kind: str
    chat: bool
    experiment: str
    changes: tuple[str, ...] = ()
    adapters: bool = False
    merge: bool = True
    rounds: int = 1
    snapshots: tuple[int, ...] = ()  # samples seen by the published ones
    # slot -> (principles behind a label, orders asked, thoughts a question, clamp)
    labels: dict[str, tuple[int, int, int, tuple[float, float] | None]] = field(default_factory=dict)


LORA = tuple(f"adapter@stages.{slot}.adapter=lora" for slot in TRAINED)
CASES = {
    "llama-text-full": Case(
        kind="llama",
        chat=False,
        experiment="[hh_files,two_feedback_models]",
        changes=("stages.labels_second.thought_tokens=16", "stages.labels_second.chunk=8"),
        labels={"labels": (1, 2, 0, None), "labels_second": (1, 2, 1, (0.4, 0.6))},
    ),
    "mistral-turns-merged": Case(
        kind="mistral",
        chat=True,
        experiment="hh_chat",
        changes=(
            *LORA,
            "stages.labels.reasoning_samples=2",
            "stages.labels.thought_tokens=16",
            "stages.labels.clamp=[0.4,0.6]",
        ),
        adapters=True,
        labels={"labels": (1, 2, 2, (0.4, 0.6))},
    ),
    "qwen2-system-stacked": Case(
        kind="qwen2",
        chat=True,
        experiment="hh_chat",
        changes=(
            *LORA,
            *(f"stages.{slot}.adapter.merge=false" for slot in TRAINED),
            "style@stages.revisions.style=system",
            "style@stages.labels.style=system",
            "few_shot_draw@stages.labels.few_shot_draw=per_label",
            "pick@stages.labels.pick=averaged",
            "stages.labels.pick.count=2",
            "order@stages.labels.order=random",
            "stages.revisions.rounds=2",
            "stages.ppo.iterations=2",
            "stages.ppo.snapshots=[1]",
        ),
        adapters=True,
        merge=False,
        rounds=2,
        snapshots=(8,),
        labels={"labels": (2, 1, 0, None)},
    ),
}


@dataclass(frozen=True)
class Run:
    """A finished run: its case and overrides, its facts, and where its results lie."""

    case: Case
    overrides: list[str]
    facts: Any
    summary: Any
    store: Path

    def folder(self, slot: str) -> Path:
        return self.store / str(self.facts["keys"][slot])

    def rows(self, slot: str, record: Any) -> Any:
        return read_rows(self.folder(slot), record)

    def read(self, slot: str, name: str) -> Any:
        text = (self.folder(slot) / name).read_text()
        return json.loads(text) if name.endswith(".json") else [json.loads(line) for line in text.splitlines()]

    @property
    def tokenizer(self) -> Any:
        # AutoTokenizer would take Qwen2's own class, which cuts words in another way than the folder says
        return PreTrainedTokenizerFast.from_pretrained(self.folder("base"), local_files_only=True)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("llama-text-full", marks=pytest.mark.slow),
        pytest.param("mistral-turns-merged", marks=pytest.mark.slow),
        "qwen2-system-stacked",
    ],
)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    assert DATA is not None
    case, folder = CASES[request.param], tmp_path_factory.mktemp(request.param)
    text = Path(DATA) / "hh-rlhf" / "harmless-base.train.jsonl.gz"
    tiny = ["--text", str(text), "--out", str(folder / "model"), "--kind", case.kind, *["--chat"] * case.chat]
    python("cai_lightning.data.tiny_model", *tiny, cwd=folder)
    overrides = [f"experiment={case.experiment}", f"model.path={folder / 'model'}", f"data.root={DATA}"]
    overrides += [*SMALL, *case.changes, *(f"~report.tables.{name}" for name in tables(overrides))]
    machine = [f"runtime.outputs={folder / 'outputs'}", "runtime.progress=off", "runtime.wandb.mode=disabled"]
    python("cai_lightning", "run", *overrides, *machine, cwd=folder)
    latest = folder / "outputs" / "latest"
    facts, summary = (json.loads((latest / name).read_text()) for name in ("run.json", "summary.json"))
    return Run(case, overrides, facts, summary, folder / "outputs" / "store")


def python(*command: str, cwd: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr[-3000:]


def tables(overrides: list[str]) -> list[str]:
    """The report's tables that a run makes beside the pipeline itself."""
    return [str(name) for name in compose_config(overrides).report.tables if name != "reward_model"]


def asked(run: Run, dialogue: Dialogue) -> str:
    """A dialogue up to where the assistant is to reply: by the tokenizer's own template, or by hand."""
    if run.case.chat:
        turns = [{"role": {"human": "user"}.get(turn.role, turn.role), "content": turn.content} for turn in dialogue]
        return str(run.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))
    return "".join(f"\n\n{turn.role.capitalize()}: {turn.content}" for turn in dialogue) + "\n\nAssistant:"


def tokens(run: Run, text: str) -> list[int]:
    return list(run.tokenizer(text, add_special_tokens=False).input_ids)


def logprob(model: Any, before: list[int], after: list[int]) -> float:
    """The summed log-probability in nats of ids behind others."""
    with torch.inference_mode():
        table = model(torch.tensor([before + after])).logits[0].log_softmax(-1)
    return float(sum(table[len(before) + place - 1, token] for place, token in enumerate(after)))


def paper(name: str) -> Any:
    return json.loads((Path(str(DATA)) / "anthropic_cai" / "prompts" / f"{name}.json").read_text())


def test_the_model_is_of_its_kind_and_decides_the_format(run: Run) -> None:
    assert run.read("base", "config.json")["model_type"] == run.case.kind
    for slot in ("base", *TRAINED):
        assert (run.folder(slot) / "chat_template.jinja").exists() == run.case.chat


def test_every_prompt_is_asked_in_the_models_own_format(run: Run) -> None:
    first = [row for slot in ("red_team_responses", "helpful_responses") for row in run.rows(slot, Response)]
    final = [row for player in ("sl_cai", "ppo") for row in run.rows(f"answers_{player}", Answer)]
    for row in (*first, *final):
        assert row.prompt_tokens == len(tokens(run, asked(run, row.prompt.dialogue)))
        assert END not in row.text and "\n\nHuman:" not in row.text


def test_rollouts_are_sampled_behind_the_models_own_control_tokens(run: Run) -> None:
    prompts = {row.id: row for row in run.rows("rl_prompts", Prompt)}
    samples = run.read("ppo", "samples.jsonl")
    assert {row["prompt"] for row in samples} <= set(prompts)
    for row in samples:
        assert row["text"] == asked(run, prompts[row["prompt"]].dialogue)
        assert (START in row["text"]) == run.case.chat
        assert ("\n\nAssistant:" in row["text"]) == (not run.case.chat)
        assert END not in row["reply"] and math.isfinite(row["score"])


def test_chains_go_on_under_one_principle_a_round_behind_the_few_shots(run: Run) -> None:
    principles = paper("CritiqueRevisionInstructions")
    # the file's examples end with the marker that stopped their sampling
    few_shots = "".join(text.removesuffix("\n\nHuman:") for text in paper("CritiqueRevisionFewShotPrompts"))
    responses = {row.id: row.text for row in run.rows("red_team_responses", Response)}
    rows = run.rows("revisions", Revision)
    assert [row.round for row in rows] == [*range(1, run.case.rounds + 1)] * len(responses)
    for row in rows:
        critique, revision = ("".join(principles[row.principle][key]) for key in ("prompt", "edit_request"))
        if run.case.chat:
            # every marker of the examples becomes at least as many tokens of the template
            assert row.prompt_tokens > len(tokens(run, few_shots)) * 0.95
        else:
            chain = f"{asked(run, row.prompt.dialogue)} {row.previous}{critique} {row.critique}{revision}"
            assert row.prompt_tokens == len(tokens(run, few_shots + chain))
        assert row.previous == responses[row.prompt.id]
        responses[row.prompt.id] = row.text


def test_letters_are_one_token_apart(run: Run) -> None:
    for slot in run.case.labels:
        a, b = run.read(slot, "counts.json")["letters"].values()
        assert len(a) == len(b) and [(x, y) for x, y in zip(a, b, strict=True) if x != y] == [("A", "B")]


def test_labels_follow_from_the_log_odds_of_every_question(run: Run) -> None:
    pairs = run.rows("pairs", Comparison)
    for slot, (principles, orders, thoughts, clamp) in run.case.labels.items():
        rows = run.rows(slot, Label)
        assert [(row.id, row.a, row.b) for row in rows] == [(row.id, row.a, row.b) for row in pairs]
        for row in rows:
            assert len(set(row.principle.split("+"))) == principles
            assert set(row.principle.split("+")) <= {f"comparison{i}" for i in range(16)}
            assert [row.logit_ab, row.logit_ba].count(None) == 2 - orders
            assert len(row.logits) == principles * orders * max(thoughts, 1)
            assert len(row.thoughts) == principles * orders * thoughts and 0 < row.letter_mass < 1
            if thoughts:
                p = sum(1 / (1 + math.exp(-logit)) for logit in row.logits) / len(row.logits)
            else:
                p = 1 / (1 + math.exp(-sum(row.logits) / len(row.logits)))
            low, high = clamp or (0, 1)
            assert row.p_a == pytest.approx(min(max(p, low), high), abs=1e-9)


@pytest.mark.parametrize("place", [0, 3])
def test_a_letter_is_scored_behind_the_question_with_its_few_shots(run: Run, place: int) -> None:
    """The first log-odds of a label once more, from the text of its question through transformers alone."""
    config = compose_config(run.overrides)
    built = construct(OmegaConf.to_container(config.constitution, resolve=True))
    model = load_causal(run.folder("base"), dtype="float32")[0]
    for slot, (_, _, thoughts, _) in run.case.labels.items():
        node = config.stages[slot]
        parts = {name: construct(OmegaConf.to_container(node[name])) for name in ("style", "order", "pick")}
        drawn = construct(OmegaConf.to_container(node.few_shot_draw))
        ask = asking(built, reasoning=thoughts > 0, few_shot_draw=drawn, seed=node.seed, **parts)
        row = run.rows(slot, Label)[place]
        question = ask.questions(row)[0]
        words = ask.form.thought(row.thoughts[0]) if isinstance(ask.form, Reasoning) else ()
        query = question.query(*words)
        text = Format(run.tokenizer).text(query.prompt)
        for example in paper("RLMadisonPrecogFewShotPrompts" if thoughts else "RLMadisonFewShotPrompts"):
            # the last words of an example: of its thought, or of its better reply
            last = example["prompt"].split("\n\nHuman:\nSo")[0] if thoughts else "".join(example["corrects"])
            assert last.strip()[-60:] in text
        assert (START in text) == run.case.chat and text.startswith((START, "\n\n"))
        scores = [logprob(model, tokens(run, text), tokens(run, letter)) for letter in letters(text)]
        sign = -1 if question.swapped else 1
        assert row.logits[0] == pytest.approx(sign * (scores[0] - scores[1]), abs=1e-3)


def letters(text: str) -> tuple[str, str]:
    """The answers behind a text: a turn of its own begins with the letter, running text with a space."""
    return ("(A)", "(B)") if text.endswith(f"{START}assistant\n") else (" (A)", " (B)")


def test_two_feedback_models_make_one_label(run: Run) -> None:
    if "labels_second" not in run.case.labels:
        pytest.skip("one feedback model")
    voices = zip(run.rows("labels", Label), run.rows("labels_second", Label), strict=True)
    for one, (letter, thought) in zip(run.rows("ensemble", Label), voices, strict=True):
        logits = [sum(letter.logits) / 2, one.logits[1]]
        assert one.logits[0] == pytest.approx(logits[0], abs=1e-9) and one.thoughts == thought.thoughts
        assert one.p_a == pytest.approx(1 / (1 + math.exp(-sum(logits) / 2)), abs=1e-9)


def test_references_are_of_the_reply_and_its_end_behind_the_prompt(run: Run) -> None:
    """What is learnt is written as what is asked: by the tuned model, through transformers alone."""
    model = load_causal(run.folder("sft"), dtype="float32")[0]
    references = {row.id: row for row in run.rows("reference", Reference)}
    rows = sorted(run.rows("human_labels", Label), key=lambda row: len(asked(run, row.prompt.dialogue)))[:3]
    for row in rows:
        prompt = tokens(run, asked(run, row.prompt.dialogue))
        for reply, found in ((row.a, references[row.id].logp_a), (row.b, references[row.id].logp_b)):
            ids = [*tokens(run, reply if run.case.chat else f" {reply}"), run.tokenizer.eos_token_id]
            assert found == pytest.approx(logprob(model, prompt, ids), abs=0.01)


def test_training_rows_add_up(run: Run) -> None:
    counts = run.read("sft", "counts.json")
    assert counts["revisions"] == len(run.rows("red_team_responses", Response)) == 6
    assert counts["kept"] + counts["too_long"] + counts["empty"] == 6 + len(run.rows("helpful_responses", Response))
    labels = len(run.rows("pairs", Comparison)) + len(run.rows("human_labels", Label))
    assert labels == len(run.rows("reference", Reference)) == 6 + 12
    for slot in ("reward_model", "dpo"):
        counts = run.read(slot, "counts.json")
        assert sum(counts[name] for name in ("kept", "too_long", "identical", "weightless")) == labels


def test_learning_starts_at_the_model_that_it_starts_from(run: Run) -> None:
    first, *_ = run.read("dpo", "metrics.jsonl")
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-3)
    first = run.read("ppo", "metrics.jsonl")[0]
    assert first["objective/kl"] == pytest.approx(0, abs=1e-6)


def test_what_was_trained_is_saved_with_what_it_rests_on(run: Run) -> None:
    base = {"sft": "base", "reward_model": "base", "dpo": "sft", "ppo": "sft"}
    for slot, below in base.items():
        folder = run.folder(slot)
        assert (folder / "adapter_model.safetensors").exists() == run.case.adapters
        assert (folder / "model.safetensors").exists() == (not run.case.adapters)
        if not run.case.adapters:
            assert run.read(slot, "config.json")["model_type"] == run.case.kind
            continue
        parent = run.read(slot, "parent.json")
        assert (folder / parent["parent"]).resolve() == run.folder(below).resolve()
        assert parent["merge"] == run.case.merge or below == "base"  # below the first adapter there is nothing to merge


def test_every_result_that_another_was_made_from_is_there(run: Run) -> None:
    manifests = list(run.store.rglob("manifest.json"))
    assert len(manifests) == len(set(run.facts["keys"].values()))
    for manifest in manifests:
        for name in json.loads(manifest.read_text())["upstream"].values():
            assert (run.store / name / "manifest.json").exists()


def test_every_player_answers_every_prompt_and_is_rated(run: Run) -> None:
    assert set(run.summary["players"]) == {"helpful_only", "sl_cai", "dpo", "ppo"}
    prompts = [row.id for row in run.rows("eval_prompts", Prompt)]
    assert len(prompts) == 8
    for player in run.summary["players"]:
        answers = run.rows(f"answers_{player}", Answer)
        snapshots = run.case.snapshots if player == "ppo" else ()
        assert sorted((row.id, row.sequences or 0) for row in answers) == sorted(
            (prompt, seen) for prompt in prompts for seen in (0, *snapshots)
        )
        assert {row.player for row in answers} == {player}
