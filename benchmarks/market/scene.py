"""The second set's place: a market street, as boxes that cast shadows and painted surfaces that are seen.

Most surfaces are faces of boxes. Some are drawn only (shutters, leaves, barrel staves), and some boxes only cast
shadows: those inside barrels.
"""

import itertools

import numpy as np

from benchmarks.market.boxes import UPRIGHT, Scene, rotation
from benchmarks.market.paintings import (
    BLUE,
    DARK_BRICK,
    FRUIT,
    INKS,
    LIME,
    OCHRE,
    PAINTS,
    RED_BRICK,
    ROSE,
    YELLOW_BRICK,
    door,
    foliage,
    fruit,
    gable,
    house,
    letters,
    pick,
    poster,
    shop,
    wheel,
    window,
)  # fmt: skip
from benchmarks.market.textures import Material, Rng, Sheet, cloth, cobbles, colour, planks, stone, stripes, tiles

HALF_STREET = 3.5  # metres from the middle of the street to the fronts
WOOD = planks(colour(0.56, 0.44, 0.32))
OLD_WOOD = planks(colour(0.46, 0.42, 0.37), 0.11, worn=0.55)
DARK_WOOD = planks(colour(0.34, 0.25, 0.18), 0.12)
ROOF = tiles(colour(0.58, 0.37, 0.28))
SLATE = tiles(colour(0.37, 0.36, 0.38))
STONE = stone()
POST = planks(colour(0.52, 0.42, 0.32), 0.08, upright=True)
WHITE = colour(0.90, 0.87, 0.78)
LEAVES = foliage(colour(0.36, 0.47, 0.20))
IVY = foliage(colour(0.27, 0.40, 0.17), 0.62, 0.085)


def market_street(seed: int) -> Scene:
    """The place; colours and small things depend on the seed."""
    rng = np.random.default_rng([seed, 1])
    scene = Scene()
    scene.box((-14, -4.6, -0.5), (18.6, 4.9, 0), STONE, (), top=cobbles, density=110)
    scene.box((-40, -40, -1), (50, 40, -0.01), STONE, ())
    left_houses(scene, rng)
    right_houses(scene, rng)
    ends(scene, rng)
    for x, side, long in ((-0.9, 1, 2.4), (6.9, 1, 2.6), (3.0, -1, 2.5), (9.2, -1, 2.8), (12.6, 1, 2.2)):
        stall(scene, rng, x, side, long)
    loose_things(scene, rng)
    washing(scene, rng)
    return scene


def front(
    scene: Scene, rng: Rng, x: tuple[float, float], side: int, high: float, base: Material, roof: Material | None,
    ground: list[tuple[Material, float, float, float, float]], setback: float = 0.0, bills: int = 0,
    sides: tuple[str, ...] = ("-x", "+x"),
) -> None:  # fmt: skip
    """A house whose front faces the street, with windows above the ground floor, sills, a cornice, roof and chimney.

    `side` is 1 on the left and -1 on the right of the street. `ground` has the openings of the ground floor in the form
    of `paintings.house`, with left as seen from the street.
    """
    wide, near = x[1] - x[0], HALF_STREET + setback
    openings = list(ground)
    count = max(int(wide / rng.uniform(1.75, 2.1)), 1)
    for floor in range(int((high - 3.1) / 2.3) + (high > 5)):
        bottom, tall, across = 3.35 + 2.35 * floor, rng.uniform(1.2, 1.5), rng.uniform(0.9, 1.1)
        if bottom + tall > high - 0.25:
            break
        for number in range(count):
            left = wide * (number + 0.5) / count - across / 2 + rng.uniform(-0.1, 0.1)
            openings.append((window, left, bottom, across, tall))
            paint = pick(rng, PAINTS)
            for piece in (left - 0.5, left + across + 0.02) if rng.random() < 0.65 else ():
                # Seen from the street, left is towards -x on the left side and towards +x on the right.
                begin = x[0] + piece if side > 0 else x[1] - piece
                scene.sheet(
                    (begin, side * (near - 0.04), bottom + tall - 0.05), (0.48 * side, 0, 0), (0, 0, 0.05 - tall),
                    planks(paint, 0.08, upright=True, worn=0.45), 130,
                )  # fmt: skip
            sill = x[0] + left if side > 0 else x[1] - left - across
            span = sorted((side * (near - 0.16), side * (near + 0.05)))
            scene.box(
                (sill - 0.06, span[0], bottom - 0.08), (sill + across + 0.06, span[1], bottom), STONE,
                ("-y" if side > 0 else "+y", "-z", "-x", "+x"), top=STONE, density=110,
            )  # fmt: skip
    y = sorted((side * near, side * (near + 5)))
    street = "-y" if side > 0 else "+y"
    scene.box((x[0], y[0], 0), (x[1], y[1], high), base, (), density=100, others={street: house(base, openings, bills)})
    for side_wall in sides:
        flank(scene, x[side_wall == "+x"], y, high, base, side_wall)
    ledge = sorted((side * (near - 0.22), side * (near + 0.3)))
    scene.box(
        (x[0], ledge[0], high - 0.2), (x[1], ledge[1], high + 0.02), STONE, (street, "-z", "-x", "+x"), density=90
    )
    if roof is not None:
        pitched_roof(scene, x, side, near, high, roof, base)
    for place in rng.uniform(0.15, 0.85, 1 + (wide > 5)):
        chimney(scene, rng, x[0] + place * wide, side * (near + 1.5), high + (0.5 if roof is None else 1.0))


def flank(scene: Scene, x: float, y: list[float], high: float, base: Material, name: str) -> None:
    """A house's side wall, of which only the upper part beside a lower neighbour is seen: coarse."""
    way = 1 if name == "+x" else -1
    scene.sheet((x, y[0] if way > 0 else y[1], high), (0, way * (y[1] - y[0]), 0), (0, 0, -high), base, 60)


def pitched_roof(
    scene: Scene, x: tuple[float, float], side: int, near: float, high: float, roof: Material, base: Material
) -> None:
    """The roof's half towards the street, with eaves, and the gables at both ends."""
    pitch, across = 38.0, 2.7
    middle = np.array([(x[0] + x[1]) / 2, side * (near + across / 2 - 0.35), high + 0.16 + 0.78 * (across / 2 - 0.35)])
    half = np.array([(x[1] - x[0]) / 2 + 0.12, across / 2 / np.cos(np.radians(pitch)), 0.05])
    # The texture's rows must run down towards the street, which a turn by half a circle does on the right side.
    scene.box(
        middle - half, middle + half, DARK_WOOD, ("-x", "+x", "-y", "+y", "-z"), top=roof, density=80,
        turn=0 if side > 0 else 180, tilt=("x", pitch),
    )  # fmt: skip
    ridge = 0.78 * (across - 0.35) + 0.05
    for place, way in ((x[0], -1), (x[1], 1)):
        # Seen from outside, right is towards -y at the end of low x.
        begin, deep = side * near, side * 2 * (across - 0.35)
        low, top = min(begin, begin + deep), max(begin, begin + deep)
        corner = (place, top if way < 0 else low, high + ridge)
        scene.sheet(corner, (0, way * (top - low), 0), (0, 0, -ridge), gable(base), 80)


def chimney(scene: Scene, rng: Rng, x: float, y: float, z: float) -> None:
    """A stack with a rim and two pots."""
    wide, high = rng.uniform(0.5, 0.9), rng.uniform(1.2, 2.0)
    material = RED_BRICK if rng.random() < 0.6 else DARK_BRICK
    scene.box((x - wide / 2, y - 0.3, z - 1.0), (x + wide / 2, y + 0.3, z + high), material, density=70)
    rim = (x - wide / 2 - 0.07, y - 0.37, z + high - 0.18), (x + wide / 2 + 0.07, y + 0.37, z + high)
    scene.box(*rim, STONE, (*UPRIGHT, "-z"), density=70)
    for off in (-0.25, 0.22):
        pot = x + off * wide
        scene.box((pot - 0.1, y - 0.1, z + high), (pot + 0.1, y + 0.1, z + high + 0.45), tiles(colour(0.6, 0.38, 0.28)))


def left_houses(scene: Scene, rng: Rng) -> None:
    """The sunny side: five houses and a niche with steps."""
    front(scene, rng, (-7, -1.6), 1, 7.4, RED_BRICK, None, [(shop, 0.5, 0, 3.0, 2.75), (door, 4.0, 0, 1.1, 2.3)])
    front(
        scene, rng, (-1.6, 3.9), 1, 5.7, OCHRE, ROOF, [(window, 0.5, 0.9, 1.1, 1.5), (door, 2.2, 0, 1.15, 2.35),
        (window, 3.9, 0.9, 1.0, 1.5)], bills=4,
    )  # fmt: skip
    front(scene, rng, (3.9, 6.2), 1, 8.2, LIME, None, [(door, 0.6, 0.9, 1.1, 2.2)], setback=1.3)
    for number in range(5):
        scene.box((3.95, 3.6 + 0.25 * number, 0), (6.15, 4.8, 0.18 * (number + 1)), STONE, ("-y",), top=STONE)
    front(scene, rng, (6.2, 12.4), 1, 6.3, ROSE, ROOF, [(shop, 0.4, 0, 3.4, 2.8), (door, 4.5, 0, 1.15, 2.3)], bills=3)
    front(scene, rng, (12.4, 18.5), 1, 8.8, YELLOW_BRICK, SLATE, [(door, 0.5, 0, 1.2, 2.4), (shop, 2.2, 0, 3.4, 2.7)])


def right_houses(scene: Scene, rng: Rng) -> None:
    """The shady side: low and high houses, and a yard wall between them that lets the sun in."""
    front(scene, rng, (-7, -2.6), -1, 4.1, LIME, ROOF, [(door, 0.7, 0, 1.1, 2.3), (window, 2.4, 0.9, 1.2, 1.4)])
    front(scene, rng, (-2.6, 2.4), -1, 5.9, DARK_BRICK, SLATE, [(shop, 0.6, 0, 3.2, 2.8)], bills=3)
    wall = house(RED_BRICK, [], bills=4)
    scene.box((2.4, -4.5, 0), (5.9, -4.2, 2.2), RED_BRICK, ("+x",), density=110, others={"+y": wall})
    scene.box((2.4, -4.56, 2.2), (5.9, -4.14, 2.3), STONE, ("+y", "-y"), top=STONE, density=110)
    front(
        scene, rng, (5.9, 11.6), -1, 3.6, BLUE, ROOF, [(door, 0.5, 0, 1.1, 2.3), (window, 2.2, 0.9, 1.2, 1.5),
        (window, 4.0, 0.9, 1.2, 1.5)], bills=2,
    )  # fmt: skip
    front(scene, rng, (11.6, 18.5), -1, 6.9, RED_BRICK, None, [(shop, 0.8, 0, 3.2, 2.8), (door, 5.0, 0, 1.1, 2.3)])
    scene.sheet((5.6, -4.12, 2.55), (-2.4, 0, 0), (0, 0, -2.0), IVY, 140)
    scene.sheet((-2.8, 3.44, 4.4), (1.9, 0, 0), (0, 0, -4.4), IVY, 110)


def ends(scene: Scene, rng: Rng) -> None:
    """What closes the street: a house with a gateway and a tower behind it, a low house and a wall at the other end."""
    gate = house(
        OCHRE,
        [
            (door, 2.6, 0, 1.9, 3.1),
            *((window, at, 4.2, 1.05, 1.5) for at in (0.5, 2.1, 3.9, 5.7)),
            (shop, 4.9, 0, 2.6, 2.8),
        ],
        bills=3,
    )
    scene.box((18.5, -4.5, 0), (22, 4.5, 6.8), OCHRE, (), density=90, others={"-x": gate})
    scene.box((18.3, -4.5, 6.6), (22, 4.5, 6.9), STONE, ("-x", "-z"), density=80)
    for at in (0.5, 2.1, 3.9, 5.7):
        scene.box((18.34, 3.4 - at, 4.1), (18.55, 4.6 - at, 4.2), STONE, ("-x", "-z", "-y", "+y"), top=STONE)
    tower = house(STONE, [(window, 0.7, 10.2, 1.0, 1.9)])
    scene.box((21, -1.9, 0), (23.4, 0.5, 12.8), STONE, ("-y", "+y"), density=60, others={"-x": tower})
    scene.box((20.7, -2.2, 12.8), (23.7, 0.8, 13.1), STONE, (*UPRIGHT, "-z"), density=60)
    for y, x in ((-1.2, 19.6), (2.6, 20.0)):
        chimney(scene, rng, x, y, 7.3)
    back = house(ROSE, [(window, 0.8, 1.0, 1.1, 1.3), (door, 2.8, 0, 1.1, 2.3), (window, 4.8, 1.0, 1.1, 1.3)])
    scene.box((-14, -6, 0), (-11, 1.5, 3.6), ROSE, ("+y",), density=80, others={"+x": back})
    scene.box((-14.2, -6.2, 3.6), (-10.8, 1.7, 3.8), ROOF, ("+x", "+y", "-z"), density=80)
    scene.box((-13, 1.5, 0), (-12.6, 6, 2.4), DARK_BRICK, ("+x",), density=80)
    chimney(scene, rng, -12.5, -2.0, 4.6)


def stall(scene: Scene, rng: Rng, x: float, side: int, long: float) -> None:
    """A market stall: a table with a cloth front, posts, a striped awning, boxes of goods."""
    inner, outer = (1.75, 3.1) if side > 0 else (-1.75, -3.1)
    y = sorted((inner, outer))
    street = "-y" if side > 0 else "+y"
    paint, other = pick(rng, INKS[:6]), WHITE if rng.random() < 0.7 else pick(rng, INKS)
    skirt = stripes(paint, other, 0.1) if rng.random() < 0.4 else cloth(pick(rng, PAINTS) * 1.2)
    scene.box((x, y[0], 0.78), (x + long, y[1], 0.84), WOOD, (*UPRIGHT, "-z"), top=WOOD)
    scene.box(
        (x + 0.04, y[0] + 0.04, 0), (x + long - 0.04, y[1] - 0.04, 0.78), OLD_WOOD, ("-x", "+x"), others={street: skirt}
    )
    for post in (x + 0.03, x + long - 0.09):
        for place, high in ((inner, 2.15), (outer, 2.75)):
            at = place - 0.06 if place > 0 else place
            scene.box((post, at, 0), (post + 0.06, at + 0.06, high), POST)
    deep, middle = 0.95, (inner + outer) / 2
    scene.box(
        (x - 0.2, middle - deep, 2.47), (x + long + 0.2, middle + deep, 2.49), stripes(paint, other),
        ("-x", "+x", "-y", "-z"), top=stripes(paint, other), turn=0 if side > 0 else 180, tilt=("x", 22.0), density=110,
    )  # fmt: skip
    edge = middle - side * deep * np.cos(np.radians(22.0)), 2.48 - deep * np.sin(np.radians(22.0))
    begin = x - 0.2 if side > 0 else x + long + 0.2
    scene.sheet(
        (begin, edge[0] - side * 0.008, edge[1] + 0.015), (side * (long + 0.4), 0, 0), (0, 0, -0.28),
        stripes(paint, other, scallop=True), 150, both=True,
    )  # fmt: skip
    for place in np.arange(x + 0.1, x + long - 0.5, 0.56):
        for near in (0.1, 0.7):
            tall = rng.uniform(0.1, 0.22) + (0.12 if near > 0.5 else 0)
            begin_y = min(inner + side * near, inner + side * (near + 0.5))
            crate(scene, rng, (place, begin_y, 0.84), (0.48, 0.48, tall), rng.uniform(-4, 4))
    if rng.random() < 0.8:
        board = letters_board(rng)
        scene.sheet((begin + side * 0.5, inner - side * 0.01, 0.7), (side * 0.8, 0, 0), (0, 0, -0.35), board, 170)


def letters_board(rng: Rng) -> Material:
    """A price board's material."""
    ground, ink = colour(0.12, 0.13, 0.12), pick(rng, [WHITE, FRUIT[2], colour(0.9, 0.6, 0.6)])
    return lambda own, high, wide, density: letters(own, high, wide, density, ground, ink, "0123456789.", 4)


def crate(
    scene: Scene, rng: Rng, low: tuple[float, float, float], size: tuple[float, float, float], turn: float,
    top: Material = fruit,
) -> None:  # fmt: skip
    """A wooden box of goods."""
    wood = planks(colour(0.62, 0.50, 0.36) * rng.uniform(0.7, 1.1), 0.075, worn=0.3)
    scene.box(low, np.add(low, size), wood, top=top, density=180, turn=turn)


def loose_things(scene: Scene, rng: Rng) -> None:
    """What stands about: crates, barrels, sacks, a cart, plants, hanging signs, lamps."""
    stacks = (
        (5.4, -3.1, (0.62, 0.5, 0.42), 3), (6.25, -3.15, (0.55, 0.5, 0.38), 2), (2.1, 3.0, (0.6, 0.45, 0.4), 3),
        (11.0, 3.0, (0.6, 0.5, 0.42), 2), (0.9, -3.0, (0.7, 0.6, 0.5), 2), (15.4, -2.7, (0.8, 0.7, 0.55), 2),
    )  # fmt: skip
    for x, y, size, count in stacks:
        for number in range(count):
            shift = rng.uniform(-0.06, 0.06, 2)
            low = (x - size[0] / 2 + shift[0], y - size[1] / 2 + shift[1], number * size[2])
            crate(scene, rng, low, size, rng.uniform(-18, 18), OLD_WOOD if rng.random() < 0.5 else fruit)
    for x, y in ((1.6, -2.75), (2.15, -3.1), (6.4, 3.05), (10.4, 3.1), (16.4, 2.8), (-3.4, 3.0)):
        barrel(scene, rng, x, y)
    cart(scene)
    for x, y in ((4.1, 3.3), (6.0, 3.3), (-1.9, 3.2), (12.2, -3.2), (-2.4, -3.2)):
        plant(scene, rng, x, y)
    for x, side, z in ((0.3, 1, 3.0), (9.0, 1, 3.2), (-1.0, -1, 3.1), (13.0, -1, 3.4), (14.5, 1, 3.1)):
        hanging_sign(scene, rng, x, side, z)
    for x, y, turn in ((7.2, -3.0, 10.0), (7.75, -3.1, -14.0)):
        scene.box(
            (x - 0.25, y - 0.2, 0), (x + 0.25, y + 0.2, 0.62), cloth(colour(0.66, 0.57, 0.42)), top=fruit, turn=turn
        )
    for x in (3.0, 4.6):
        scene.box((x, -4.19, 1.0), (x + 0.9, -4.17, 1.9), poster, ("+y",))


def barrel(scene: Scene, rng: Rng, x: float, y: float) -> None:
    """Twelve staves and a lid; two boxes inside stop the light."""
    radius, high = rng.uniform(0.26, 0.32), rng.uniform(0.8, 0.95)
    stave = house(planks(colour(0.45, 0.32, 0.21), 0.09, upright=True), [])
    for turn in (0.0, 45.0):
        part = 0.69 * radius
        scene.box((x - part, y - part, 0), (x + part, y + part, high - 0.02), WOOD, (), turn=turn)
    angles = np.arange(13) * np.pi / 6
    ring = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=-1)
    for (ax, ay), (bx, by) in itertools.pairwise(ring):
        scene.sheet((ax, ay, high), (bx - ax, by - ay, 0), (0, 0, -high), hooped(stave), 150)
    scene.sheet(
        (x - radius, y + radius, high - 0.015), (2 * radius, 0, 0), (0, -2 * radius, 0), round_lid, 150
    )  # fmt: skip


def hooped(stave: Material) -> Material:
    """Staves with iron hoops."""

    def make(rng: Rng, high: float, wide: float, density: float) -> Sheet:
        sheet = stave(rng, high, wide, density)
        rows = np.linspace(0, 1, sheet.height.shape[0])
        for at in (0.06, 0.28, 0.72, 0.92):
            sheet.rgb[np.abs(rows - at) < 0.026] = colour(0.22, 0.2, 0.19)
        return sheet

    return make


def round_lid(rng: Rng, high: float, wide: float, density: float) -> Sheet:
    """A disc of boards."""
    sheet = OLD_WOOD(rng, high, wide, density)
    rows, columns = sheet.height.shape
    y, x = np.linspace(-1, 1, rows)[:, None], np.linspace(-1, 1, columns)[None]
    sheet.alpha = (x**2 + y**2 < 1).astype(np.float32)
    return sheet


def cart(scene: Scene) -> None:
    """A hand cart with goods under a cloth."""
    x, y = 11.6, -1.7
    scene.box((x, y - 0.55, 0.62), (x + 1.9, y + 0.55, 0.7), OLD_WOOD, (*UPRIGHT, "-z"), top=OLD_WOOD, turn=12)
    scene.box((x + 0.05, y - 0.5, 0.7), (x + 1.7, y + 0.5, 1.05), WOOD, top=cloth(colour(0.50, 0.46, 0.34)), turn=12)
    scene.box((x + 0.3, y - 0.3, 1.05), (x + 1.0, y + 0.3, 1.35), cloth(colour(0.62, 0.55, 0.40)), top=fruit, turn=20)
    for side in (-1, 1):
        middle = np.array([x + 0.95, y, 0.45]) + rotation("z", 12) @ np.array([0.15, side * 0.62, 0])
        along = rotation("z", 12) @ np.array([0.9, 0, 0])
        scene.sheet(middle - along / 2 + [0, 0, 0.45], along, (0, 0, -0.9), wheel, 170, both=True)


def plant(scene: Scene, rng: Rng, x: float, y: float) -> None:
    """A pot with a bush: three crossed sheets of leaves."""
    scene.box((x - 0.2, y - 0.2, 0), (x + 0.2, y + 0.2, 0.38), tiles(colour(0.62, 0.4, 0.3)), top=STONE)
    bloom = pick(rng, [INKS[0], INKS[2], WHITE])
    for turn in (20, 80, 140):
        along = rotation("z", turn) @ np.array([1.0, 0, 0])
        material = foliage(colour(0.33, 0.45, 0.2), 0.7, 0.055, bloom)
        scene.sheet(np.array([x, y, 1.3]) - along / 2, along, (0, 0, -1.0), material, 150, both=True)


def hanging_sign(scene: Scene, rng: Rng, x: float, side: int, z: float) -> None:
    """A board that hangs over the street, lettered on both sides."""
    ground, ink = pick(rng, INKS), pick(rng, [WHITE, INKS[2]])
    y = sorted((side * 3.35, side * 2.5))

    def board(own: Rng, high: float, wide: float, density: float) -> Sheet:
        return letters(own, high, wide, density, ground, ink, count=4)

    scene.box((x, y[0], z - 0.55), (x + 0.05, y[1], z), board, density=170)
    arm = sorted((side * 3.5, side * 2.45))
    scene.box((x + 0.01, arm[0], z + 0.05), (x + 0.04, arm[1], z + 0.09), DARK_WOOD, (*UPRIGHT, "-z"))


def washing(scene: Scene, rng: Rng) -> None:
    """Lines across the street with cloths."""
    for x, z, places in ((1.9, 4.6, (-2.2, -0.9, 0.7)), (8.6, 4.4, (-0.4, 1.2)), (14.2, 5.2, (-2.0, -0.4, 1.5))):
        scene.box((x, -3.6, z), (x + 0.015, 3.6, z + 0.015), DARK_WOOD, density=40)
        for y in places:
            wide, tall = rng.uniform(0.7, 1.1), rng.uniform(0.7, 1.2)
            tone = WHITE if rng.random() < 0.5 else 0.5 * pick(rng, INKS) + 0.2
            material = stripes(tone, WHITE, 0.09) if rng.random() < 0.3 else cloth(tone)
            scene.box(
                (x, y, z - tall), (x + 0.015, y + wide, z + 0.01), material, ("-x", "+x"), turn=rng.uniform(-9, 9)
            )
