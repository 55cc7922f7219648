from pathlib import Path

import pytest

from cai_lightning.experiment.places import chain, place, place_of

YAML = """\
# a comment
name: small
principles:
  - id: one
    critique: "c"
    revision:
      "r"
  - {id: two, comparison: m}
template: "x"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(YAML)
    (tmp_path / "child.yaml").write_text("defaults: [base, _self_]\nprinciples:\n  - id: one\n    critique: c\n")
    (tmp_path / "x.json").write_text('{"harm0": {"prompt": ["a"],\n "edit": "b"}}')
    return tmp_path


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("name", 2),
        ("principles[0]", 4),
        ("principles[0].revision", 6),
        ("principles.0.revision", 6),
        ("principles[1].comparison", 8),
        ("principles[1].critique", 8),  # missing: the entry
        ("principles[7].id", 3),  # missing: the list
    ],
)
def test_a_key_is_placed_at_its_line(folder: Path, key: str, line: int) -> None:
    assert place(key, [folder / "base.yaml"]) == f"{folder}/base.yaml:{line}"


def test_an_unknown_key_is_placed_in_the_file(folder: Path) -> None:
    assert place("nothing", [folder / "base.yaml"]) == f"{folder}/base.yaml"


def test_a_file_hides_the_lists_of_those_before_it(folder: Path) -> None:
    known = {path.stem: path for path in folder.glob("*.yaml")}
    files = chain(folder / "child.yaml", known)
    assert files == [folder / "base.yaml", folder / "child.yaml"]
    assert place("principles[0].revision", files) == f"{folder}/child.yaml:3"
    assert place("template", files) == f"{folder}/base.yaml:9"


def test_json_has_a_column_too(folder: Path) -> None:
    assert place("harm0.edit", [folder / "x.json"]) == f"{folder}/x.json:2:2"
    assert place("harm0.prompt[0]", [folder / "x.json"]) == f"{folder}/x.json:1:23"


def test_errors_are_placed_by_what_they_begin_with(folder: Path) -> None:
    files = [folder / "base.yaml"]
    assert place_of("principles[0].revision: missing; give one", files) == f"{folder}/base.yaml:6"
    assert place_of(f"{folder}/x.json[harm0].edit: must be text", files) == f"{folder}/x.json:2:2"
    assert place_of("something else happened", files) is None
    assert place_of("principles[0].revision: missing", []) is None
