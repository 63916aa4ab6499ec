"""The main job on a small set, as a user would run it: photos in, a look out, a clip relit, and the result measured.

    python examples/demo.py --out build/demo

Trains on the sample photos of `examples/courtyard` on the CPU, relights a clip no photo shows with temporal blend on,
and measures views that no photo shows against leaving the plates alone and against colour transfer. The length of the
fit is counted in images, so a slow or busy machine takes longer and comes to the same figure.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from relightgan.core import cli
from relightgan.core.errors import RelightError
from relightgan.core.frames import read_plate
from relightgan.training.measure.evaluation import Request, evaluate, markdown_of
from relightgan.training.measure.metrics import to_display
from relightgan.training.measure.paired_views import UNTOUCHED
from relightgan.training.measure.tables import VIEW_COLUMNS, json_text, number_text, write_text
from relightgan.training.report.contact_sheet import contact_sheet
from relightgan.training.report.page import Block, Gallery, Picture, Section, Table, write_report
from relightgan.training.run.report import read_run, run_lead, run_sections

SET = Path(__file__).resolve().parent / "courtyard"
CLIP_FRAMES = (1, 3, 5, 8)  # shown in the report
BLEND = 0.8
IMAGES = 6000  # images shown to the fit; two to three minutes on two quiet CPU cores
MAX_MINUTES = 90.0  # a limit for the whole training that no working machine reaches
WANTED_MARGIN_DB = 1.0
LOOK = "look"


def main() -> int:
    """Runs the demo from the command line; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for what it makes (build/demo)")
    parser.add_argument("--images", type=int, default=IMAGES, help=f"images shown to the fit ({IMAGES})")
    words = parser.parse_args()
    return cli.run_command(lambda: demo(words.out, words.images))


def demo(out: Path, images: int) -> int:
    """Trains, relights, measures and reports.

    Raises:
        RelightError: a step failed, or the look doesn't beat the baselines by the wanted margin.
    """
    look, run_dir, relit = out / f"{LOOK}.onnx", out / "run", out / "clip" / "relit.%04d.exr"
    began = time.monotonic()
    run(
        f"train --source {SET / 'cloudy_day'} --target {SET / 'sunny_day'} --out {look} --run-dir {run_dir}"
        f" --preset relight --train.images {images} --max-minutes {MAX_MINUTES:g} --device cpu"
    )
    trained_s = time.monotonic() - began
    run(f"infer {look} {SET / 'clip' / 'A' / '%04d.exr'} {relit} --temporal-blend {BLEND} --device cpu --overwrite")
    print("Measuring views and a clip that no photo shows ...", file=sys.stderr)
    result = evaluate(
        Request(
            looks=(look,),
            pairs=SET / "held_out",
            clip=SET / "clip",
            source_photos=SET / "cloudy_day",
            target_photos=SET / "sunny_day",
            oracles=True,
            blends=(0.0, BLEND),
            device="cpu",
            pictures=out / "views",
        ),
        "auto",
    )
    write_text(out / "evaluation.json", json_text(result))
    write_text(out / "evaluation.md", markdown_of(result))
    pictures = sorted((out / "views").glob("*.jpg"))
    before_after = write_before_after(out / "before_after.png", relit)
    verdict, margin = judge(result)
    lead = f"{run_lead(read_run(run_dir))} {verdict}"
    measured = [views_block(result), clip_block(result), Gallery([Picture(path) for path in pictures])]
    first = Section("Before and after", [Picture(before_after, f"A clip no photo shows, temporal blend {BLEND:g}.")])
    report = write_report(out / "report.html", "RelightGAN demo", lead, [first, *run_sections(run_dir, measured)])
    print(f"\nTraining took {trained_s:.0f} s. {verdict}\n")
    for what, path in (("look", look), ("report", report), ("before and after", before_after), ("relit clip", relit)):
        print(f"{what + ':':<18}{path}")
    if margin < WANTED_MARGIN_DB:
        raise RelightError(
            f"The look is only {margin:.2f} dB above the best baseline; {WANTED_MARGIN_DB:g} dB are wanted.",
            "Give more --images.",
        )
    return 0


def run(command: str) -> None:
    """Runs a `relightgan` command, shown as one would type it.

    Raises:
        RelightError: it failed.
    """
    print(f"$ relightgan {command}", file=sys.stderr, flush=True)
    name, *words = command.split(" ")
    code = cli.load_command(name)(words)
    if code:
        raise RelightError(f"relightgan {name} ended with exit code {code}.", "Its own message stands above.")


def judge(result: dict[str, Any]) -> tuple[str, float]:
    """What the figures say in a sentence, and how far the look lies above the best baseline, in dB."""
    psnr = {name: each["mean"]["psnr"]["mean"] for name, each in result["pairs"]["methods"].items()}
    ours = psnr.pop(LOOK)
    rivals = {name: value for name, value in psnr.items() if "oracle" not in name}
    best = max(rivals, key=lambda name: rivals[name])
    margin = ours - rivals[best]
    sentence = (
        f"On {result['pairs']['views']} held-out views: {ours:.2f} dB PSNR, {ours - psnr[UNTOUCHED]:+.2f} dB against "
        f"leaving the plate alone and {margin:+.2f} dB against the best colour transfer ({best}: {rivals[best]:.2f})."
    )
    return sentence, margin


def views_block(result: dict[str, Any]) -> Block:
    """The held-out views as a table, our row set off."""
    means = {name: each["mean"] for name, each in result["pairs"]["methods"].items()}
    columns = [column for column in VIEW_COLUMNS if any(column[1] in mean for mean in means.values())]
    rows = [
        [name, *(number_text(mean[key]["mean"] if key in mean else None, digits) for _, key, digits in columns)]
        for name, mean in means.items()
    ]
    note = f"Means over {result['pairs']['views']} views. Oracles are fitted to the truth: upper bounds, not methods."
    return Table(["method", *(heading for heading, _, _ in columns)], rows, note, [list(means).index(LOOK)])


def clip_block(result: dict[str, Any]) -> Block:
    """The clip as a table: warp error and flicker beside the input's and the truth's own."""
    rows = [
        [name, *(number_text(row.get(key), 4) for key in ("warp_error", "gain_flicker", "psnr"))]
        for name, row in result["clip"]["rows"].items()
    ]
    note = "Along the exact flow, on points seen in both frames; the input and the truth are the floors."
    return Table(["clip", "warp error", "gain flicker, stops", "PSNR dB"], rows, note)


def write_before_after(path: Path, relit: Path) -> Path:
    """A picture of the clip: plates above, relit below, the other day's truth last."""
    rows = []
    for caption, pattern in (
        ("plate", SET / "clip" / "A" / "%04d.exr"),
        ("relit", relit),
        ("truth", SET / "clip" / "B" / "%04d.exr"),
    ):
        plates = [(frame, read_plate(Path(str(pattern) % frame))) for frame in CLIP_FRAMES]
        rows.append([(to_display(plate.rgb), f"{caption}, frame {frame}") for frame, plate in plates])
    return contact_sheet(rows, path)


if __name__ == "__main__":
    sys.exit(main())
