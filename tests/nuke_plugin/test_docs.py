"""What the guides say about the node, the command and the variables is what there is."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
COMPOSITING = (DOCS / "compositing.md").read_text(encoding="utf-8")
PIPELINE = (DOCS / "pipeline.md").read_text(encoding="utf-8")
FARM = (ROOT / "nuke_plugin" / "farm" / "README.md").read_text(encoding="utf-8")
SOURCES = {
    path: path.read_text(encoding="utf-8") for layer in ("core", "nuke_plugin") for path in (ROOT / layer).glob("*.py")
}
GIZMO = (ROOT / "gizmos" / "RelightGAN.gizmo").read_text(encoding="utf-8")
PAGES = ["compositing", "pipeline", "training", "relighting", "ARCHITECTURE"]


def quoted(text: str, heading: str) -> list[str]:
    """The words in backticks of the first column of the table under a heading."""
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| ")][2:]
    return [words for row in rows for words in re.findall(r"`([^`]+)`", row)]


def said_by_us(words: str) -> bool:
    """Whether our code or the gizmo can say this: every stretch between numbers and dots is found there."""
    everything = GIZMO + "".join(re.sub(r'"\s*\n\s*f?"', "", text) for text in SOURCES.values())
    stretches = [piece.strip() for piece in re.split(r"\d+(?:-\d+)?|…|\(|\)", words) if piece.strip()]
    return all(stretch in everything for stretch in stretches)


def test_every_control_of_the_node_is_explained():
    labels = re.findall(r'addUserKnob \{\d+ (?!\w+ \+INVISIBLE)(\w+) l (?:"([^"]+)"|(\w+))', GIZMO)
    shown = [quoted_label or word for _, quoted_label, word in labels]
    hidden = re.findall(r'l "?([^"]+?)"? \+INVISIBLE', GIZMO)
    assert len(shown) > 20
    assert [label for label in shown if label not in hidden and label not in COMPOSITING] == []


def test_every_variable_that_is_read_is_listed():
    read = {name for text in SOURCES.values() for name in re.findall(r'"(RELIGHTGAN_[A-Z_]+)"', text)}
    assert read
    assert [name for name in sorted(read) if f"`{name}`" not in PIPELINE] == []


def test_every_option_of_the_batch_command_is_listed_and_no_other():
    code = SOURCES[ROOT / "nuke_plugin" / "batch_job.py"]
    options = set(re.findall(r'add\(\s*"(--[a-z-]+)"', code))
    table = PIPELINE.split("## Rendering\n")[1].split("\n## ")[0]
    listed = {
        name
        for line in table.splitlines()
        if line.startswith("| `--")
        for name in re.findall(r"`(--[a-z-]+)`", line.split("|")[1])
    }
    assert listed == options


@pytest.mark.parametrize("words", quoted(PIPELINE, "When something is wrong"))
def test_a_message_in_the_troubleshooting_table_is_one_of_ours(words):
    if words.startswith(("unknown command", "Run: nuke")):
        pytest.skip("said by Nuke, or with the path of its executable")
    assert said_by_us(words), words


@pytest.mark.parametrize(
    "words", quoted(COMPOSITING, "When something is wrong") + quoted(COMPOSITING, "What the status says")
)
def test_a_message_in_the_compositors_guide_is_one_of_ours(words):
    assert said_by_us(words), words


def test_a_message_that_nobody_says_is_found():
    assert not said_by_us("the plate is tired")


@pytest.mark.parametrize(
    "page", [*(DOCS / f"{name}.md" for name in PAGES), ROOT / "README.md", ROOT / "nuke_plugin" / "farm" / "README.md"]
)
def test_links_and_pictures_of_a_page_are_there(page):
    text = page.read_text(encoding="utf-8")
    links = [*re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text), *re.findall(r'src="([^"]+)"', text)]
    links = [link for link in links if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_pictures_are_small():
    sizes = {path.name: path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    assert {name: size for name, size in sizes.items() if size > 300_000} == {}


def test_the_picture_of_the_controls_can_be_drawn_with_every_knob_there_is():
    spec = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    controls, values = module.read_controls(module.GIZMO)
    assert {control.kind for control in controls} <= set(module.FIELDS)
    assert {"Look", "Strength", "Relight Range", "Cache folder"} <= {control.label for control in controls}
    assert values["strength"] == "1"
