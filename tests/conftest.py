"""What every test may ask for by name: small looks that are real files, and a small set in two lights."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import painted_set
import pytest
import tiny_looks

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded; core/cli.py says why


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Fails a test that starts a process without the marker that keeps it out of the fast run."""
    if item.get_closest_marker("process"):
        return (yield)
    start = subprocess.Popen.__init__

    def refuse(self, args, *more, **options):
        pytest.fail(f"{item.name} starts {args}: give it the marker `process`.")

    subprocess.Popen.__init__ = refuse
    try:
        return (yield)
    finally:
        subprocess.Popen.__init__ = start


@pytest.fixture(scope="session")
def look_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("looks")


@pytest.fixture(scope="session")
def identity_look(look_folder) -> Path:
    """A look of unbounded linear values without operators that changes nothing."""
    return tiny_looks.identity_look(look_folder / "identity.onnx")


@pytest.fixture(scope="session")
def unit_identity_look(look_folder) -> Path:
    """An image look in srgb_log, 0..1, that changes nothing."""
    return tiny_looks.identity_look(look_folder / "unit_identity.onnx", encoding="srgb_log", value_range="unit")


@pytest.fixture(scope="session")
def darken_grid_look(look_folder) -> Path:
    """An operator look: a 4x6 `grid` of log2 gains that follow the plate, and a ramp over the frame."""
    return tiny_looks.darken_grid_look(look_folder / "darken_grid.onnx")


@pytest.fixture(scope="session")
def conv_look(look_folder) -> Path:
    """An image look of three 3x3 convolutions; a pixel sees 3 pixels around it, and `overlap_px` says so."""
    return tiny_looks.conv_look(look_folder / "conv.onnx")


@pytest.fixture(scope="session")
def strided_conv_look(look_folder) -> Path:
    """An image look that needs even sizes."""
    return tiny_looks.strided_conv_look(look_folder / "strided_conv.onnx")


@pytest.fixture(scope="session")
def measured_days() -> SimpleNamespace:
    """Six painted views photographed on two days, paired and measured by the real backbone."""
    from relightgan.training.pairs import backbones, pairing
    from relightgan.training.pairs import patch_gains as targets

    first, second, skies = painted_set.painted_days()
    backbone = backbones.load_backbone()
    features = [backbones.embed_photos(backbone, bank.photos) for bank in (first, second)]
    pairs = pairing.pair_photos(*features, pairing.PairingSettings())
    steps: list[int] = []
    gains = targets.measure_gains(first, second, pairs, backbone, "cpu", steps.append)
    return SimpleNamespace(first=first, second=second, skies=skies, pairs=pairs, gains=gains, steps=sum(steps))


@pytest.fixture(scope="session")
def wheel_site(tmp_path_factory) -> Path:
    """The unpacked wheel, as pip puts it into site-packages."""
    root, folder = Path(__file__).resolve().parents[1], tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    kept = ("core/", "training/", "nuke_plugin/", "gizmos/")
    for name in listed:
        if (name.startswith(kept) or "/" not in name) and (root / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((root / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True, capture_output=True)
    (wheel,) = folder.glob("relightgan-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


NUKE_SIM = Path(__file__).parent / "nuke_sim"


@pytest.fixture
def nuke_session(monkeypatch) -> Iterator[Callable[..., ModuleType]]:
    """Starts a simulated Nuke in this process and gives its module `nuke`; again for another one.

    nuke_session(gui=False, quirks={}, paths=None): `paths` are the folders of the plug-in path, by default this
    repository (its init.py runs, with a window its menu.py too). Import what imports nuke in the test, after this.
    """
    monkeypatch.syspath_prepend(str(NUKE_SIM))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def start(gui: bool = False, quirks: dict | None = None, paths: list[Path] | None = None) -> ModuleType:
        forget_nuke()
        import nuke
        from nuke_simulator import session, startup
        from nuke_simulator.quirks import make_quirks

        nuke._begin_session(gui)
        session.start(gui=gui, wanted=make_quirks(**(quirks or {})))
        startup.begin([NUKE_SIM.parent.parent] if paths is None else paths)
        return nuke

    forget_nuke()
    yield start
    forget_nuke()


def forget_nuke() -> None:
    """Forgets the simulator and every module that holds something of it, as a new process would."""
    gone = {name for name in sys.modules if name.partition(".")[0] in ("nuke", "nukescripts", "nuke_simulator")}
    ours = {name for name in sys.modules if name.startswith("relightgan.nuke_plugin.")}
    while held := {name for name in ours - gone if _holds(sys.modules[name], gone)}:
        gone |= held
    for name in gone:
        module = sys.modules.pop(name)
        package, _, last = name.rpartition(".")
        if getattr(sys.modules.get(package), last, None) is module:
            delattr(sys.modules[package], last)


def _holds(module: ModuleType, names: set[str]) -> bool:
    """Does a module hold one of these modules, or a function or class of theirs?"""
    of = (
        value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        for value in vars(module).values()
    )
    return any(name in names for name in of)
