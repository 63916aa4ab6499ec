"""What nobody here could ask a real Nuke: each unsure behaviour is a switch, and its default is the careful guess.

Set in a test through `nuke_session(quirks={...})`, in a process through NUKE_SIM_QUIRKS=name=value,name=value.
README.md beside this package says which public source each switch comes from. All are unverified.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Quirks:
    """One field per unsure behaviour."""

    # Is onScriptLoad run when `nuke -x script.nk` or `nuke script.nk -t` loads the script?
    on_script_load_in_execute: bool = True
    # Does a Dissolve ask for the inputs that have no share, so that an error in one of them fails it?
    dissolve_pulls_all: bool = True
    # Does a Read that failed to open its file look again in the same session once the file is there?
    read_reopens_after_failure: bool = False
    # "raise": a nuke.execute inside beforeRender is refused, as inside knobChanged; "allow": it renders.
    nested_execute_in_before_render: str = "raise"
    # May knobs be set in beforeRender and its like? "raise": I'm already executing something else.
    edits_in_render_callbacks: str = "allow"
    # Must each Undo.disable() have its own enable()? Else one enable() ends them all.
    undo_disable_counts: bool = True
    # Does the session stand on the last frame rendered after an execute?
    execute_moves_the_frame: bool = False
    # Does a change of a knob that no script holds (DO_NOT_WRITE) mark the script as modified?
    unsaved_knobs_modify: bool = True
    # Is afterRender run when a frame failed?
    after_render_after_abort: bool = False
    # Does execute with continueOnError raise at the end when frames failed, or only print them?
    continue_on_error_raises: bool = False
    # Does executing everything (plain -x, executeMultiple without nodes) find enabled Writes inside Gizmos and Groups?
    execute_enters_gizmos: bool = True
    # Shuffles the order of the lines that Node.writeKnobs returns: nothing may rest on it.
    shuffled_write_knobs: bool = False
    # Does `nuke.tcl("frames all")` hold the trailing range of the command line?
    frames_all_in_execute: bool = True
    # Is __file__ defined in a script run with -t?
    main_file_defined: bool = True
    # executeInMainThreadWithResult called on the main thread: "raise" (Nuke 10 and later) or "hang" (before;
    # here a TimeoutError, so that a test ends).
    execute_in_main_thread_from_main: str = "raise"
    # Nuke 17.1's documentation says knobChanged runs with the panel closed too; 13.2's: only for the user's changes.
    knob_changed_when_closed: bool = False
    # Does Nuke also evaluate $name and backslashes in the text of a knob, as Tcl's subst does, or only [commands]?
    texts_substitute_all: bool = False


def parse_quirks(text: str) -> Quirks:
    """The quirks that NUKE_SIM_QUIRKS describes; ValueError for a name or value that doesn't exist."""
    chosen = dict(part.split("=", 1) for part in text.split(",") if part)
    return make_quirks(**{name: _typed(name, value) for name, value in chosen.items()})


def make_quirks(**chosen: bool | str) -> Quirks:
    """Quirks with the named ones changed; ValueError for one that doesn't exist."""
    known = {field.name: type(field.default) for field in dataclasses.fields(Quirks)}
    for name, value in chosen.items():
        if name not in known:
            raise ValueError(f"There is no quirk {name!r}; there are: {', '.join(known)}")
        if not isinstance(value, known[name]):
            raise ValueError(f"The quirk {name} is a {known[name].__name__}, not {value!r}")
    return Quirks(**chosen)


def _typed(name: str, value: str) -> bool | str:
    return {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
