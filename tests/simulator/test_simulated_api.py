"""No name in the simulated `nuke` that Nuke hasn't: compared with types-nuke, which was generated from Nuke 13.2."""

import ast
import inspect
import sys
from pathlib import Path

import pytest

# The Python Developer's Guide documents its arguments (c, x, y, dx, dy, frame); types-nuke could not read them.
MISREAD_BY_THE_STUBS = {"Node.sample"}
NUKESCRIPTS = {
    "addDropDataCallback", "drop", "dropData", "executeDeferred", "panels", "registerWidgetAsPanel", "restorePanel",
    "utils",
}  # fmt: skip


@pytest.fixture(scope="module")
def stubs():
    """{name: [nodes of the .pyi files]} of everything that `nuke` exports."""
    folder = Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages" / "nuke-stubs"
    found: dict[str, list[ast.AST]] = {}
    for file in ("_nuke", "utils", "callbacks", "colorspaces", "executeInMain", "overrides", "scripts"):
        for node in ast.parse((folder / f"{file}.pyi").read_text()).body:
            if isinstance(node, ast.Assign):
                found.setdefault(node.targets[0].id, []).append(node)
            elif isinstance(node, ast.AnnAssign):
                found.setdefault(node.target.id, []).append(node)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.setdefault(node.name, []).append(node)
    return found


def public(names):
    return {name for name in names if not name.startswith("_")}


def members(stubs, name):
    """{method: [its nodes]} of a stub class and the classes under it."""
    node = stubs[name][0]
    found: dict[str, list[ast.AST]] = {}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in stubs:
            found.update(members(stubs, base.id))
    own: dict[str, list[ast.AST]] = {}
    for one in node.body:
        if isinstance(one, ast.FunctionDef):
            own.setdefault(one.name, []).append(one)
    return found | own


def accepts(stub, function, method):
    """Does a stub's signature take every call that the simulated function takes by these names?"""
    arguments = stub.args
    if arguments.vararg and arguments.kwarg:
        return True
    names = [argument.arg for argument in arguments.args][1 if method else 0 :]
    own = [
        p for p in inspect.signature(function).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    own = [p.name for p in own][1 if method else 0 :]
    return own == names[: len(own)] or (bool(arguments.vararg) and own[: len(names)] == names)


def test_every_name_of_the_module_is_nukes(nuke_session, stubs):
    nuke = nuke_session(paths=[])
    modules = {name for name in vars(nuke) if inspect.ismodule(getattr(nuke, name))}
    assert public(vars(nuke)) - modules - set(stubs) == set()


def test_every_method_of_a_class_is_nukes(nuke_session, stubs):
    nuke = nuke_session(paths=[])
    wrong = []
    for name in public(vars(nuke)):
        cls = getattr(nuke, name)
        if inspect.isclass(cls) and name in stubs:
            known = members(stubs, name)
            wrong += [f"{name}.{one}" for one in public(dir(cls)) if one not in known and not hasattr(object, one)]
    assert "\n".join(wrong) == ""


def test_functions_take_the_arguments_that_nukes_take(nuke_session, stubs):
    nuke = nuke_session(paths=[])
    wrong = []
    for name in public(vars(nuke)):
        function = getattr(nuke, name)
        if inspect.isfunction(function):
            options = [one for one in stubs.get(name, []) if isinstance(one, ast.FunctionDef)]
            if options and not any(accepts(one, function, method=False) for one in options):
                wrong.append(f"{name}{inspect.signature(function)}")
    assert "\n".join(wrong) == ""


def test_methods_take_the_arguments_that_nukes_take(nuke_session, stubs):
    nuke = nuke_session(paths=[])
    wrong = []
    for name in public(vars(nuke)):
        cls = getattr(nuke, name)
        if not inspect.isclass(cls) or name not in stubs:
            continue
        known = members(stubs, name)
        for one in public(vars(cls)):
            function = vars(cls)[one]
            if inspect.isfunction(function) and one in known:
                options = known[one]
                if f"{name}.{one}" in MISREAD_BY_THE_STUBS:
                    continue
                if not any(accepts(stub, function, method=True) for stub in options):
                    wrong.append(f"{name}.{one}{inspect.signature(function)}")
    assert "\n".join(wrong) == ""


def test_nukescripts_has_only_what_foundry_documents(nuke_session):
    nuke_session(paths=[])
    import nukescripts

    assert public(vars(nukescripts)) <= NUKESCRIPTS
