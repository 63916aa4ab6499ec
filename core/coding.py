"""How video and HEIF code colours: the code points of ITU-T H.273 (CICP), by name, and the way to linear light.

SDR is shown as sRGB, whichever camera curve it names: so players show it, and so photos are. HDR is shown as on a
display of 1,000 cd/m2, with its reference white of 203 cd/m2 as 1 (ITU-R BT.2100 and BT.2408).
"""

from dataclasses import dataclass

import numpy as np

from relightgan.core.colour import srgb_to_linear

UNSPECIFIED = 2
REC709_XY = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)  # ITU-R BT.709: x, y of red, green, blue, white
SMPTE_C_XY = (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, 0.3127, 0.3290)
PAL_XY = (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, 0.3127, 0.3290)
REC2020_XY = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, 0.3127, 0.3290)
DCI_P3_XY = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351)
DISPLAY_P3_XY = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
# Table 2, those that cameras and phones write.
PRIMARIES = {
    1: ("Rec.709", REC709_XY), UNSPECIFIED: ("Rec.709 (assumed)", REC709_XY), 5: ("PAL", PAL_XY),
    6: ("SMPTE C", SMPTE_C_XY), 7: ("SMPTE C", SMPTE_C_XY), 9: ("Rec.2020", REC2020_XY), 11: ("DCI P3", DCI_P3_XY),
    12: ("Display P3", DISPLAY_P3_XY),
}  # fmt: skip
# Table 3.
SDR = {
    1: "Rec.709", UNSPECIFIED: "sRGB (assumed)", 4: "gamma 2.2", 5: "gamma 2.8", 6: "Rec.601", 7: "SMPTE 240M",
    11: "xvYCC", 12: "Rec.1361", 13: "sRGB", 14: "Rec.2020", 15: "Rec.2020",
}  # fmt: skip
LINEAR, PQ, HLG = 8, 16, 18
OTHERS = {LINEAR: "linear", 9: "log 100:1", 10: "log 316:1", PQ: "PQ", 17: "DCI gamma 2.6", HLG: "HLG"}
REFERENCE_WHITE, PEAK, PQ_PEAK = 203.0, 1000.0, 10_000.0  # cd/m2
REC2020_LUMA = np.array([0.2627, 0.6780, 0.0593], np.float32)


@dataclass(frozen=True)
class Coding:
    """The primaries and the transfer function that a movie or a HEIF file names."""

    primaries: int = UNSPECIFIED  # H.273, table 2
    transfer: int = UNSPECIFIED  # table 3

    @property
    def name(self) -> str:
        """For people, such as "HLG, Rec.2020"."""
        transfer = transfer_name(self.transfer)
        primaries = PRIMARIES.get(self.primaries, (f"primaries {self.primaries}", ()))[0]
        return transfer if primaries.startswith("Rec.709") else f"{transfer}, {primaries}"

    @property
    def problem(self) -> str:
        """Why it can't be made linear; empty where it can."""
        if self.transfer not in SDR and self.transfer not in (LINEAR, PQ, HLG):
            return f"{transfer_name(self.transfer)} can't be converted"
        if self.primaries not in PRIMARIES:
            return f"colour primaries {self.primaries} (H.273) can't be converted"
        if self.transfer == UNSPECIFIED and self.primaries == 9:
            return "it has Rec.2020 primaries and names no transfer function, as log footage does"
        return ""

    @property
    def is_hdr(self) -> bool:
        """Whether it goes on above reference white."""
        return self.transfer in (PQ, HLG)

    @property
    def is_srgb(self) -> bool:
        """Whether values are shown as sRGB as they are."""
        return self.transfer in SDR and self.xy == REC709_XY

    @property
    def xy(self) -> tuple[float, ...]:
        """CIE x, y of red, green, blue and white."""
        return PRIMARIES[self.primaries][1]

    def to_linear(self, coded: np.ndarray) -> np.ndarray:
        """(..., 3) float32 display light of the coding's primaries, 1 is (reference) white, from values of 0..1."""
        if self.transfer == LINEAR:
            return coded
        if self.transfer == PQ:  # SMPTE ST 2084
            root = np.clip(coded, 0, 1) ** np.float32(32 / 2523)
            light = np.maximum(root - np.float32(107 / 128), 0) / (
                np.float32(2413 / 128) - np.float32(2392 / 128) * root
            )
            return np.asarray(light ** np.float32(16384 / 2610) * np.float32(PQ_PEAK / REFERENCE_WHITE))
        if self.transfer == HLG:  # BT.2100, table 5; the display's gamma is 1.2
            a, b, c = 0.17883277, 0.28466892, 0.55991073
            scene = np.where(coded <= 0.5, coded**2 / 3, (np.exp((coded - c) / a) + b) / 12).astype(np.float32)
            brightness = np.maximum(scene @ REC2020_LUMA, 1e-6)[..., None] ** np.float32(0.2)
            return np.asarray(scene * brightness * np.float32(PEAK / REFERENCE_WHITE))
        return srgb_to_linear(coded)


def transfer_name(code: int) -> str:
    """What people call a transfer function of H.273."""
    return SDR.get(code) or OTHERS.get(code) or f"transfer function {code} (H.273)"
