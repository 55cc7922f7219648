"""Commands of other rooms: how they are found, what they are given, and what becomes of their errors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cai_lightning.commands.workspace import lineage
from cai_lightning.experiment import cli, workspace
from cai_lightning.experiment.errors import UserError
from cai_lightning.experiment.workspace import Workspace, command, commands

FAULTY = """\
defaults: [microworld, _self_]
name: mine
principles:
  - id: one
    critique: "identify where the response is toxic ."
"""


def cai(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cai_lightning", *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )


def finished(outputs: Path, name: str, **upstream: str) -> None:
    folder = outputs / "store" / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"files": {}, "upstream": upstream}))


@pytest.fixture
def some(tmp_path: Path) -> Workspace:
    finished(tmp_path, "prompts/aa11")
    finished(tmp_path, "sft/bb22", prompts="prompts/aa11", policy="import_model/gone")
    finished(tmp_path, "dpo/cc33", policy="sft/bb22", prompts="prompts/aa11")
    return Workspace((f"runtime.outputs={tmp_path}",))


def test_a_result_is_found_with_all_that_it_came_from(some: Workspace) -> None:
    found = lineage(some.find("cc"))
    assert list(found) == ["dpo/cc33", "sft/bb22", "prompts/aa11", "import_model/gone"]
    assert found["sft/bb22"].path == some.outputs / "store" / "sft" / "bb22"
    assert found["sft/bb22"].manifest["upstream"]["prompts"] == "prompts/aa11"
    assert found["import_model/gone"].manifest == {}


def test_a_path_is_found_too_and_one_of_the_store_keeps_its_manifest(some: Workspace, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert some.find(str(tmp_path / "elsewhere")).manifest == {}
    assert some.find(str(some.outputs / "store" / "sft" / "bb22")).name == "sft/bb22"
    with pytest.raises(UserError, match="no artifact"):
        some.find("dd")


def test_values_and_options_come_from_the_composed_config() -> None:
    given = Workspace(("replicate=3",))
    assert given.value("stages.sft.seed") == 3
    assert given.value("stages.sft.seed", "replicate=4") == 4
    assert {"microworld", "two_principles", "paper_files"} <= set(given.options("constitution"))
    assert len(given.build("constitution", "constitution=two_principles").principles) == 2
    with pytest.raises(UserError, match=r"needs the result of stages\.base"):
        given.build("roles")


def test_a_file_stands_in_for_an_option_and_its_errors_have_lines(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(FAULTY)
    given = Workspace(())
    option = given.option("constitution", str(file))
    assert option.value["name"] == "mine" and "(A)" in option.value["comparison_template"]
    with pytest.raises(UserError, match=rf"^{file}:4: principles\[0\]\.revision: missing"):
        option.build()
    with pytest.raises(UserError, match=r"no option 'microwold'\. Did you mean 'microworld'"):
        given.option("constitution", "microwold")
    file.write_text("a: b: c")
    with pytest.raises(UserError, match=r"mine\.yaml: not YAML"):
        given.option("constitution", str(file))


def test_overrides_are_taken_out_of_the_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Module:
        @staticmethod
        def main(arguments: list[str], given: Workspace) -> int:
            seen.append((arguments, given.overrides))
            raise ValueError("two\nlines")

    monkeypatch.setattr(workspace.importlib, "import_module", lambda _: Module)
    with pytest.raises(UserError, match="two\nlines"):
        command("x", ["lint", "runtime.outputs=o", "./a=b", "--say=x=1", "data.root=d", "+a.b=1"])
    # a data set that is not the chosen one may be meant
    assert seen == [(["lint", "./a=b", "--say=x=1"], ("runtime.outputs=o", "++data.root=d", "+a.b=1"))]


def test_only_modules_with_a_main_are_commands() -> None:
    assert "constitution" in commands()
    assert not {"workspace", "__init__"} & set(commands())
    assert not set(commands()) & set(cli.COMMANDS)


def test_help_lists_them_and_an_error_is_one_line(tmp_path: Path) -> None:
    shown = cai("--help", cwd=tmp_path)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "cai constitution lint|diff|show" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 130
    failed = cai("constitution", "lint", "none", cwd=tmp_path)
    assert (failed.returncode, failed.stderr.count("\n")) == (1, 1)
    assert failed.stderr.startswith("cai: constitution: no option 'none'")
    own = cai("constitution", "-h", cwd=tmp_path)
    assert own.returncode == 0 and own.stdout.startswith("usage: cai constitution")
    unknown = cai("constitutoin", cwd=tmp_path)
    assert "Did you mean 'constitution'?" in unknown.stderr


def test_a_plan_places_what_is_wrong_with_the_chosen_constitution(tmp_path: Path) -> None:
    folder = tmp_path / "constitution"
    folder.mkdir()
    file = folder / "mine.yaml"
    search = f"hydra.searchpath=[file://{tmp_path}]"
    said = {
        FAULTY: f"{file}:4: stages.revisions.constitution: principles[0].revision: missing",
        FAULTY + "    revison: x\n": f"{file}:6: stages.revisions.constitution: principles[0].revison: unknown key",
        FAULTY + "    revision: 3\n": f"{file}:6: stages.revisions.constitution.principles.0.revision: 3 given, but",
        FAULTY + "shots: []\n": f"{file}:6: stages.revisions.constitution.shots: ",
    }
    for text, message in said.items():
        file.write_text(text)
        with pytest.raises(UserError) as caught:
            cli.plan([search, "constitution=mine", f"runtime.outputs={tmp_path}/out"])
        assert str(caught.value).startswith(message)
    file.write_text("name: [\n")
    broken = cai("plan", search, "constitution=mine", cwd=tmp_path)
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)
    assert "mine.yaml" in broken.stderr and "line 2" in broken.stderr


def test_a_value_from_the_command_line_is_not_placed_in_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        cli.plan(["constitution.comparison_template=x", f"runtime.outputs={tmp_path}/out"])
    assert str(caught.value).startswith("stages.revisions.constitution: comparison_template: has the fields none")
