from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cai_lightning.commands.constitution import main
from cai_lightning.experiment.workspace import Workspace

FAULTY = """\
defaults: [microworld, _self_]
name: mine
principles:
  - id: one
    critique: "identify where the response is toxic ."
  - id: two
    comparison: "which response is more toxic and loud ?"
"""
SHOT = "\\n\\nHuman: how tall is the highest mountain of them all ?\\n\\nAssistant: very"
WORKSPACE = Workspace(())  # composes once
SHARED = os.environ.get("CAI_SHARED_DATA")
paper = pytest.mark.skipif(not SHARED, reason="CAI_SHARED_DATA names no folder")


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(FAULTY)
    return file


def test_lint_names_file_and_line_and_exits_with_1(faulty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(faulty)], WORKSPACE) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{faulty}:4: error: principles[0].revision: missing")
    assert f"{faulty}:7: warning: principles[1].comparison: 'more toxic' prefers the worse reply" in lines[2]
    assert lines[-1] == f"1 errors, 2 warnings in {faulty}"


def test_words_that_the_micro_world_lacks_are_errors_when_asked(
    faulty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["lint", str(faulty), "--micro-world"], WORKSPACE)
    assert "principles[1].comparison: no word of this world: more, loud" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["microworld", "two_principles"])
def test_shipped_sets_are_clean(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", name, "--strict", "--micro-world"], WORKSPACE) == 0
    assert capsys.readouterr().out == f"0 errors, 0 warnings in {name}\n"


def test_warnings_are_errors_under_strict(faulty: Path) -> None:
    faulty.write_text(FAULTY.replace("id: one", "id: one\n    revision: rewrite it"))
    assert main(["lint", str(faulty)], WORKSPACE) == 0
    assert main(["lint", str(faulty), "--strict"], WORKSPACE) == 1


def test_examples_that_hold_questions_are_told(
    faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "questions.jsonl"
    asked = "Consider:\n\nHuman: {}\n\nWhich is better?\n (A) x\n (B) y\n\nThe answer is:"
    texts = ["an altogether different question about cooking soup", "How tall is the highest mountain of them all?"]
    rows = [{"prompt": asked.format(text), "corrects": [" (A)"], "incorrects": [" (B)"]} for text in texts]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    faulty.write_text(FAULTY + f'critique_few_shots:\n  - "{SHOT}"\n')
    main(["lint", str(faulty), "--against", str(questions)], WORKSPACE)
    found = [line for line in capsys.readouterr().out.splitlines() if "leak" in line]
    assert len(found) == 1
    assert found[0].startswith(
        f"{faulty}:9: warning: critique_few_shots[0]: holds what {questions} asks about in line 2"
    )


def test_diff_shows_words_and_hashes(faulty: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sound = FAULTY.replace("id: one", "id: one\n    revision: be less toxic")
    faulty.write_text(sound)
    other = tmp_path / "other.yaml"
    other.write_text(sound.replace("be less toxic", "be much less toxic").replace("two", "three"))
    assert main(["diff", str(faulty), str(other)], WORKSPACE) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "principles.one.revision (changed): be{+ much+} less toxic" in lines
    assert any(line.startswith("principles.two.comparison (removed): [-which") for line in lines)
    assert any(line.startswith("principles.three.comparison (added): {+which") for line in lines)
    assert lines[-1] == "3 texts differ"
    assert lines[0].split()[-1] != lines[1].split()[-1]
    main(["diff", str(faulty), str(faulty)], WORKSPACE)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "the same texts" and lines[0].split()[-1] == lines[1].split()[-1]


def test_show_lists_all_even_those_that_lack_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"], WORKSPACE) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "16 revising, 16 comparing" in lines["microworld"]
    assert "data.root" in lines["paper_files"]
    main(["show", "two_principles"], WORKSPACE)
    assert "  revision:   rewrite the response to be less wrong or bad .\n" in capsys.readouterr().out


@paper
def test_the_paper_s_files_hold_no_error_and_six_leaking_examples(capsys: pytest.CaptureFixture[str]) -> None:
    evaluation = Path(str(SHARED)) / "anthropic_cai" / "evals" / "438HHHEvaluations.jsonl"
    given = Workspace((f"++data.root={SHARED}",))
    assert main(["lint", "paper_files", "--against", str(evaluation)], given) == 0
    lines = capsys.readouterr().out.splitlines()
    leaking = [line for line in lines if "figures on that file leak" in line]
    # all six chain-of-thought examples are questions of that file, and no critique or comparison example is
    assert {line.split(" warning: ")[1].split(":")[0] for line in leaking} == {
        f"reasoning.few_shots[{i}]" for i in range(6)
    }
    assert all("RLMadisonPrecogFewShotPrompts.json:1:" in line for line in leaking)
    assert any("(A) is right 2 times, (B) 4" in line for line in lines)
