"""The node classes the simulator knows: how many inputs, which knobs, with which defaults.

One line per knob: kind, name, default as a script would have it; of an Enum the items in braces first. The names are
those of Nuke's own scripts; a knob not listed here is refused, because a misspelt one must not pass.
"""

from __future__ import annotations

import dataclasses

from . import tcl
from .knobs import (
    AColor_Knob,
    BBox_Knob,
    Boolean_Knob,
    Channel_Knob,
    ChannelMask_Knob,
    ColorChip_Knob,
    Disable_Knob,
    Double_Knob,
    EditableEnumeration_Knob,
    Enumeration_Knob,
    EvalString_Knob,
    File_Knob,
    Format_Knob,
    Int_Knob,
    Knob,
    Link_Knob,
    Multiline_Eval_String_Knob,
    Obsolete_Knob,
    OneView_Knob,
    PyScript_Knob,
    PythonKnob,
    Script_Knob,
    String_Knob,
    Tab_Knob,
    Text_Knob,
    Unsigned_Knob,
    WH_Knob,
    XY_Knob,
)

KINDS: dict[str, type[Knob]] = {
    "String": String_Knob, "Eval": EvalString_Knob, "Multiline": Multiline_Eval_String_Knob, "File": File_Knob,
    "Int": Int_Knob, "Double": Double_Knob, "Bool": Boolean_Knob, "Disable": Disable_Knob, "Enum": Enumeration_Knob,
    "Free": EditableEnumeration_Knob, "Channel": Channel_Knob, "Mask": ChannelMask_Knob, "XY": XY_Knob, "WH": WH_Knob,
    "BBox": BBox_Knob, "Color": AColor_Knob, "Format": Format_Knob, "Python": PythonKnob, "Tab": Tab_Knob,
    "Button": Script_Knob, "PyButton": PyScript_Knob, "Unsigned": Unsigned_Knob, "Chip": ColorChip_Knob,
    "Text": Text_Knob, "View": OneView_Knob, "Link": Link_Knob, "Obsolete": Obsolete_Knob,
}  # fmt: skip

COMMON = """
String name
Multiline label
Int xpos 0
Int ypos 0
Chip tile_color 0
Chip gl_color 0
Eval note_font Verdana
Double note_font_size 11
Chip note_font_color 0
Bool hide_input false
Bool selected false
Bool cached false
Bool dope_sheet false
Bool bookmark false
Bool postage_stamp false
Double postage_stamp_frame 0
Bool lifetimeEnable false
Double lifetimeStart 0
Double lifetimeEnd 0
Bool useLifetime false
Int indicators 0
File icon
Eval help
Eval onCreate
Eval onDestroy
Eval knobChanged
Eval updateUI
Eval autolabel
Bool panel false
Enum rootNodeUpdated {none} none
"""
DISABLE = "Disable disable false"
MASK = """
Channel maskChannelInput none
Mask maskChannelMask none
Bool inject false
Bool invert_mask false
Bool fringe false
"""
RENDER_HOOKS = """
Eval beforeRender
Eval beforeFrameRender
Eval afterFrameRender
Eval afterRender
Eval renderProgress
"""
EXR = """
Enum datatype {"16 bit half" "32 bit float"} "16 bit half"
Enum compression {none "Zip (1 scanline)" "Zip (16 scanlines)" "PIZ Wavelet (32 scanlines)" "RLE" "B44" "B44A" "DWAA" "DWAB"} "Zip (1 scanline)"
Double dw_compression_level 45
Enum metadata {"no metadata" "default metadata" "default metadata and exr/*" "all metadata except input/*" "all metadata"} "default metadata"
Bool noprefix false
Bool autocrop false
Enum interleave {"channels, layers and views" "channels and layers" "channels"} "channels, layers and views"
Bool standard_layer_name_format false
Bool write_full_layer_names false
Bool truncateLayerNames true
Bool write_ACES_compliant_EXR false
Free first_part {rgba} rgba
Free heroview {main} main
Bool do_not_attach_prefix false
"""


@dataclasses.dataclass(frozen=True)
class NodeClass:
    """`inputs` is how many arrows are there; `optional` the index of the mask input."""

    knobs: str
    inputs: int = 1
    maximum: int | None = None
    optional: int | None = None
    group: bool = False
    executable: bool = False


_READ = f"""
File file
Format format
File proxy
Format proxy_format
Int first 1
Int last 1
Enum before {{hold loop bounce black}} hold
Enum after {{hold loop bounce black}} hold
Enum frame_mode {{expression "start at" offset}} expression
Eval frame
Int origfirst 1
Int origlast 1
Bool origset false
Enum on_error {{error black checkerboard "nearest frame"}} error
Button reload
Free colorspace {{default linear raw sRGB}} default
Bool premultiplied false
Bool raw false
Bool auto_alpha false
Bool offset_negative_display_window true
Enum edge_pixels {{"plate detect" "edge detect" repeat black}} "plate detect"
Free file_type {{"" exr}} ""
Int version 0
Bool noprefix false
Enum localizationPolicy {{on auto "from auto-localize path" off}} "from auto-localize path"
String updateLocalization
{DISABLE}
"""
_WRITE = f"""
Mask channels rgb
File file
File proxy
Enum frame_mode {{expression "start at" offset}} expression
Eval frame
Free views {{main}} main
Free colorspace {{default linear raw sRGB}} default
Bool premultiplied false
Bool raw false
Free file_type {{"" exr}} ""
{EXR}
Bool use_limit false
Int first 1
Int last 1
Double render_order 1
Bool reading false
Bool checkHashOnRead true
Enum on_error {{error black checkerboard "read file"}} error
Button reload
Bool create_directories false
Int version 0
Free in_colorspace {{linear scene_linear}} linear
Free out_colorspace {{linear scene_linear}} linear
Enum transformType {{input colorspace display}} colorspace
Free ocioColorspace {{scene_linear}} scene_linear
Free display {{default}} default
Free view {{}} ""
PyButton Render
{RENDER_HOOKS}
{DISABLE}
"""
_MERGE = f"""
Enum operation {{over copy plus multiply under mask stencil minus divide max min average difference screen}} over
Bool screen_alpha false
Mask Achannels rgba
Mask Bchannels rgba
Mask output rgba
Mask also_merge none
Enum metainput {{B A All}} B
Enum rangeinput {{All B A}} All
Enum bbox {{union intersection A B}} union
{MASK}
Double mix 1
{DISABLE}
"""
_ROOT = """
File name
Multiline label
Int first_frame 1
Int last_frame 100
Bool lock_range false
Int frame 1
Double fps 24
Format format
Bool proxy false
Enum proxy_type {format scale} format
Format proxy_format
Double proxy_scale 0.5
Enum proxySetting {"if nearest" always never} "if nearest"
Multiline views
String hero_view
File project_directory
Enum colorManagement {Nuke OCIO} Nuke
Free OCIO_config {nuke-default custom fn-nuke_cg-config-v1.0.0_aces-v1.3_ocio-v2.1} nuke-default
File customOCIOConfigPath
Free defaultViewerLUT {"Nuke Root LUTs" "OCIO LUTs"} "Nuke Root LUTs"
Free workingSpaceLUT {linear scene_linear} linear
Free monitorLut {sRGB} sRGB
Free monitorOutLUT {rec709} rec709
Free int8Lut {sRGB} sRGB
Free int16Lut {sRGB} sRGB
Free logLut {Cineon} Cineon
Free floatLut {linear} linear
Free viewerLut {sRGB} sRGB
Bool nukescreenlock false
Eval onCreate
Eval onDestroy
Eval knobChanged
Eval updateUI
Eval autolabel
Eval onScriptLoad
Eval onScriptSave
Eval onScriptClose
Eval beforeRender
Eval afterRender
Int xpos 0
Int ypos 0
"""


def _plain(knobs: str = "", **facts: object) -> NodeClass:
    return NodeClass(f"{knobs}\n{DISABLE}\n", **facts)  # type: ignore[arg-type]


CLASSES: dict[str, NodeClass] = {
    "Root": NodeClass(_ROOT, inputs=0, group=True),
    "Group": _plain("Bool lock_connections false", group=True, inputs=0),
    "Input": NodeClass("Int number 0", inputs=0),
    "Output": NodeClass(""),
    "Read": NodeClass(_READ, inputs=0),
    "Write": NodeClass(_WRITE, executable=True),
    "Viewer": NodeClass("Eval frame_range\nDouble fps 24\nDouble frame 1\nInt input_number 0\nFree viewerProcess {sRGB None} sRGB", maximum=10),
    "Dot": NodeClass(""),
    "NoOp": _plain(),
    "PostageStamp": _plain(),
    "BackdropNode": NodeClass("Double bdwidth 80\nDouble bdheight 80\nInt z_order 0", inputs=0),
    "StickyNote": NodeClass("", inputs=0),
    "Assert": _plain("Int expression 1\nMultiline message"),
    "Crop": _plain("BBox box {0 0 {width} {height}}\nDouble softness 0\nBool reformat false\nBool intersect false\nBool crop true"),
    "Copy": _plain(
        "".join(f"Channel from{i} none\nChannel to{i} none\n" for i in range(4))
        + "Mask channels none\nEnum bbox {union intersection A B} B\nEnum metainput {B A All} B\n" + MASK + "Double mix 1",
        inputs=2, optional=2,
    ),
    "Keymix": _plain("Mask channels all\nChannel maskChannel rgba.alpha\nBool invertMask false\nDouble mix 1\nEnum bbox {union B A} union", inputs=3),
    "Dissolve": _plain("Mask channels all\nDouble which 0\n" + MASK, inputs=2, maximum=100, optional=2),
    "Switch": _plain("Int which 0", inputs=2, maximum=1000),
    "Merge2": _plain(_MERGE.replace(DISABLE, ""), inputs=2, maximum=100, optional=2),
    "ChannelMerge": _plain("Channel A rgba.alpha\nFree operation {union} union\nChannel B rgba.alpha\nChannel output rgba.alpha\n" + MASK + "Double mix 1", inputs=2, optional=2),
    "Grade": _plain(
        "Mask channels rgb\nColor blackpoint 0\nColor whitepoint 1\nColor black 0\nColor white 1\nColor multiply 1\nColor add 0\n"
        "Color gamma 1\nBool reverse false\nBool black_clamp true\nBool white_clamp false\n" + MASK
        + "Channel unpremult none\nBool process_mask false\nDouble mix 1\nDouble mix_luminance 0", optional=1,
    ),
    "Multiply": _plain("Mask channels rgb\nColor value 1\n" + MASK + "Channel unpremult none\nDouble mix 1", optional=1),
    "Add": _plain("Mask channels rgb\nColor value 0\n" + MASK + "Channel unpremult none\nDouble mix 1", optional=1),
    "Blur": _plain("Mask channels all\nWH size 0\nFree filter {gaussian box} gaussian\n" + MASK + "Double mix 1", optional=1),
    "Constant": _plain("Mask channels rgba\nColor color 0\nFormat format\nInt first 1\nInt last 1", inputs=0),
    "CheckerBoard2": _plain(
        "Format format\nWH boxsize 64\nColor color0 0.1\nColor color1 0.5\nColor color2 0.1\nColor color3 0.5\nColor linecolor 1\nWH linewidth 0\n"
        "Color centerlinecolor {1 1 0 1}\nWH centerlinewidth 3", inputs=0,
    ),
    "Shuffle2": _plain(
        "Free fromInput1 {{0} B} {}\nFree fromInput2 {{0} B} {}\nChannel in1 rgba\nChannel in2 none\nChannel out1 rgba\nChannel out2 none\nEval mappings",
        inputs=2,
    ),
    "Premult": _plain("Mask channels rgb\nChannel alpha rgba.alpha\nBool invert false"),
    "Unpremult": _plain("Mask channels rgb\nChannel alpha rgba.alpha\nBool invert false"),
    "Invert": _plain("Mask channels all\nBool clamp false\n" + MASK + "Channel unpremult none\nDouble mix 1", optional=1),
    "Transform": _plain(
        "XY translate 0\nDouble rotate 0\nWH scale 1\nDouble skewX 0\nDouble skewY 0\nEnum skew_order {XY YX} XY\nXY center 0\nBool invert_matrix false\n"
        "Free filter {Impulse Cubic} Cubic\nBool clamp false\nBool black_outside false\nDouble motionblur 0\nDouble shutter 0.5\nFree shutteroffset {start} start\n"
        "Double shuttercustomoffset 0", maximum=1,
    ),
    "Reformat": _plain(
        'Enum type {"to format" "to box" scale} "to format"\nFormat format\nInt box_width 200\nInt box_height 200\nBool box_fixed false\nDouble box_pixel_aspect 1\n'
        "WH scale 1\nEnum resize {none width height fit fill distort} width\nBool center true\nBool flip false\nBool flop false\nBool turn false\n"
        "Free filter {Impulse Cubic} Cubic\nBool clamp false\nBool black_outside false\nBool pbb false"
    ),
    "TimeOffset": _plain("Int time_offset 0\nBool reverse_input false\nDouble time 0"),
    "FrameHold": _plain("Int first_frame 1\nInt increment 0"),
    "FrameRange": _plain("Int first_frame 1\nInt last_frame 100"),
    "TimeWarp": _plain("Double lookup {{frame}}\nDouble time 0\nEnum filter {none nearest linear} none"),
    "Retime": _plain(
        "Int input.first 1\nBool input.first_lock false\nInt input.last 1\nBool input.last_lock false\nBool reverse false\nInt output.first 1\n"
        "Bool output.first_lock false\nInt output.last 1\nBool output.last_lock false\nDouble speed 1\nEnum before {hold loop bounce black continue} hold\n"
        "Enum after {hold loop bounce black continue} hold\nDouble shutter 0\nFree filter {none nearest box} box"
    ),
    "OneView": _plain("View view {main} main"),
    "JoinViews": _plain("Eval viewassoc", inputs=1, maximum=20),
    "AddChannels": _plain(
        "Mask channels none\nMask channels2 none\nMask channels3 none\nMask channels4 none\nColor color 0\nBool format_size true"
    ),
    "Remove": _plain("Enum operation {remove keep} remove\nMask channels all\nMask channels2 none\nMask channels3 none\nMask channels4 none"),
    "BlackOutside": _plain(),
    "CopyBBox": _plain("", inputs=2),
    "AdjBBox": _plain("WH numpixels 25"),
    "Expression": _plain(
        "".join(f"Eval temp_name{i}\nEval temp_expr{i}\n" for i in range(4))
        + "".join(f"Mask channel{i} none\nEval expr{i}\n" for i in range(4)) + MASK + "Channel unpremult none\nDouble mix 1", optional=1,
    ),
    "ModifyMetaData": _plain("Multiline metadata"),
    "CopyMetaData": _plain("", inputs=2),
    "Colorspace": _plain("Free colorspace_in {Linear sRGB} Linear\nFree colorspace_out {Linear sRGB} Linear\nMask channels rgb"),
    "Text2": _plain("Multiline message\nBBox box 0"),
    "DeepWrite": _plain("File file\n" + RENDER_HOOKS + "Double render_order 1\nBool reading false", executable=True),
    "WriteGeo": _plain("File file\n" + RENDER_HOOKS + "Double render_order 1\nBool reading false", executable=True),
}  # fmt: skip
# Nuke makes these knobs of a Write only once it knows that the file is an EXR.
EXR_KNOBS = frozenset(line.split()[1] for line in EXR.split("\n") if line)


def make_knobs(class_name: str) -> dict[str, Knob]:
    """Fresh knobs of a class, in order; KeyError for a class that isn't known."""
    spec = CLASSES[class_name]
    common = "" if class_name == "Root" else COMMON
    found: dict[str, Knob] = {}
    for line in (spec.knobs + common).split("\n"):
        if line:
            knob = _make_knob(line)
            found.setdefault(knob.name(), knob)
    return found


def _make_knob(line: str) -> Knob:
    kind, name, *rest = [word for word, _ in tcl.fields(line)]
    cls = KINDS[kind]
    if issubclass(cls, Enumeration_Knob):
        items = [word for word, _ in tcl.fields(rest[0])]
        knob: Knob = cls(name, None, items)
        rest = rest[1:]
    else:
        knob = cls(name)
    if rest and rest[0] != "":
        knob._from_script(rest[0])
    knob._set_default()
    return knob
