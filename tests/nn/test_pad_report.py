"""Thresholds that know their origin, the report that uses them, its table and its pictures."""

from __future__ import annotations

import json
import math
import sys

import cv2
import numpy as np
import pytest

from operators.nn.pad.bootstrap import BootstrapConfig
from operators.nn.pad.errors import EvaluationError
from operators.nn.pad.listing import read_folder
from operators.nn.pad.metrics import Presentations, apcer_by_species, bpcer_rate, eer, hter, sweep
from operators.nn.pad.plots import plot_histograms, plot_roc
from operators.nn.pad.protocol import Shares, held_out_identities
from operators.nn.pad.report import ACER, build_report, evaluate, to_json
from operators.nn.pad.scoring import per_video, score_items
from operators.nn.pad.table import text_table
from operators.nn.pad.threshold import (
    ORACLE,
    Threshold,
    ThresholdRule,
    choose_threshold,
    oracle_threshold,
    threshold_from_dict,
)

DRAWS = BootstrapConfig(draws=60, seed=1)


def data(prefix: str, seed: int, shift: float = 0.0, rows: int = 240) -> Presentations:
    """Live N(2 + shift, 1), prints N(shift, 1), masks N(0.6 + shift, 1) of 12 people."""
    rng = np.random.default_rng(seed)
    species = np.array(["", "", "print", "mask"])[np.arange(rows) % 4]
    mean = np.select([species == "", species == "mask"], [2.0, 0.6], 0.0) + shift
    score = rng.normal(size=rows) + mean
    score[:6] = np.nan
    people = np.char.add(prefix, (np.arange(rows) // 4 % 12).astype(np.str_))
    return Presentations(score, species == "", species, people)


DEV, TEST = data("d", 0), data("t", 1, shift=0.4)


class TestThreshold:
    def test_each_rule_does_on_development_data_what_it_says(self):
        counts = sweep(DEV)
        by_eer = choose_threshold(DEV, ThresholdRule("eer", 0.0))
        assert hter(counts, by_eer.value) == pytest.approx(eer(counts).value, abs=0.01)
        by_apcer = choose_threshold(DEV, ThresholdRule("apcer", 0.1))
        assert max(rate.value for rate in apcer_by_species(counts, by_apcer.value).values()) <= 0.1
        by_bpcer = choose_threshold(DEV, ThresholdRule("bpcer", 0.1))
        n = by_bpcer.n_live
        assert abs(bpcer_rate(counts, by_bpcer.value).value - 0.1) <= 1 / n
        assert (by_bpcer.n_attack, by_eer.n_attack) == (0, 118)

    def test_the_real_only_rule_never_looks_at_attacks(self):
        rows = DEV.is_live
        alone = Presentations(*(column[rows] for column in vars(DEV).values()))
        rule = ThresholdRule("bpcer", 0.05)
        assert choose_threshold(alone, rule) == choose_threshold(DEV, rule)
        for other in ("eer", "apcer"):
            with pytest.raises(EvaluationError, match="needs bona fide and attack"):
                choose_threshold(alone, ThresholdRule(other, 0.0))

    def test_too_little_to_choose_from_is_told(self):
        with pytest.raises(EvaluationError, match="needs at least 999 real faces"):
            choose_threshold(DEV, ThresholdRule("bpcer", 0.001))
        silent = Presentations(DEV.score * math.nan, DEV.is_live, DEV.species, DEV.identity)
        with pytest.raises(EvaluationError, match="no scored bona fide"):
            choose_threshold(silent, ThresholdRule("bpcer", 0.1))

    @pytest.mark.parametrize(
        "rule", [("eer", 0.05), ("youden", 0.0), ("bpcer", 1.0), ("apcer", math.nan)]
    )
    def test_senseless_rules_are_refused(self, rule):
        with pytest.raises(EvaluationError, match="rule"):
            ThresholdRule(*rule)

    def test_through_json_and_back_and_damage_named(self):
        chosen = choose_threshold(DEV, ThresholdRule("bpcer", 0.05), "camera door, 120 faces")
        stored = json.loads(json.dumps(chosen.to_dict()))
        assert threshold_from_dict(stored) == chosen
        with pytest.raises(EvaluationError, match="a threshold has"):
            threshold_from_dict({"value": 1.0})
        for name, wrong in (("value", "1"), ("value", math.nan), ("n_live", 1.5), ("rule", None)):
            with pytest.raises(EvaluationError, match=r"threshold"):
                threshold_from_dict(stored | {name: wrong})


class TestReport:
    REPORT = evaluate(DEV, TEST, ThresholdRule("eer", 0.0), DRAWS, "video")

    def test_the_threshold_is_developments_and_the_oracle_stands_beside_it(self):
        chosen = choose_threshold(DEV, ThresholdRule("eer", 0.0))
        counts = sweep(TEST)
        assert self.REPORT["threshold"]["value"] == chosen.value
        assert self.REPORT["threshold"]["set_on"] == "development"
        assert self.REPORT["at_threshold"]["HTER"]["value"] == hter(counts, chosen.value)
        oracle = self.REPORT["oracle"]
        assert oracle["label"] == ORACLE
        assert oracle["threshold"] == oracle_threshold(TEST).value != chosen.value
        assert oracle["HTER"]["value"] < self.REPORT["at_threshold"]["HTER"]["value"]

    def test_every_figure_of_the_field_is_there_with_an_interval(self):
        at, free = self.REPORT["at_threshold"], self.REPORT["threshold_free"]
        assert set(at) == {"APCER", "APCER max", "BPCER", "HTER", ACER}
        assert set(at["APCER"]) == {"mask", "print"}
        assert at["APCER max"]["species"] == "mask"
        assert set(free) == {
            "note", "AUC", "D-EER", "BPCER10", "BPCER20", "BPCER100", "BPCER at APCER=0",
            "TPR@FPR=1%",
        }  # fmt: skip
        figures = [at["APCER"]["mask"], at["BPCER"], at["HTER"], at[ACER], at["APCER max"]]
        for figure in figures + [free[name] for name in free if name != "note"]:
            low, high = figure["interval"]
            assert low <= high
            assert low >= 0
            assert high <= 1
        assert "not ISO/IEC 30107-3 conformant" in ACER

    def test_counts_and_silence(self):
        sizes, silent = self.REPORT["presentations"], self.REPORT["non_response"]
        assert sizes["bona fide"] == {"n": 120, "responded": 116, "identities": 12}
        assert sizes["attacks"]["print"] == {"n": 60, "responded": 59, "identities": 12}
        assert silent["BPNRR"] == {"value": 4 / 120, "n": 120, "silent": 4}
        assert silent["APNRR"]["mask"]["silent"] == 1

    def test_it_is_json_and_the_same_every_time(self):
        again = evaluate(DEV, TEST, ThresholdRule("eer", 0.0), DRAWS, "video")
        assert to_json(again) == to_json(self.REPORT)
        assert json.loads(to_json(self.REPORT)) == self.REPORT

    def test_no_error_states_three_over_n(self):
        report = build_report(TEST, Threshold(-99.0, "bpcer", 0.05, "else", 10, 0), DRAWS, "video")
        bpcer = report["at_threshold"]["BPCER"]
        assert (bpcer["value"], bpcer["errors"], bpcer["n"]) == (0.0, 0, 116)
        assert bpcer["upper_95"] == pytest.approx(3 / 116)
        assert bpcer["upper_95_identities"] == pytest.approx(3 / 12)
        assert "0 of 116; at most 2.59 % (3/n), 25.00 % (3/people)" in text_table(report)

    def test_people_on_both_sides_are_refused(self):
        with pytest.raises(EvaluationError, match=r"12 identities are in development and test"):
            evaluate(TEST, TEST, ThresholdRule("eer", 0.0), DRAWS, "video")

    def test_an_oracle_threshold_is_refused_as_a_result(self):
        with pytest.raises(EvaluationError, match="no result can rest on it"):
            build_report(TEST, oracle_threshold(TEST), DRAWS, "video")

    def test_one_class_is_told(self):
        rows = TEST.is_live
        alone = Presentations(*(column[rows] for column in vars(TEST).values()))
        with pytest.raises(EvaluationError, match="attack"):
            evaluate(DEV, alone, ThresholdRule("eer", 0.0), DRAWS, "video")

    def test_one_person_has_figures_but_no_intervals(self):
        same = Presentations(TEST.score, TEST.is_live, TEST.species, np.full(240, "t"))
        report = evaluate(DEV, same, ThresholdRule("eer", 0.0), DRAWS, "frame")
        assert report["at_threshold"]["HTER"]["interval"] is None
        assert report["bootstrap"]["missing"] == "no intervals: 1 identity"
        assert "no intervals: 1 identity" in text_table(report)

    def test_the_table_says_it_in_the_standards_words(self):
        text = text_table(self.REPORT)
        for words in (
            "not a certified", "APCER, species mask", "APCER, maximum (mask)", "BPNRR 3.33 %",
            "ACER (not ISO/IEC 30107-3 conformant)", "fixed by D-EER on development",
            "HTER (oracle)", "Oracle: chosen on the test data itself", "BPCER at APCER=0",
            "95 % bootstrap over identities, 60 draws, seed 1",
        ):  # fmt: skip
            assert words in text
        assert text.index("At threshold") < text.index("Oracle")

    def test_notes_warn_of_flipped_scores_few_attacks_and_silent_species(self):
        notes = " ".join(self.REPORT["notes"])
        assert "BPCER100 equals BPCER at APCER=0 for too few attacks: mask (59), print" in notes
        assert "BPCER20" not in notes
        assert "AUC below" not in notes
        silent = np.where(TEST.species == "mask", np.nan, -TEST.score)
        flipped = Presentations(silent, TEST.is_live, TEST.species, TEST.identity)
        report = evaluate(DEV, flipped, ThresholdRule("eer", 0.0), DRAWS, "video")
        notes = " ".join(report["notes"])
        assert "AUC below 0.5" in notes
        assert "no presentation could be scored: mask" in notes
        assert "TPR@FPR=1% is that at FPR=0: 59 attacks" in notes
        assert "mask" not in report["at_threshold"]["APCER"]
        assert "AUC below 0.5" in text_table(report)


def test_from_a_folder_to_the_table(tmp_path):
    """Every step in a row, with a scorer that reads its score from the file."""
    rng = np.random.default_rng(0)
    for person in range(20):
        for place, mean in (("live", 3.0), ("spoof/print", 0.0), ("spoof/mask", 0.5)):
            folder = tmp_path / "lab" / place / f"p{person}"
            folder.mkdir(parents=True)
            for clip in range(2):
                score = np.array([rng.normal() + mean])
                (folder / f"{clip}.jpg").write_bytes(b"\xff\xd8\xff" + score.tobytes())

    def score(path):
        return [float(np.frombuffer(path.read_bytes()[3:])[0]), "blurred"]

    split = held_out_identities(read_folder(tmp_path), Shares(0.0, 0.5, 0.5))
    development, test = (
        per_video(list(score_items(items, score))) for items in (split.development, split.test)
    )
    report = evaluate(development, test, ThresholdRule("bpcer", 0.1), DRAWS, "video")
    assert report["presentations"]["bona fide"] == {"n": 20, "responded": 20, "identities": 10}
    assert report["threshold"]["n_live"] == 20
    assert 0.9 < report["threshold_free"]["AUC"]["value"] < 1
    assert "APCER, species mask" in text_table(report)


class TestPlots:
    def test_roc_and_histograms_are_pictures_and_equal_every_time(self, tmp_path):
        roc, histogram = tmp_path / "roc.png", tmp_path / "scores.png"
        plot_roc({"test": TEST, "development": DEV}, roc)
        plot_histograms(TEST, {"fixed": 1.0, "oracle": 1.2, "door": 0.9}, histogram)
        for path in (roc, histogram):
            picture = cv2.imread(str(path))
            assert picture.shape == (540, 720, 3)
            assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
        first = roc.read_bytes()
        plot_roc({"test": TEST, "development": DEV}, roc)
        assert roc.read_bytes() == first

    def test_equal_scores_can_be_drawn(self, tmp_path):
        flat = Presentations(np.full(240, 0.5), TEST.is_live, TEST.species, TEST.identity)
        plot_histograms(flat, {}, tmp_path / "flat.png")
        plot_roc({"flat": flat}, tmp_path / "flat-roc.png")
        assert (tmp_path / "flat.png").stat().st_size > 1000

    def test_nothing_to_draw_is_told(self, tmp_path):
        silent = Presentations(np.full(240, np.nan), TEST.is_live, TEST.species, TEST.identity)
        with pytest.raises(EvaluationError, match="nothing to plot"):
            plot_histograms(silent, {}, tmp_path / "x.png")
        with pytest.raises(EvaluationError, match="no curve"):
            plot_roc({}, tmp_path / "x.png")

    def test_without_matplotlib_it_says_what_is_missing(self, tmp_path, monkeypatch):
        for name in ("matplotlib.figure", "matplotlib.backends.backend_agg"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(EvaluationError, match="plots need matplotlib"):
            plot_roc({"test": TEST}, tmp_path / "x.png")
