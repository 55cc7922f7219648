from __future__ import annotations

import base64
import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from made_findings import ATTACK
from made_outputs import Outputs, outputs

from cai_lightning.report.finished import read_all
from cai_lightning.report.joined import Joined, apart, join
from cai_lightning.report.joined_files import write_all
from cai_lightning.report.joined_page import render


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return outputs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def page(folders: list[Path]) -> str:
    return render(joined(folders))


def joined(folders: list[Path], *, prompts: int = 9, characters: int = 9999) -> Joined:
    return join(read_all(folders, Path("nowhere")), "all", prompts=prompts, characters=characters)


class Outline(HTMLParser):
    """Tags, ids and links, all text outside of scripts, and the scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.links += [value for name, value in attrs if name in ("href", "src", "action") and value]
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        if self.lasttag == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def test_the_page_holds_two_scripts_of_its_own_and_nothing_that_a_model_wrote_is_markup(page: str) -> None:
    found = Outline(page)
    assert found.tags.count("script") == 2 and "em" not in found.tags
    data = json.loads(found.scripts[0])
    assert ATTACK in json.dumps(data["prompts"]) and "</script>" in json.dumps(data["prompts"])
    assert ATTACK not in found.scripts[1]
    for shown in (f"a note {ATTACK}", f"main {ATTACK}", f"kind {ATTACK}", f"Do more rounds help? {ATTACK}"):
        assert shown in found.text
    assert "2 groups are not comparable" in found.text and "4 of 4 prompts, chosen by the hash" in found.text
    assert "sure <em>now</em> ." in found.text
    assert found.text.count("Highest at") == 2 and f"RL-CAI (PPO) [main {ATTACK} 20260101-0000]" in found.text


def test_the_page_needs_nothing_else(folders: list[Path], page: str) -> None:
    found = Outline(page)
    assert not re.search(r"https?:|@import|url\((?!#)|\bimport\(|fetch\(|XMLHttp", page)
    inner = [link for link in found.links if link.startswith("#")]
    assert inner and all(link[1:] in found.ids for link in inner)
    assert all(link.startswith("data:text/csv") for link in found.links if link not in inner)
    assert len(found.ids) == len(set(found.ids))
    assert page == render(joined(folders))


def test_what_was_not_measured_alike_stands_on_axes_of_its_own(folders: list[Path], tmp_path: Path) -> None:
    found = joined(folders)
    assert [[one.place for one in axis.rated] for axis in found.axes] == [[0, 1, 2], [3]]
    assert apart(found.axes) == ["judges"]
    other = Outputs(tmp_path)
    players = {"helpful_only": (0.0, 0.0), "ppo": (1.0, 1.0)}
    runs = [
        other.run(f"runs/{k}", f"run {k}", {"ratings": other.rated(f"k{k}", players, judge="Oracle", prompts=prompts)})
        for k, prompts in enumerate(("p", "q", "p"))
    ]
    found = joined(runs)
    assert [[one.place for one in axis.rated] for axis in found.axes] == [[0, 2], [1]]
    assert apart(found.axes) == ["prompts"]
    verdicts = json.loads((tmp_path / "store/answers/helpful_only-q/manifest.json").read_text())
    verdicts["recipe"]["policy"] = {"stage": "another"}
    verdicts["recipe"]["prompts"] = [{"stage": "p"}]
    verdicts["upstream"] = {"policy": "import_model/another"}
    (tmp_path / "store/answers/helpful_only-q/manifest.json").write_text(json.dumps(verdicts))
    found = joined(runs)  # the same prompts now, but another model stands at 0
    assert len(found.axes) == 2 and apart(found.axes) == ["anchor models"]
    file = tmp_path / "store/ratings/k2/ratings.json"
    table = json.loads(file.read_text())
    table["variants"][""]["davidson"] = {}
    file.write_text(json.dumps(table))
    found = joined(runs)
    assert [[one.place for one in axis.rated] for axis in found.axes] == [[0], [1], [2]]
    assert apart(found.axes) == ["anchor models", "what a tie counts for"]


def test_players_that_differ_are_called_by_their_run_and_lines_begin_at_their_own_start(folders: list[Path]) -> None:
    axis = joined(folders).axes[0]
    first, second = (run.label for run in joined(folders).runs[:2])
    assert first == f"main {ATTACK} 20260101-0000" and second == f"main {ATTACK} 20260102-0000"
    assert axis.places["helpful_only"] == [0, 1, 2]
    values = {name: one["harmless_elo"]["value"] for name, one in axis.variant["players"].items()}
    assert values == {
        "helpful_only": 0.0,
        f"sl_cai [{first}]": 150.0,
        f"sl_cai [{second}]": 120.0,
        "sl_cai [kl]": 150.0,
        f"ppo [{first}]": 300.0,
        f"ppo [{second}]": 350.0,
        "ppo [kl=1]": 310.0,
        "ppo [kl=2]": 250.0,
    }
    starts = {one["run"]: one["harmless_elo"]["value"] for one in axis.variant["curve"] if one["sequences"] == 0}
    assert starts == {f"ppo [{first}]": 150.0, f"ppo [{second}]": 120.0, "ppo [kl=1]": 150.0, "ppo [kl=2]": 150.0}
    # (40, 250), (25, 310) and (-60, 350) are beaten by nobody on both axes; (20, 300) and the starts are
    assert set(axis.variant["frontier"]["pareto"]) == {"ppo [kl=2]", "ppo [kl=1]", f"ppo [{second}]"}


def test_equal_players_of_two_runs_are_one(tmp_path: Path) -> None:
    made_up = Outputs(tmp_path)
    players = {"helpful_only": (0.0, 0.0), "sl_cai": (1.0, 5.0), "ppo": (2.0, 9.0)}
    ratings = [made_up.rated(f"k{k}", players, judge="Oracle", prompts="p") for k in (0, 1)]
    runs = [made_up.run(f"runs/{k}", f"run {k}", {"ratings": name}) for k, name in enumerate(ratings)]
    (axis,) = joined(runs).axes
    assert axis.places == {name: [0, 1] for name in players}
    assert [(one["run"], one["sequences"]) for one in axis.variant["curve"]] == [("ppo", 64)]


def test_every_text_says_what_made_it(folders: list[Path]) -> None:
    texts = joined(folders).texts
    by_name = {one["name"]: one for one in texts["makers"]}
    ppo = by_name["answers/ppo-one"]
    assert ppo["model"] == "ppo/ppo" and ppo["seed"] == 7 and ppo["sampler"] == {"temperature": 1.0}
    assert ppo["from"] == {"sft": "sft/sft"}
    assert ppo["settings"] == {"kl": "FixedKL", "kl.kl_coef": "0.1", "note": ATTACK}
    assert ppo["players"] == [f"ppo [main {ATTACK} 20260101-0000]"] and ppo["runs"] == [0]
    assert by_name["answers/ppo[kl=2]-swept"]["players"] == ["ppo [kl=2]"]
    revising = by_name["revise/r"]
    assert revising["model"] == "import_model/base" and revising["constitution"] == f"two {ATTACK}"
    assert texts["principles"] == {f"kind {ATTACK}": ["which harm ?"]}
    (chain,) = [chain for one in texts["prompts"] for chain in one["chains"]]
    assert chain["reply"] == "sure <em>now</em> ."
    assert [(step["round"], step["critique"]) for step in chain["rounds"]] == [
        (1, f"harm 1 {ATTACK}"),
        (2, f"harm 2 {ATTACK}"),
    ]


def test_transcripts_are_chosen_by_hash_within_bounds_that_are_said(folders: list[Path]) -> None:
    every = joined(folders).texts
    assert every["total"] == 4 == len(every["prompts"])
    two = joined(folders, prompts=2).texts
    assert [one["id"] for one in two["prompts"]] == [one["id"] for one in every["prompts"][:2]]
    assert two["total"] == 4
    assert len(joined(folders, characters=1).texts["prompts"]) == 1
    backwards = joined(folders[::-1]).texts
    assert [one["id"] for one in backwards["prompts"]] == [one["id"] for one in every["prompts"]]


def test_figures_and_tables_lie_beside_the_page(folders: list[Path], tmp_path: Path) -> None:
    files = {str(path.relative_to(tmp_path)) for path in write_all(joined(folders), tmp_path)}
    assert {"report.html", "figures/frontier_1.png", "figures/elo_2.png", "figures/calibration.png"} <= files
    assert {"figures/rounds_of_revision.png", "tables/findings.csv", "tables/axes.csv"} <= files
    tables: dict[str, list[dict[str, Any]]] = {}
    for path in (tmp_path / "tables").glob("*.csv"):
        with path.open(newline="") as file:
            tables[path.stem] = list(csv.DictReader(file))
    sizes = {"runs": 4, "axes": 2, "calibration": 1, "findings": 17, "differences": 4, "frontiers": 4, "peaks": 5}
    assert {name: len(tables[name]) for name in sizes} == sizes
    assert len(tables["players"]) == (8 + 3) * 8
    found = [row for row in tables["players"] if row["player"] == "ppo [kl=2]" and row["metric"] == "helpful_elo"]
    assert [(row["axis"], row["runs"], row["value"], row["low"]) for row in found] == [("1", "kl", "40.0", "20.0")]
    assert tables["peaks"][2] == {
        "axis": "1",
        "line": "ppo [kl=1]",
        "criterion": "harmless",
        "at": "64",
        "among": "64, end",
        "peaked": "False",
    }
    assert tables["axes"][1]["judge"] == "Letters (strict=True)"
    assert {row["run"] for row in tables["findings"]} == {"kl"}
    assert {row["player"] for row in tables["findings"]} == {"revisions", "blind", "direct", ""}
    links = [link for link in Outline((tmp_path / "report.html").read_text()).links if link.startswith("data:")]
    taken = {base64.b64decode(link.partition(",")[2]) for link in links}
    assert taken == {path.read_bytes() for path in (tmp_path / "tables").glob("*.csv")}


def test_claims_come_first_and_lead_to_their_findings(page: str) -> None:
    found = Outline(page)
    assert found.links[:2] == ["#claims", "#joined"] and found.ids.index("claims") < found.ids.index("joined")
    part = page[page.index('id="claims"') : page.index('id="joined"')]
    said = " ".join(Outline(part).text.split())
    for count in ("1✓ reproduced", "1= equivalent", "1✗ contradicted", "1? inconclusive", "1– not decided"):
        assert count in said
    assert '<a href="#findings-0">rounds of revision</a>' in part
    for shown in ("expected: equal within 2.0 points", "−30.0", "−35.0 … −25.0", "Harmful, points", f"yes {ATTACK}"):
        assert shown in said


def test_findings_alone_are_a_page(tmp_path: Path) -> None:
    made_up = Outputs(tmp_path)
    run = made_up.run("runs/1", "ablation", {"findings": "findings/f"})
    page = Outline(render(joined([run])))
    assert "the first round helps" in page.text and "Transcripts" not in page.text and "form" not in page.tags


def test_errors_say_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    made_up = Outputs(tmp_path)

    def fails(match: str, *paths: Path) -> None:
        with pytest.raises(ValueError, match=match) as error:
            joined(list(paths))
        assert "\n" not in str(error.value)

    fails("no such folder; name one below runs/ or sweeps/", tmp_path / "nowhere")
    run = made_up.run("runs/1", "one", {"ratings": "ratings/gone"})
    fails(
        r"no finished run or sweep, for it has no run.json; name what lies below it, such as .*runs/1",
        tmp_path / "runs",
    )
    fails(r"ratings/gone is no longer in .*store; the same `cai run` makes it again", run)
    fails("no ratings, findings, tables or texts to show", made_up.run("runs/2", "two", {"base": "import_model/b"}))
    (run / "run.json").write_text("{")
    fails("run.json: not JSON", run)
    (run / "run.json").write_text("[]")
    fails("not the facts of a run", run)


def test_a_metric_that_some_players_lack_is_shown_of_the_others(page: str) -> None:
    head = next(row for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL) if "Harmless Elo" in row)
    assert head.index("Borderline refusals") < head.index("No reply")
