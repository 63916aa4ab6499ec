"""The registered set as an HTML page: its points and cameras in 3D, turned with the mouse, without any network."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from relightgan.core.colour import linear_to_srgb
from relightgan.training.photos.bank import Images
from relightgan.training.report.page import Block, Facts, Html, Section, Text, write_report
from relightgan.training.stops import from_stops, to_stops
from relightgan.training.world.point_colours import point_observations, robust_colours
from relightgan.training.world.registration import Registration

MAX_POINTS = 20_000  # points drawn at most; of a larger set, an even selection
SHOWN_STOPS = 2.0  # gain at the ends of the colour scale, stops
STEPS = 10_000  # whole steps from the middle of the set to its outer cameras; whole numbers keep the page small


def write_view(
    registration: Registration,
    banks: tuple[Images, Images],
    names: tuple[str, str],
    path: Path,
    more: Sequence[Section] = (),
) -> Path:
    """Writes the page.

    Args:
        registration: of both days.
        banks: the photos of each day, as they were registered.
        names: of the days, (source, target).
        path: .html file to write.
        more: sections to add at the end.

    Raises:
        TrainingError: it can't be written.
    """
    blocks: list[Block] = [
        Text("Drag to turn, Shift-drag to move, wheel to come closer. Each small pyramid is a photo."),
        Html(scene_html(registration, banks, names)),
    ]
    title = f"{names[0]} and {names[1]} in one world"
    sections = [Section("Cameras and points", blocks), Section("Figures", [Facts(figures(registration, names))]), *more]
    return write_report(path, title, registration.summary(), sections)


def figures(registration: Registration, names: tuple[str, str]) -> list[tuple[str, str]]:
    """The figures of a registration, as (name, value) rows."""
    solve = registration.solve
    observations = np.bincount(solve.seen_point, minlength=len(solve.points))
    lenses = np.unique(np.round(np.column_stack([solve.lenses[:, 0] / registration.sizes.max(axis=1)]), 4))
    rows = [
        (f"photos of {name} that joined", f"{joined:,} of {count:,}")
        for name, joined, count in zip(names, registration.joined, registration.counts, strict=True)
    ]
    a, b, across = registration.verified
    return [
        *rows,
        ("the days were solved", "alone, then put together" if registration.apart else "together"),
        ("pairs of photos with one geometry", f"{a:,} in {names[0]}, {b:,} in {names[1]}, {across:,} across"),
        ("points", f"{len(solve.points):,}, each in {observations.mean():.1f} photos"),
        ("points seen on both days", f"{int(registration.on_both_days.sum()):,}"),
        ("reprojection error", f"{solve.errors.mean():.2f} px at {int(registration.sizes.max())} px long side"),
        ("focal lengths", ", ".join(f"{lens:.3f}" for lens in lenses[:8]) + " of the long side"),
    ]


def scene_html(registration: Registration, banks: tuple[Images, Images], names: tuple[str, str]) -> str:
    """A canvas with its data and its script, as HTML."""
    data = json.dumps(scene(registration, banks), separators=(",", ":"))
    options = "".join(
        f'<label><input type="radio" name="colour" value="{value}"{checked}> {label}</label>'
        for value, label, checked in (
            ("a", f"colours of {_plain(names[0])}", " checked"),
            ("b", f"colours of {_plain(names[1])}", ""),
            ("gain", f"gain: blue darker, red brighter in {_plain(names[1])}", ""),
        )
    )
    boxes = "".join(
        f'<label><input type="checkbox" name="{name}" checked> <span style="color:{colour}">photos of '
        f"{_plain(label)}</span></label>"
        for name, colour, label in (("cameras_a", "#2f7ec4", names[0]), ("cameras_b", "#d9822b", names[1]))
    )
    return (
        f"<style>{_STYLE}</style><div class=scene><div>{options}{boxes}"
        '<label><input type="checkbox" name="both"> only points of both days</label></div>'
        f'<canvas width="1060" height="640"></canvas></div><script>const SCENE = {data};{_SCRIPT}</script>'
    )


def scene(registration: Registration, banks: tuple[Images, Images]) -> dict[str, object]:
    """The data of the page: points and cameras as whole numbers, rotated so that the photos' mean up is +z."""
    solve, number = registration.solve, len(registration.solve.points)
    shown = np.unique(np.linspace(0, number - 1, min(number, MAX_POINTS)).round().astype(int))
    colours = []
    for day, bank in enumerate(banks):
        stops, _, count = robust_colours(bank, point_observations(registration, day), number)
        linear = np.where(count[:, None] > 0, from_stops(stops), np.nan)
        colours.append(linear)
    both = np.isfinite(colours[0]) & np.isfinite(colours[1])
    gain = np.where(both, to_stops(np.nan_to_num(colours[1])) - to_stops(np.nan_to_num(colours[0])), 0)
    days = registration.numbering.day(solve.photos)
    turn = upright(solve.poses)
    middle = np.median(solve.points, axis=0)
    extent = np.percentile(np.linalg.norm(solve.centres - middle, axis=1), 95)
    scale = STEPS / max(float(extent), 1e-9)

    def steps(places: np.ndarray) -> list[int]:
        return [int(v) for v in np.clip(((places - middle) @ turn.T * scale).round(), -1e7, 1e7).ravel()]

    return {
        "points": steps(solve.points[shown]),
        "a": _bytes(colours[0][shown]),
        "b": _bytes(colours[1][shown]),
        "gain": [round(float(v), 2) for v in gain[shown].mean(axis=1).clip(-SHOWN_STOPS, SHOWN_STOPS)],
        "both": [int(v) for v in both[shown].all(axis=1)],
        "cameras": [
            {"b": int(day), "at": steps(corners)}
            for day, corners in zip(days, pyramids(registration, 0.05 * float(extent)), strict=True)
        ],
        "stops": SHOWN_STOPS,
        "size": STEPS,
    }


def upright(poses: np.ndarray) -> np.ndarray:
    """(3, 3) rotation of the photos' mean up direction to +z, from their poses (n, 3, 4)."""
    up = -poses[:, 1, :3].mean(axis=0)
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    across = np.cross(up, np.eye(3)[np.abs(up).argmin()])
    across = across / np.linalg.norm(across)
    return np.stack([across, np.cross(up, across), up])


def pyramids(registration: Registration, length: float) -> np.ndarray:
    """(n, 5, 3) tip and four corners of each camera's pyramid, `length` deep in the solve's unit."""
    solve = registration.solve
    half = registration.sizes / 2 / solve.lenses[:, :1] * length
    corners = np.array([[0, 0, 0], [-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]], float)
    local = corners[None] * np.concatenate([half, np.full((len(half), 1), length)], axis=1)[:, None]
    return np.einsum("nji,nkj->nki", solve.poses[:, :, :3], local) + solve.centres[:, None]


# Private implementation


def _bytes(linear: np.ndarray) -> list[int]:
    """Linear colours (n, 3) as sRGB 0xRRGGBB; -1 for NaN."""
    known = np.isfinite(linear).all(axis=1)
    encoded = (linear_to_srgb(np.clip(np.nan_to_num(linear), 0, 1)) * 255).round().astype(int)
    packed = encoded @ np.array([65536, 256, 1])
    return [int(v) for v in np.where(known, packed, -1)]


def _plain(name: str) -> str:
    return "".join(c for c in name if c not in "<>&\"'")


_STYLE = """
.scene { margin: 0 0 12px; } .scene canvas { width: 100%; background: #14171a; border-radius: 6px; cursor: grab;
  touch-action: none; display: block; }
.scene > div { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 14px; margin: 0 0 10px; }
"""

_SCRIPT = """
(() => {
const root = document.querySelector('.scene'), canvas = root.querySelector('canvas'), pen = canvas.getContext('2d');
const W = canvas.width, H = canvas.height, P = SCENE.points, N = P.length / 3, S = SCENE.size;
let turn = 0.6, tilt = 0.35, near = 2.2, moveX = 0, moveY = 0;
const chosen = () => root.querySelector('[name=colour]:checked').value;
const ticked = name => root.querySelector(`[name=${name}]`).checked;
function view() {
  const c = Math.cos(turn), s = Math.sin(turn), ct = Math.cos(tilt), st = Math.sin(tilt), f = 0.9 * H;
  return (x, y, z) => {
    const u = (x * c - y * s) / S, v = (x * s + y * c) / S, w = z / S;
    const depth = near + v * ct - w * st, up = v * st + w * ct;
    return [W / 2 + moveX + f * u / depth, H / 2 + moveY - f * up / depth, depth];
  };
}
function gainColour(g) {
  const t = Math.max(-1, Math.min(1, g / SCENE.stops)), k = Math.round(235 * (1 - Math.abs(t)));
  return t < 0 ? (k << 16) | (Math.min(255, k + 60) << 8) | 255 : (255 << 16) | (Math.min(255, k + 30) << 8) | k;
}
function draw() {
  const at = view(), mode = chosen(), both = ticked('both');
  const image = pen.createImageData(W, H), depths = new Float32Array(W * H).fill(1e9), px = image.data;
  for (let i = 0; i < W * H; i++) { px[4*i] = 20; px[4*i+1] = 23; px[4*i+2] = 26; px[4*i+3] = 255; }
  for (let n = 0; n < N; n++) {
    if ((both || mode === 'gain') && !SCENE.both[n]) continue;
    const colour = mode === 'gain' ? gainColour(SCENE.gain[n]) : SCENE[mode][n];
    if (colour < 0) continue;
    const [x, y, depth] = at(P[3*n], P[3*n+1], P[3*n+2]);
    if (depth < 0.05) continue;
    const r = depth < 1 ? 2 : 1, x0 = Math.round(x), y0 = Math.round(y);
    for (let j = y0; j <= y0 + r; j++) for (let i = x0; i <= x0 + r; i++) {
      if (i < 0 || j < 0 || i >= W || j >= H) continue;
      const k = j * W + i;
      if (depth < depths[k]) {
        depths[k] = depth; px[4*k] = colour >> 16; px[4*k+1] = (colour >> 8) & 255; px[4*k+2] = colour & 255;
      }
    }
  }
  pen.putImageData(image, 0, 0);
  pen.lineWidth = 1;
  for (const camera of SCENE.cameras) {
    if (!ticked(camera.b ? 'cameras_b' : 'cameras_a')) continue;
    const c = []; for (let k = 0; k < 5; k++) c.push(at(camera.at[3*k], camera.at[3*k+1], camera.at[3*k+2]));
    if (c.some(p => p[2] < 0.05)) continue;
    pen.strokeStyle = camera.b ? 'rgba(240,150,60,.4)' : 'rgba(80,160,230,.4)';
    pen.beginPath();
    for (let k = 1; k < 5; k++) {
      pen.moveTo(c[0][0], c[0][1]); pen.lineTo(c[k][0], c[k][1]); pen.lineTo(c[k % 4 + 1][0], c[k % 4 + 1][1]);
    }
    pen.stroke();
  }
}
let last = null;
canvas.addEventListener('pointerdown', e => { last = e; canvas.setPointerCapture(e.pointerId); });
canvas.addEventListener('pointerup', () => { last = null; });
canvas.addEventListener('pointermove', e => {
  if (!last) return;
  const dx = e.clientX - last.clientX, dy = e.clientY - last.clientY; last = e;
  if (e.shiftKey) { moveX += dx; moveY += dy; }
  else { turn += dx / 200; tilt = Math.max(-1.5, Math.min(1.5, tilt + dy / 200)); }
  draw();
});
canvas.addEventListener('wheel', e => {
  e.preventDefault(); near = Math.max(0.1, Math.min(20, near * Math.exp(e.deltaY / 800))); draw();
}, { passive: false });
root.addEventListener('change', draw);
draw();
})();
"""
