"""Verdicts from figures: each kind, its order with the length of a fit, and what it says to do next."""

from dataclasses import replace

import pytest

from relightgan.core.look_verdict import COLOURS
from relightgan.training.fit.held_out import Errors
from relightgan.training.fit.verdict import ENOUGH_IMAGES, Findings, judge, learned

GO_ON = "the same command and `--max-minutes 20`"
# As measured on the courtyard's held-out photos: images, error of the look.
COURTYARD = ((64, 0.97), (256, 0.95), (1000, 0.68), (3000, 0.32), (6000, 0.20))


def found(images, look, **more):
    values = {"errors": Errors(look, 0.98, 0.74), "photos": 8, "known_by": "guidance", **more}
    return Findings(images, **values)


def test_the_verdict_gets_better_with_the_fit_and_a_starved_one_is_never_usable():
    kinds = [judge(found(*measured), GO_ON).kind for measured in COURTYARD]
    assert kinds == ["under-fitted", "under-fitted", "under-fitted", "usable", "good"]
    assert [learned(kind) for kind in kinds] == [False, False, False, True, True]


def test_an_under_fitted_look_says_how_far_it_came_and_how_to_go_on():
    verdict = judge(found(248, 0.95), GO_ON)
    assert verdict.advice == "248 of about 10,000 images: go on with the same command and `--max-minutes 20`."
    assert "off by 0.95 stops on 8 photos that it had not seen" in verdict.words
    assert "untouched 0.98, a simple colour transfer 0.74" in verdict.words
    assert verdict.colour == "red"


def test_a_fit_that_had_its_time_is_not_sent_for_more_of_it():
    verdict = judge(found(ENOUGH_IMAGES, 0.7), GO_ON)
    assert verdict.kind == "weak"
    assert "--max-minutes" not in verdict.advice
    assert not learned(verdict.kind)


def test_days_that_differ_by_next_to_nothing_need_no_look_to_beat_a_transfer():
    assert judge(found(4000, 0.08, errors=Errors(0.08, 0.1, 0.07)), GO_ON).kind == "good"


def test_photos_without_overlap_are_named_whatever_the_figures_say():
    seen = judge(found(9000, 0.1, overlap=False, coverage=0.11), GO_ON)
    placed = judge(found(9000, 0.1, overlap=False, placed=0.04), GO_ON)
    assert seen.kind == placed.kind == "no overlap"
    assert "saw 11% of what these photos show" in seen.words
    assert "only 4% of one day's photos" in placed.words


def test_a_wrong_white_makes_a_good_look_usable_only():
    verdict = judge(found(6000, 0.2, white=0.5), GO_ON)
    assert verdict.kind == "usable"
    assert "white is off by 0.5 stops" in verdict.words
    assert judge(found(6000, 0.2, white=0.1), GO_ON).kind == "good"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"known_by": "patches"}, "less sure, from look-alike patches"),
        ({"unseen": False}, "that it learned from"),
        ({"photos": 1}, "on 1 photo that it had not seen"),
        ({"photos": 2}, "less sure, on few photos"),
    ],
)
def test_a_verdict_on_less_says_so(more, says):
    assert says in judge(found(6000, 0.2, **more), GO_ON).words
    assert "less sure" not in judge(found(6000, 0.2), GO_ON).words


@pytest.mark.parametrize("more", [{"known_by": "patches"}, {"unseen": False}])
def test_only_guidance_on_photos_that_it_did_not_see_can_call_a_look_good(more):
    assert judge(found(6000, 0.2), GO_ON).kind == "good"
    verdict = judge(found(6000, 0.2, **more), GO_ON)
    assert verdict.kind == "usable"
    assert "relightgan evaluate" in verdict.advice


def test_patches_ask_for_less_as_they_are_off_themselves():
    as_measured = {128: 0.449, 1000: 0.37}
    for images, look in as_measured.items():
        case = found(images, look, errors=Errors(look, 0.453, 0.435), known_by="patches")
        assert judge(case, GO_ON).kind == "under-fitted"


def test_without_anything_to_compare_with_nothing_is_claimed():
    verdict = judge(Findings(50_000), GO_ON)
    assert verdict.kind == "not measured"
    assert verdict.colour == ""
    assert "relightgan evaluate" in verdict.advice


def test_each_verdict_fits_into_a_line_of_the_node():
    for kind, case in {
        "good": found(6000, 0.2),
        "usable": found(999_999, 0.4, photos=2, known_by="patches", white=0.9),
        "under-fitted": found(9_999, 0.9, unseen=False, known_by="patches"),
        "weak": found(100_000, 0.9, photos=3, known_by="patches"),
        "no overlap": replace(found(1, 1), overlap=False, coverage=0.1),
        "not measured": Findings(1),
    }.items():
        verdict = judge(case, GO_ON)
        assert verdict.kind == kind
        assert kind in COLOURS
        assert len(f"Verdict: {verdict.line}") <= 200
        assert len(verdict.advice) <= 200
