from __future__ import annotations

import sys
from pathlib import Path

import pytest
from made_outputs import outputs

from cai_lightning.experiment import cli, workspace
from cai_lightning.experiment.errors import UserError


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return outputs(tmp_path_factory.mktemp("outputs"))


def test_the_command_writes_below_reports_and_says_what_stands_apart(
    folders: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = folders[0].parent.parent
    arguments = [str(folders[2]), str(folders[3]), "--transcripts", "2", f"runtime.outputs={root}"]
    assert workspace.command("report", arguments) == 0
    said = capsys.readouterr().out
    assert "2 runs and sweeps, 2 axes of Elo, 2 of 3 prompts to read" in said
    assert "ratings that differ in judges stand on axes of their own" in said
    folder = root / "reports" / "kl_+_letters"
    assert f"report: {folder / 'report.html'}" in said
    assert sorted(path.name for path in folder.iterdir()) == ["figures", "report.html", "tables"]


def test_a_name_and_a_place_may_be_given(folders: list[Path], tmp_path: Path) -> None:
    root = folders[0].parent.parent
    options = [f"runtime.outputs={root}", "--name", "../my report"]
    assert workspace.command("report", [str(folders[2]), *options]) == 0
    assert (root / "reports" / "my_report" / "report.html").is_file()
    assert workspace.command("report", [str(folders[2]), *options, "--out", str(tmp_path / "there")]) == 0
    assert "<h1>../my report</h1>" in (tmp_path / "there" / "report.html").read_text()


def test_what_cannot_be_joined_is_one_line(
    folders: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match="--transcripts: must not be negative, is -1"):
        workspace.command("report", [str(folders[0]), "--transcripts", "-1"])
    monkeypatch.setattr(sys, "argv", ["cai", "report", str(folders[0] / "nowhere")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 1
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 1 and "no such folder" in said.err
