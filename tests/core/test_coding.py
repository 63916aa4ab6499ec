"""The codings of video and HEIF, against the values that their standards print."""

import re

import numpy as np
import pytest

from relightgan.core.coding import Coding, transfer_name


def linear(coding, level):
    return coding.to_linear(np.full((1, 3), level, np.float32))[0]


@pytest.mark.parametrize(
    ("level", "nits"), [(0.0, 0.0), (0.5081, 100.0), (0.5807, 203.0), (0.7518, 1000.0), (1.0, 10_000.0)]
)
def test_pq_is_the_light_that_st2084_says(level, nits):
    assert linear(Coding(9, 16), level) == pytest.approx([nits / 203] * 3, rel=0.005, abs=1e-5)


@pytest.mark.parametrize(("level", "nits"), [(0.0, 0.0), (0.38, 26.0), (0.75, 203.0), (1.0, 1000.0)])
def test_hlg_is_the_light_that_bt2408_says(level, nits):
    """BT.2408-4, table 1: 18 % grey at 38 % of HLG, 26 cd/m2; reference white at 75 %, 203 cd/m2."""
    assert linear(Coding(9, 18), level) == pytest.approx([nits / 203] * 3, rel=0.03, abs=1e-4)


def test_sdr_is_shown_as_srgb_whatever_its_camera_curve():
    for transfer in (1, 2, 6, 13, 14):
        assert Coding(1, transfer).is_srgb
        assert linear(Coding(1, transfer), 0.5) == pytest.approx([0.2140] * 3, abs=1e-4)


@pytest.mark.parametrize(
    ("coding", "name"),
    [
        (Coding(), "sRGB (assumed)"),
        (Coding(1, 1), "Rec.709"),
        (Coding(12, 13), "sRGB, Display P3"),
        (Coding(9, 18), "HLG, Rec.2020"),
        (Coding(9, 16), "PQ, Rec.2020"),
    ],
)
def test_codings_have_names(coding, name):
    assert coding.name == name
    assert not coding.problem


@pytest.mark.parametrize(
    ("coding", "problem"),
    [
        (Coding(1, 10), "log 316:1 can't be converted"),
        (Coding(1, 77), r"transfer function 77 \(H.273\) can't be converted"),
        (Coding(22, 1), r"colour primaries 22 \(H.273\) can't be converted"),
        (Coding(9, 2), "names no transfer function, as log footage does"),
    ],
)
def test_what_cannot_be_converted_is_named(coding, problem):
    assert re.search(problem, coding.problem)


def test_transfers_have_the_names_people_use():
    assert [transfer_name(code) for code in (1, 13, 16, 18, 99)] == [
        "Rec.709", "sRGB", "PQ", "HLG", "transfer function 99 (H.273)",
    ]  # fmt: skip
