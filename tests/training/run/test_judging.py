"""What a run knows when it judges its looks: how to go on, whether the days overlap, and where its photos are."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from relightgan.training.fit.checkpoint import FitProgress
from relightgan.training.fit.held_out import Errors
from relightgan.training.fit.verdict import Findings
from relightgan.training.guidance.making import Guidance
from relightgan.training.guidance.maps import GuidanceMaps
from relightgan.training.pairs.patch_gains import GainSamples
from relightgan.training.run.config import resolve
from relightgan.training.run.held_out import evenly, photos_with_gains
from relightgan.training.run.judging import (
    Fitted,
    figures_of,
    go_on,
    next_limit,
    overlap_of,
    verdict_line,
    white_error,
)
from relightgan.training.run.train import MAX_RESERVE_S, seconds_for_fit


def run_of(**train):
    return SimpleNamespace(config=resolve({"train": train}))


def fitted(images=248, seconds=120.0, other_s=200.0, fits=1):
    return Fitted(Path(), FitProgress(images=images, seconds=seconds), other_s, fits)


def test_the_advised_time_is_enough_for_ten_thousand_images_at_the_speed_of_this_fit():
    words = go_on(fitted(), run_of(max_minutes=4))
    minutes = int(words.removeprefix("the same command and `--max-minutes ").rstrip("`"))
    allowed = seconds_for_fit(minutes, 200.0 - MAX_RESERVE_S, 1)
    assert allowed * 248 / 120 >= 10_000
    assert minutes in (90, 120)


def test_a_fit_limited_by_images_is_sent_on_by_images_and_by_both_where_both_limit_it():
    assert go_on(fitted(), run_of(images=64)) == "the same command and `--train.images 10000`"
    both = go_on(fitted(images=5000), run_of(images=5000, max_minutes=1))
    assert both == "the same command and `--max-minutes 10 --train.images 10000`"
    assert go_on(fitted(), run_of()) == "the same command"  # stopped by nothing that could be raised


def test_the_advised_time_is_never_what_was_given():
    assert go_on(fitted(images=9_900), run_of(max_minutes=500)) == "the same command and `--max-minutes 501`"
    assert [next_limit(minutes) for minutes in (3, 16, 120, 121)] == [5, 20, 120, 180]


def registered(joined, counts=(80, 80)):
    return SimpleNamespace(joined=joined, counts=counts)


def guidance_with(share):
    weight = np.zeros((1, 10, 10), np.float16)
    weight.reshape(-1)[: round(100 * share)] = 1
    maps = GuidanceMaps(np.zeros(1, int), np.zeros((1, 10, 10, 3), np.float16), weight)
    return Guidance({"ab": maps}, {}, np.zeros(0), (0, 0))


@pytest.mark.parametrize(
    ("guidance", "registration", "overlap"),
    [
        (guidance_with(0.66), registered((80, 80)), True),
        (guidance_with(0.1), registered((80, 80)), False),
        (None, registered((80, 3)), False),  # one day in one world, and hardly anything of the other
        (None, registered((30, 35)), True),  # badly registered photos prove nothing
        (None, None, True),
    ],
)
def test_days_without_overlap_are_told_from_days_that_could_not_be_registered(guidance, registration, overlap):
    dataset = SimpleNamespace(guidance=guidance, registration=registration)
    assert overlap_of(dataset, "ab")[2] is overlap


def test_the_error_of_white_is_that_of_the_end_of_the_fit(tmp_path):
    assert white_error(tmp_path) is None
    lines = [{"images": n, "losses": {"white": 1.0 if n < 20 else 0.2}} for n in range(40)]
    lines.append({"images": 40, "losses": {"held-out photos": 0.5}})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert white_error(tmp_path) == pytest.approx(0.2)


def test_figures_have_units_in_their_names_and_go_into_json():
    figures = figures_of(Findings(248, Errors(0.91234, 1.0, 0.7), 8, "guidance", True, 0.66, None, True, None))
    assert json.loads(json.dumps(figures)) == {
        "images": 248, "look_stops": 0.912, "untouched_stops": 1.0, "transfer_stops": 0.7, "coverage": 0.66,
        "photos": 8, "known_by": "guidance", "unseen": True,
    }  # fmt: skip
    assert figures_of(Findings(9)) == {"images": 9}


def test_the_last_line_names_the_look_its_verdict_and_what_to_do():
    stated = {"kind": "usable", "words": "off by 0.4 stops", "advice": "Go on."}
    assert verdict_line(Path("a/sunny.onnx"), stated) == "Verdict on sunny.onnx: usable: off by 0.4 stops. Go on."


def test_gains_of_patches_lie_where_the_patches_do():
    photo = np.full((30, 40, 3), 0.5, np.float32)
    xy = np.float32([[0.1, 0.1], [0.9, 0.9], [0.5, 0.5]])
    gains = GainSamples(
        np.array([0, 2, 3, 3]), xy, np.full((3, 3), 0.2, np.float32),
        np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1]]), np.float32([0.5, 1, 1]),
    )  # fmt: skip
    found = photos_with_gains([photo] * 3, gains, range(3))
    assert len(found) == 2  # the third has none
    first = found[0]
    assert np.count_nonzero(first.weight) == 2
    y, x = np.nonzero(first.weight == 0.5)
    assert (y[0] / first.weight.shape[0], x[0] / first.weight.shape[1]) == pytest.approx((0.1, 0.1), abs=0.06)
    own = first.wanted[first.weight == 1] - first.wanted[first.weight == 0.5]
    np.testing.assert_allclose(own, [[-1, 1, 0]], atol=1e-5)


def test_photos_are_chosen_evenly():
    assert evenly(100, 5).tolist() == [0, 25, 50, 74, 99]
    assert evenly(3, 5).tolist() == [0, 1, 2]
    assert evenly(0, 5).tolist() == []
