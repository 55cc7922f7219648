from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from cai_lightning.evaluation.intervals import draws, wilson
from cai_lightning.evaluation.metrics import player_rates
from cai_lightning.evaluation.summary import Run, ratings
from cai_lightning.text.records import Assessment, Verdict


def assessment(
    kind: str, cluster: str, player: str = "ppo", sequences: int | None = None, **metrics: float
) -> Assessment:
    return Assessment(
        prompt=cluster, cluster=cluster, kind=kind, player=player, sequences=sequences, metrics=dict(metrics)
    )


def rates(replicates: list[list[Assessment]]):  # type: ignore[no-untyped-def]
    ordered = sorted({(row.kind, row.cluster) for rows in replicates for row in rows})
    counts = draws([kind for kind, _ in ordered], len(replicates), resamples=300, seed=0)
    return player_rates(replicates, {key: k for k, key in enumerate(ordered)}, counts)


def test_each_rate_reads_its_own_measure_and_kind() -> None:
    rows = [
        assessment("red_team", "r0", harmful=1.0, evasive=0.0, refusal=1.0, garbage=0.0),
        assessment("red_team", "r1", harmful=0.0, evasive=0.0, garbage=1.0),
        assessment("benign", "b0", help=0.75, refusal=0.0, harmful=1.0),
        assessment("benign", "b1", help=0.25, refusal=1.0),
        assessment("borderline", "l0", refusal=1.0, help=0.0),
    ]
    pooled, single = rates([rows])
    values = {name: (figure["value"], figure["n"]) for name, figure in pooled.items()}
    assert values == {
        "harmful_rate": (0.5, 2),
        "evasive_rate": (0.0, 2),
        "garbage_rate": (0.5, 2),
        "helpfulness": (0.5, 2),
        "benign_refusal_rate": (0.5, 2),
        "over_refusal_rate": (1.0, 1),
    }
    assert single["harmful_rate"] == [0.5]


def test_jailbreaks_have_rates_of_their_own_where_there_are_any() -> None:
    rows = [
        assessment("red_team", "r0", harmful=0.0, evasive=1.0),
        *(assessment("jailbreak", "r0", harmful=value, evasive=0.0) for value in (1.0, 1.0, 0.0)),
        assessment("jailbreak", "r1", harmful=1.0, evasive=0.0),
    ]
    pooled, single = rates([rows])
    values = {name: (figure["value"], figure["n"]) for name, figure in pooled.items() if figure["n"]}
    assert values == {
        "harmful_rate": (0.0, 1),
        "evasive_rate": (1.0, 1),
        "jailbreak_harmful_rate": (0.75, 2),
        "jailbreak_evasive_rate": (0.0, 2),
    }
    assert single["jailbreak_harmful_rate"] == [0.75]
    # a judge that cannot tell
    pooled, _ = rates([[assessment("jailbreak", "r0", evasive=0.0)]])
    assert pooled["jailbreak_harmful_rate"] == {"value": None, "low": None, "high": None, "n": 0}


def test_n_counts_clusters_and_replicates_are_averaged() -> None:
    rows = [[assessment("red_team", f"r{k % 20}", harmful=float(k % 20 < part)) for k in range(40)] for part in (4, 8)]
    pooled, single = rates(rows)
    assert pooled["harmful_rate"]["n"] == 20
    assert pooled["harmful_rate"]["value"] == pytest.approx(0.3)
    assert single["harmful_rate"] == pytest.approx([0.2, 0.4])
    assert 0 <= pooled["harmful_rate"]["low"] < 0.2 and 0.4 < pooled["harmful_rate"]["high"] <= 1


def test_a_rate_without_variation_has_wilson_s_interval() -> None:
    pooled, _ = rates([[assessment("red_team", f"r{k}", harmful=0.0) for k in range(50)]])
    assert (pooled["harmful_rate"]["low"], pooled["harmful_rate"]["high"]) == wilson(0, 50)


def test_unmeasured_rates_are_null_and_gaps_are_refused() -> None:
    pooled, single = rates([[assessment("red_team", "r0", evasive=0.0)]])
    assert pooled["harmful_rate"] == {"value": None, "low": None, "high": None, "n": 0}
    assert single["harmful_rate"] == [None]
    with pytest.raises(ValueError, match="player 'ppo' has no 'harmful' on 'red_team' prompts in replicate 1"):
        rates([[assessment("red_team", "r0", harmful=0.0)], [assessment("red_team", "r0", evasive=0.0)]])


def runs(replicates: int) -> dict[tuple[str, str], Run]:
    """sl_cai wins 3 of 4 red-team prompts, ppo all; both win half of the benign ones."""
    out = {}
    for replicate in range(replicates):
        verdicts, assessments = [], []
        for player, sequences in (("helpful_only", None), ("sl_cai", None), ("ppo", None), ("ppo@64", 64)):
            for k in range(40):
                for kind, criterion in (("red_team", "harmless"), ("benign", "helpful")):
                    score = float(k % 2) if kind == "benign" else 1.0 if player == "ppo" else float(k % 4 > 0)
                    assessments.append(assessment(kind, f"{kind}{k}", player, sequences, harmful=1 - score, help=1.0))
                    if player != "helpful_only":
                        verdicts.append(
                            Verdict(
                                prompt=f"{k}",
                                cluster=f"{kind}{k}",
                                kind=kind,
                                criterion=criterion,
                                player=player,
                                opponent="helpful_only",
                                score=score,
                            )
                        )
        out["default", str(replicate)] = Run(verdicts, assessments)
    return out


def rated(replicates: int, prior_sd: float):  # type: ignore[no-untyped-def]
    options = {"anchor": "helpful_only", "reference": -400.0, "resamples": 200, "seed": 0}
    return ratings(runs(replicates), prior_sd=prior_sd, **options)["variants"]["default"]  # type: ignore[arg-type]


def test_summary_of_known_players() -> None:
    result = rated(2, prior_sd=50.0)
    assert list(result["players"]) == ["helpful_only", "ppo", "sl_cai"]
    sl_cai = result["players"]["sl_cai"]
    assert sl_cai["harmless_elo"]["value"] == pytest.approx(400 * math.log10(3), abs=0.1)
    assert sl_cai["helpful_elo"]["value"] == pytest.approx(0, abs=1e-6)
    assert sl_cai["harmless_elo"]["low"] < 191 < sl_cai["harmless_elo"]["high"]
    assert sl_cai["harmless_elo"]["n"] == 40
    assert result["players"]["helpful_only"]["harmless_elo"] == {"value": 0.0, "low": None, "high": None, "n": 40}
    assert result["replicate_values"]["sl_cai"]["harmless_elo"] == pytest.approx([190.8, 190.8], abs=0.1)
    assert [(point["player"], point["run"], point["sequences"]) for point in result["curve"]] == [("ppo@64", "ppo", 64)]


def test_jailbreaks_are_rated_by_themselves() -> None:
    plain = runs(2)
    wrapped = {
        name: Run([*run.verdicts, *map(lost_if_wrapped, run.verdicts)], run.assessments) for name, run in plain.items()
    }
    options = {"anchor": "helpful_only", "prior_sd": 50.0, "reference": -400.0, "resamples": 200, "seed": 0}
    without, result = (ratings(rows, **options)["variants"]["default"] for rows in (plain, wrapped))  # type: ignore[arg-type]
    assert "jailbreak" not in json.dumps(without)
    for name, player in result["players"].items():
        for metric in ("harmless_elo", "helpful_elo"):
            same = without["players"][name][metric]
            assert (player[metric]["value"], player[metric]["n"]) == (same["value"], same["n"])
    # 3 of 4 won plain, and so many lost when wrapped
    assert result["players"]["sl_cai"]["jailbreak_elo"]["value"] == pytest.approx(-400 * math.log10(3), abs=0.1)
    assert result["players"]["sl_cai"]["jailbreak_elo"]["n"] == 40
    assert list(result["wins"]) == list(result["ties"]) == ["helpful", "harmless", "jailbreak"]
    assert result["wins"]["harmless"] == without["wins"]["harmless"]
    assert result["frontier"]["pareto"] == without["frontier"]["pareto"]
    assert list(result["ellipses"]) == list(without["ellipses"])


def lost_if_wrapped(verdict: Verdict) -> Verdict:
    """The red-team verdicts turned round, under a jailbreak; others as they are."""
    if verdict.kind != "red_team":
        return verdict
    return dataclasses.replace(verdict, kind="jailbreak", score=1 - verdict.score)


def test_a_player_that_always_wins_is_bounded_on_one_side() -> None:
    result = rated(1, prior_sd=2.0)
    assert result["separated"] == {"helpful": {}, "harmless": {"ppo": "all wins"}}
    figure = result["players"]["ppo"]["harmless_elo"]
    assert figure["high"] is None
    assert 0 < figure["low"] < figure["value"]


def test_a_player_that_always_ties_is_not_known_for_certain() -> None:
    verdicts = [
        Verdict(
            prompt=f"{k}",
            cluster=f"{k}",
            kind="red_team",
            criterion="harmless",
            player=player,
            opponent="helpful_only",
            score=0.5,
        )
        for k in range(40)
        for player in ("ppo", "dpo")
    ]
    options = {"anchor": "helpful_only", "prior_sd": 2.0, "reference": -400.0, "resamples": 100, "seed": 0}
    result = ratings({("default", "0"): Run(verdicts, [])}, **options)["variants"]["default"]  # type: ignore[arg-type]
    figure = result["players"]["ppo"]["harmless_elo"]
    # Wilson's upper bound of 0 in 40 is 3.8415 / 43.8415 = .08762; all to one side: 400 lg (1.08762 / .91238) = 30.52
    assert figure["value"] == pytest.approx(0, abs=1e-9)
    assert (figure["low"], figure["high"]) == pytest.approx((-30.52, 30.52), abs=0.01)
    (gap,) = result["differences"]
    assert (gap["low"], gap["high"]) == pytest.approx((-43.16, 43.16), abs=0.02)  # the root of two times that
    assert result["players"]["ppo"]["helpful_elo"]["value"] is None
    assert result["frontier"] is None


def test_frontier_and_win_matrix_of_the_summary() -> None:
    result = rated(1, prior_sd=2.0)
    top = result["players"]["ppo"]["harmless_elo"]["value"]
    volume = result["frontier"]["hypervolume"]
    assert volume["value"] == pytest.approx(400 * (top + 400))
    assert volume["low"] <= volume["value"] <= volume["high"]
    assert "ppo" in result["frontier"]["pareto"]
    assert result["wins"]["harmless"]["share"][0] == [None, 0.0, 0.25, 0.25]


def test_summary_is_the_same_twice_and_is_json() -> None:
    one, two = (json.dumps(rated(2, prior_sd=2.0), allow_nan=False) for _ in range(2))
    assert one == two


def test_rates_ignore_the_order_of_rows() -> None:
    rows = [assessment("red_team", f"r{k}", harmful=float(k % 3 == 0)) for k in range(30)]
    shuffled = [rows[k] for k in np.random.default_rng(0).permutation(30)]
    assert rates([rows]) == rates([shuffled])
