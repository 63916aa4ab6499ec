"""The traps of Nuke that a node like ours falls into, each with the tests that hold it off.

Names are those of files and functions under tests/; that each exists is checked here. Where nothing else tests a trap,
the test stands below.
"""

import ast
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
INSIDE_NUKE = [*sorted((ROOT / "nuke_plugin").rglob("*.py")), ROOT / "init.py", ROOT / "menu.py"]
HERE = "nuke_plugin/test_traps"
WINDOWS_PATH = 260  # characters, with the drive and the closing zero


class Trap(NamedTuple):
    """A trap and what holds it off; `not_here` says what only a real Nuke can show."""

    name: str
    tests: tuple[str, ...]
    not_here: str = ""


TRAPS = {
    1: Trap(
        "nuke.execute within a render or a callback",
        (
            "nuke_plugin/test_bake::test_a_bake_within_a_render_is_refused",
            "nuke_plugin/test_guard::test_ready_frames_are_rendered_where_no_knob_can_be_set_within_a_render",
        ),
        "what Nuke does with it is asked by tests/nuke_smoke.py, and nothing depends on the answer",
    ),
    2: Trap(
        "executeInMainThreadWithResult on the main thread, and exceptions it swallows",
        (f"{HERE}::test_nothing_inside_nuke_hands_calls_to_the_main_thread",),
    ),
    3: Trap(
        "begin() without end(), or `with group:` in onCreate",
        (f"{HERE}::test_nothing_inside_nuke_enters_a_group",),
    ),
    4: Trap(
        "the Write inside is picked up by -x, Deadline or Ayon",
        (
            "nuke_plugin/test_gizmo::test_the_write_inside_is_off_raw_full_float_and_off_the_stream",
            "nuke_plugin/test_deadline::test_the_handler_finds_the_write_of_the_script_and_not_the_one_inside_the_node",
            "simulator/test_simulated_process::test_disabled_and_reading_writes_are_left_out",
        ),
    ),
    5: Trap(
        "the guard stops our own Write",
        (
            "nuke_plugin/test_guard::test_our_own_bake_passes_while_the_guard_is_registered",
            "nuke_plugin/test_guard::test_our_own_bake_of_one_view_asks_for_no_other",
        ),
    ),
    6: Trap(
        "a file overwritten in place isn't noticed",
        (
            "nuke_plugin/test_bake::test_a_file_replaced_in_place_is_relit_anew_though_nuke_knows_it_by_its_path",
            "nuke_plugin/test_bake::test_a_frame_that_was_looked_at_too_early_shows_once_it_is_relit",
            "nuke_plugin/test_state::test_a_source_file_that_changed_makes_its_own_frame_stale_and_no_other",
        ),
    ),
    7: Trap(
        "a Read keeps the first and last frame of the path before",
        (
            "nuke_plugin/test_gizmo::test_every_expression_inside_refers_to_knobs_of_the_node",
            "nuke_plugin/test_state::test_stored_frames_are_ready_once_linked_and_the_node_points_at_them",
        ),
    ),
    8: Trap(
        "a bake in proxy mode or at a lower viewing resolution",
        (
            "nuke_plugin/test_bake::test_proxy_mode_bakes_at_full_size",
            "nuke_plugin/test_node_pixels::test_in_proxy_mode_the_relit_frame_is_scaled_with_the_plate",
            "nuke_plugin/test_batch::test_a_script_saved_in_proxy_mode_is_rendered_at_full_size_without_proxy",
        ),
        "the Viewer's own downrez is no part of nuke.execute, and isn't simulated",
    ),
    9: Trap(
        "a Write's default channels drop alpha",
        (
            "nuke_plugin/test_bake::test_alpha_passes_untouched",
            "nuke_plugin/test_bake::test_defaults_that_a_studio_sets_for_all_nodes_of_a_class_change_no_pixel",
            "nuke_plugin/test_bake::test_other_channels_pass_untouched_and_no_alpha_is_made",
        ),
    ),
    10: Trap(
        "half overflows, and NaN spreads",
        (
            "nuke_plugin/test_bake::test_values_beyond_half_survive_on_their_way_to_the_worker",
            "core/test_frames::test_values_beyond_16_bits_are_held_and_counted_but_not_nan_infinity_or_32_bits",
            "core/test_pipeline::test_nan_and_infinity_come_out_where_they_went_in_and_nowhere_else",
        ),
    ),
    11: Trap(
        "rows run from the bottom up",
        (
            "simulator/test_simulated_files::test_rows_of_a_picture_run_from_the_bottom_up",
            "nuke_plugin/test_bake::test_pixels_are_those_of_infer_to_the_bit",
        ),
    ),
    12: Trap(
        "data window and display window differ, origins below zero",
        (
            "nuke_plugin/test_bake::test_data_windows_keep_their_place_and_pixels",
            "core/test_pipeline::test_the_data_window_is_relit_wherever_it_lies",
        ),
    ),
    13: Trap(
        "colour spaces that another OCIO config doesn't know",
        (
            "nuke_plugin/test_gizmo::test_the_write_inside_is_off_raw_full_float_and_off_the_stream",
            "nuke_plugin/test_gizmo::test_the_read_inside_fails_on_a_missing_frame_and_shows_raw_values",
        ),
    ),
    14: Trap(
        "`Error:` in a harmless line fails a farm's task",
        (
            "nuke_plugin/test_deadline::test_a_bake_that_works_says_nothing_the_adaptor_takes_for_a_failure",
            "nuke_plugin/test_messages::test_a_failed_task_is_one_line_with_the_word_farms_look_for",
        ),
    ),
    15: Trap(
        "Nuke eats a frame range at the end of the line",
        (
            "nuke_plugin/test_batch::test_a_trailing_range_that_nuke_takes_for_itself_is_recovered",
            "nuke_plugin/test_farm::test_no_line_ends_with_a_word_that_nuke_would_take_for_itself",
        ),
    ),
    16: Trap(
        "menu.py or Qt without a window",
        (
            "nuke_plugin/test_startup::test_a_session_without_window_has_gizmos_guard_and_no_qt",
            "simulator/test_simulated_process::test_init_runs_in_a_terminal_and_menu_does_not",
        ),
    ),
    17: Trap(
        "Nuke's PYTHONPATH and LD_LIBRARY_PATH reach the worker, or ours reach Nuke",
        (
            "nuke_plugin/test_installation::test_what_steers_nukes_python_does_not_reach_ours",
            "nuke_plugin/test_startup::test_our_folders_come_last_on_pythons_path",
        ),
    ),
    18: Trap(
        "flags set by a program are lost on reload",
        (f"{HERE}::test_nothing_inside_nuke_sets_flags_of_knobs",),
        "that +INVISIBLE of the gizmo survives a reload is asked by tests/nuke_smoke.py",
    ),
    19: Trap(
        "knobChanged isn't called while the panel is closed",
        ("nuke_plugin/test_state::test_a_setting_that_changed_makes_all_frames_stale_and_changing_it_back_makes_them_ready",),
    ),
    20: Trap(
        "a slider's range doesn't bound what is typed",
        ("nuke_plugin/test_state::test_values_typed_beyond_a_slider_are_refused_by_name",),
    ),
    21: Trap(
        "copies of a node share a cache folder",
        ("nuke_plugin/test_state::test_a_copy_shares_its_frames_and_a_copy_that_is_set_otherwise_does_not",),
    ),
    22: Trap(
        "two machines write one frame",
        (
            "core/test_worker::test_two_workers_write_one_store_at_once_and_every_frame_is_whole",
            "nuke_plugin/test_client::test_two_clients_at_once_share_one_store",
        ),
        "network file systems were not at hand; nothing but rename within a folder is asked of them",
    ),
    23: Trap(
        "a temporal accumulator depends on the order of rendering",
        (
            "core/test_worker::test_a_temporal_window_split_over_requests_is_that_of_one_run",
            "journeys/test_infer_journey::test_a_shot_relit_in_chunks_by_several_processes_is_the_shot_relit_in_one_go",
            "nuke_plugin/test_batch::test_frames_rendered_one_by_one_in_any_order_are_those_of_the_batch",
        ),
    ),
    24: Trap(
        "onnxruntime takes the processor without a word where CUDA's libraries are missing",
        (
            "core/test_worker::test_cuda_where_there_is_none_is_an_error_and_never_the_cpu",
            "core/test_session::test_without_cuda_auto_is_the_cpu_with_the_reason_and_cuda_is_an_error",
        ),
    ),
    25: Trap(
        "the render host has no gizmo",
        (
            "simulator/test_simulated_scripts::test_a_missing_gizmo_fails_the_script_and_names_the_class",
            "simulator/test_simulated_scripts::test_a_gizmo_made_a_group_needs_no_gizmo_file",
            "nuke_plugin/test_node_pixels::test_a_group_made_from_the_node_shows_the_same",
        ),
    ),
    26: Trap(
        "Tcl substitutes [ and $ in tooltips and code",
        (
            "nuke_plugin/test_gizmo::test_tcl_reads_it_whole_and_every_group_is_closed",
            "nuke_plugin/test_gizmo::test_nothing_in_a_users_knob_would_be_substituted_if_tcl_read_it_once_more",
        ),
    ),
    27: Trap(
        "callbacks are registered twice after a reload",
        (
            "nuke_plugin/test_guard::test_callbacks_are_registered_once_after_a_reload",
            "nuke_plugin/test_startup::test_a_second_start_registers_nothing_twice",
        ),
    ),
    28: Trap(
        "Nuke Non-commercial gives Python no more than ten nodes",
        (),
        "not simulated: it has no command line, and how it refuses isn't documented; no bake is promised there",
    ),
    29: Trap(
        "long paths and backslashes on Windows",
        (
            f"{HERE}::test_paths_in_the_cache_are_short_enough_for_windows",
            "nuke_plugin/test_state::test_windows_separators_in_knobs_become_slashes",
        ),
        "Windows itself was not at hand",
    ),
    30: Trap(
        "nuke.message in a terminal",
        (
            "nuke_plugin/test_messages::test_a_terminal_gets_a_line_and_no_dialog",
            f"{HERE}::test_dialogs_are_asked_for_only_where_there_is_a_window",
        ),
    ),
}  # fmt: skip


def calls_inside_nuke():
    """Every call of a named function in what runs inside Nuke: its file, its name, the call."""
    for path in INSIDE_NUKE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                yield path, name, node


def uses(names: set[str]) -> list[str]:
    return [f"{path.name}: {name}" for path, name, _ in calls_inside_nuke() if name in names]


def test_there_are_thirty_and_each_is_tested_or_says_why_not():
    assert sorted(TRAPS) == list(range(1, 31))
    assert [number for number, trap in TRAPS.items() if not (trap.tests or trap.not_here)] == []


@pytest.mark.parametrize("number", TRAPS)
def test_the_tests_of_a_trap_exist_and_can_fail(number):
    for place in TRAPS[number].tests:
        module, _, function = place.partition("::")
        tree = ast.parse((TESTS / f"{module}.py").read_text(encoding="utf-8"))
        functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert function in functions, f"{place} isn't there"
        assert can_fail(functions[function], functions), f"{place} checks nothing"


def can_fail(function: ast.FunctionDef, others: dict[str, ast.FunctionDef]) -> bool:
    """Whether a test asserts something, itself or through a function of its file or one that is called so."""
    called = {ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    if any("assert" in name or name == "pytest.raises" for name in called):
        return True
    bodies = [function, *(others[name] for name in called if name in others)]
    return any(isinstance(node, ast.Assert) for body in bodies for node in ast.walk(body))


def test_nothing_inside_nuke_hands_calls_to_the_main_thread():
    """So nothing can hang there or lose an exception: all we do with nuke is done on the thread Nuke called us on."""
    assert uses({"executeInMainThread", "executeInMainThreadWithResult", "executeDeferred"}) == []


def test_nothing_inside_nuke_enters_a_group():
    """Nodes inside are asked for by name; no group is left open and none is entered while a script loads."""
    assert uses({"endGroup", "beginGroup"}) == []
    # Group.begin takes nothing; our progress object's takes a text.
    assert [path.name for path, name, call in calls_inside_nuke() if name == "begin" and not call.args] == []
    entered = [
        f"{path.name}: {ast.unparse(item.context_expr)}"
        for path in INSIDE_NUKE
        if "\nimport nuke\n" in path.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.With)
        for item in node.items
        if not isinstance(item.context_expr, (ast.Call, ast.IfExp))
    ]
    assert entered == []


def test_nothing_inside_nuke_sets_flags_of_knobs():
    """Which knobs are hidden stands in the gizmo, which is read anew at each load. (Qt's widgets are no knobs.)"""
    assert [found for found in uses({"setFlag", "clearFlag", "setVisible"}) if not found.startswith("panel")] == []


def test_dialogs_are_asked_for_only_where_there_is_a_window():
    """`nuke.message` and `nuke.ask` stand behind nuke.GUI, or in what only menu.py reaches."""
    found = {
        (path.name, name)
        for path, name, call in calls_inside_nuke()
        if ast.unparse(call.func) in ("nuke.message", "nuke.ask")
    }
    assert found == {("messages.py", "message"), ("hooks.py", "ask"), ("installation.py", "message")}
    assert "if nuke.GUI:\n        nuke.message(" in (ROOT / "nuke_plugin" / "messages.py").read_text(encoding="utf-8")
    assert "if nuke.GUI and" in (ROOT / "nuke_plugin" / "hooks.py").read_text(encoding="utf-8")
    assert "installation" not in (ROOT / "init.py").read_text(encoding="utf-8")


def test_paths_in_the_cache_are_short_enough_for_windows(tmp_path):
    """A cache folder of a hundred characters leaves room for everything below it, temporary names included."""
    from relightgan.nuke_plugin.cache import Places, bake_folder, key_of

    places = Places(tmp_path, key_of("base"))
    view, frame, temporary = "x" * 16, "1000001", "..12345678.part"
    relit = places.pattern(key_of("take")).replace("%V", view).replace("%04d", frame)
    source = bake_folder(tmp_path) / view / f"source.{frame}.exr"
    longest = max(len(path) - len(str(tmp_path)) for path in (relit, str(source), str(places.frame(key_of("frame")))))
    assert 100 + longest + len(temporary) < WINDOWS_PATH
