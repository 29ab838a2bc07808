"""The pictures of the goods, one function a kind, and the colours they come in.

A drawing is made once for each kind and variant; each product then has its own colours (see `Canvas`).
Coordinates are on a grid of 100 × 100. A function draws with inks, `v` (0, 1, 2) chooses among variants.
"""

import math
from collections.abc import Callable
from functools import cache

from .canvas import Canvas, Picture

GROUND, BACK, SHADOW, MAIN, DARK, LIGHT, INK, CREAM, BRASS = range(9)
VARIANTS = 3

Colour = tuple[int, int, int]

# ground, shape behind, main: everything else follows.
PALETTES = [
    ("f6e3c5", "f0cf9b", "c8442b"),
    ("dcebe4", "bfdccf", "1f6f5c"),
    ("f9dcd2", "f3bfae", "a8324a"),
    ("e2e6f3", "c5cdea", "3d4f9f"),
    ("fbeab5", "f4d678", "d0761b"),
    ("d9ecf2", "b2d8e4", "1b6e8c"),
    ("efe1ee", "dcc2dc", "7a3b78"),
    ("e9ead0", "d2d6a3", "6b7a25"),
    ("f4e6da", "e6cbb4", "7d4a2c"),
    ("2f4858", "3c5b6e", "e9a23b"),
    ("33463f", "43594f", "e07a5f"),
    ("4a2f3d", "60404f", "f2b6a0"),
]


def inks(palette: int) -> list[Colour]:
    """The nine colours of a palette, by the number of the ink."""
    ground, back, main = (_colour(text) for text in PALETTES[palette % len(PALETTES)])
    ink, cream, brass = _colour("22262e"), _colour("fdf8ec"), _colour("d9ab4a")
    return [ground, back, _mix(back, ink, 0.28), main, _mix(main, ink, 0.35), _mix(main, cream, 0.35), ink, cream, brass]


@cache
def picture(kind: str, variant: int) -> Picture:
    """The drawing of a kind of goods, on its background and with its shadow."""
    canvas = Canvas(GROUND)
    BACKGROUNDS[variant % VARIANTS](canvas)
    canvas.shift, canvas.only = (2.2, 2.8), SHADOW
    KINDS[kind](canvas, variant % VARIANTS)
    canvas.shift, canvas.only, canvas.turn = (0, 0), None, 0
    KINDS[kind](canvas, variant % VARIANTS)
    return Picture(canvas)


def _colour(text: str) -> Colour:
    return tuple(bytes.fromhex(text))


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b))


def _disc(c: Canvas) -> None:
    c.circle(50, 50, 40, BACK)


def _rays(c: Canvas) -> None:
    for i in range(12):
        a, b = math.radians(i * 30), math.radians(i * 30 + 15)
        c.polygon([(50, 50), (50 + 90 * math.cos(a), 50 + 90 * math.sin(a)), (50 + 90 * math.cos(b), 50 + 90 * math.sin(b))], BACK)


def _arch(c: Canvas) -> None:
    c.circle(50, 46, 34, BACK)
    c.box(16, 46, 68, 54, BACK)


BACKGROUNDS = [_disc, _rays, _arch]


def guitar(c: Canvas, v: int) -> None:
    c.turn = 32
    half = ((6, 51), (13, 51.5), (16, 58), (12.5, 66), (15, 73), (19.5, 82), (14, 91), (0, 93))
    _body(c, half, 93, MAIN)
    _body(c, [(x * 0.9, 72 + (y - 72) * 0.93) for x, y in half], 93, LIGHT if v else MAIN)
    if v == 1:
        _body(c, [(x * 0.9, 72 + (y - 72) * 0.93) for x, y in half], 93, BRASS)
    c.circle(50, 66, 6.6, DARK)
    c.circle(50, 66, 5.4, INK)
    _neck(c, 4, 63, 5)
    c.box(43, 80, 14, 3, INK, 1)
    _strings(c, 4, 80, 3.4)


def electric(c: Canvas, v: int) -> None:
    c.turn = 32
    horns = [
        [(44, 58), (36, 49), (33, 54), (36, 64), (34, 74), (36, 87), (50, 92), (64, 87), (66, 74), (62, 64), (66, 55), (61, 53), (56, 58)],
        [(45, 56), (37, 52), (34, 60), (37, 69), (33, 79), (40, 90), (50, 91), (60, 90), (67, 79), (62, 68), (64, 58), (60, 51), (55, 57)],
        [(44, 60), (34, 56), (30, 66), (36, 74), (30, 88), (44, 88), (50, 84), (60, 93), (70, 88), (64, 74), (68, 62), (60, 54), (56, 60)],
    ][v]
    c.blob(horns, MAIN)
    c.blob([(45, 63), (40, 62), (40, 72), (43, 84), (54, 84), (60, 76), (58, 64), (54, 64)], CREAM)
    _neck(c, 4, 64, 4.6)
    for y in (68, 74):
        c.box(44.5, y, 11, 3, INK, 1)
    c.box(44, 80, 12, 3, BRASS, 1)
    for x, y in ((60, 80), (62, 86)):
        c.circle(x, y, 1.7, BRASS)
    _strings(c, 4, 80, 3)


def violin(c: Canvas, v: int) -> None:
    c.turn = -28
    half = ((4, 48), (12, 49), (14, 57), (8, 62), (7, 68), (10, 73), (16.5, 79), (15, 90), (0, 93))
    _body(c, half, 93, MAIN)
    _body(c, [(x * 0.88, 71 + (y - 71) * 0.93) for x, y in half], 93, (LIGHT, BRASS, MAIN)[v])
    for x, tilt in ((42.5, 1), (57.5, -1)):
        c.line(x + tilt * 1.2, 64, x - tilt * 1.2, 75, 1.3, INK)
        c.circle(x + tilt * 1.6, 64, 1.3, INK)
        c.circle(x - tilt * 1.6, 75, 1.3, INK)
    c.polygon([(47.5, 16), (52.5, 16), (53.6, 66), (46.4, 66)], INK)
    c.circle(50, 13, 4, DARK)
    c.circle(50, 13, 1.6, BRASS)
    for y in (17, 21):
        c.line(44, y, 56, y, 1.4, DARK)
    c.box(44, 71, 12, 1.6, CREAM)
    c.polygon([(47, 76), (53, 76), (51.5, 90), (48.5, 90)], INK)
    _strings(c, 14, 78, 2.4, 4)
    c.line(72, 22, 76, 88, 1.4, DARK)
    c.line(74, 22, 78, 88, 0.7, CREAM)


def keys(c: Canvas, v: int) -> None:
    c.turn = -9
    top = (36, 30, 38)[v]
    c.box(8, top, 84, 70 - top, MAIN, 3)
    c.box(8, top, 84, 13 if v != 2 else 8, DARK, 3)
    if v != 2:
        c.box(60, top + 3, 16, 6, BRASS if v else LIGHT, 1)
        for i in range(7):
            c.circle(16 + i * 5.6, top + 6, 1.9, (BRASS, CREAM)[v])
        if v == 1:
            for i in range(7):
                c.line(16 + i * 5.6, top + 10, 16 + i * 5.6, top + 15, 1, LIGHT)
    keys_top = 51 if v != 2 else 47
    for i in range(14):
        c.box(12 + i * 5.43, keys_top, 5.0, 67 - keys_top, CREAM, 0.8)
    for i in (0, 1, 3, 4, 5, 7, 8, 10, 11, 12):
        c.box(15.7 + i * 5.43, keys_top, 3.1, (67 - keys_top) * 0.6, INK, 0.6)


def drum(c: Canvas, v: int) -> None:
    tall = (24, 34, 16)[v]
    top = 52 - tall / 2
    c.ellipse(50, top + tall, 33, 10, DARK)
    c.box(17, top, 66, tall, MAIN)
    c.ellipse(50, top + tall, 33, 10, MAIN)
    for i in range(9):
        x = 50 + 33 * math.cos(math.pi * i / 8)
        y = 10 * math.sin(math.pi * i / 8)
        if v == 1 and i < 8:
            x2, y2 = 50 + 33 * math.cos(math.pi * (i + 1) / 8), 10 * math.sin(math.pi * (i + 1) / 8)
            middle = (x + x2) / 2, (y + y2) / 2 + top + tall
            c.line(x, top + y, *middle, 1.1, CREAM)
            c.line(x2, top + y2, *middle, 1.1, CREAM)
        elif v != 1:
            c.line(x, top + y + 2, x, top + tall + y - 1, 1.8, BRASS)
    _hoop(c, top + tall, CREAM if v else BRASS)
    c.ellipse(50, top, 34.5, 11, BRASS if v != 1 else DARK)
    c.ellipse(50, top, 31.5, 9.2, CREAM)
    for x0, y0, x1, y1 in ((30, 12, 56, top + 1), (74, 10, 46, top + 2)):
        c.line(x0, y0, x1, y1, 2, DARK)
        c.ellipse(x1, y1, 2.4, 1.9, DARK)


def cymbal(c: Canvas, v: int) -> None:
    c.line(50, 36, 50, 78, 2.2, INK)
    for x in (32, 68):
        c.line(50, 74, x, 92, 2.2, INK)
    c.line(50, 76, 50, 91, 2.2, INK)
    c.turn = (-8, -14, 9)[v]
    if v == 0:
        c.ellipse(50, 45, 40, 7.6, DARK)
        c.ellipse(50, 43.6, 40, 7.2, MAIN)
    c.ellipse(50, 38, 40, 8, DARK)
    c.ellipse(50, 36.6, 40, 7.6, BRASS)
    c.ellipse(50, 36.3, 28, 5.2, LIGHT if v == 1 else CREAM)
    c.ellipse(50, 36.3, 26.6, 4.9, BRASS)
    c.ellipse(50, 34.8, 9, 3.6, MAIN)
    c.box(48.8, 26, 2.4, 8, INK, 1)


def trumpet(c: Canvas, v: int) -> None:
    c.turn = (-18, -26, -12)[v]
    metal = BRASS if v != 1 else LIGHT
    c.line(10, 46, 66, 46, 3, metal)
    c.box(6, 43, 5, 6, DARK, 1.5)
    c.arc(30, 54, 8, 90, 270, 3, metal)
    c.arc(62, 54, 8, -90, 90, 3, metal)
    c.line(30, 62, 62, 62, 3, metal)
    c.polygon([(60, 44.4), (70, 44), (80, 40), (87, 30), (90, 30), (90, 62), (87, 62), (80, 52), (70, 48), (60, 47.6)], metal)
    c.ellipse(89.5, 46, 2.6, 16.4, MAIN)
    for i in range(3):
        x = 38 + i * 7.4
        c.box(x, 40, 5, 26, MAIN, 1.6)
        c.box(x, 48, 5, 3, CREAM)
        c.line(x + 2.5, 34, x + 2.5, 40, 1.2, metal)
        c.box(x, 32, 5, 2.4, CREAM, 1.2)


def reed(c: Canvas, v: int) -> None:
    c.turn = (38, -40, 44)[v]
    wood = (INK, MAIN, DARK)[v]
    c.polygon([(47, 10), (53, 10), (54, 20), (46, 20)], DARK if v != 2 else CREAM)
    c.box(46, 18, 8, 64, wood, 1)
    c.polygon([(46, 76), (54, 76), (60, 92), (40, 92)], wood)
    c.ellipse(50, 92, 10, 2.4, BRASS)
    for y in (20, 34, 56, 76):
        c.box(45.2, y, 9.6, 2.2, BRASS, 0.8)
    for y in (27, 31, 40, 45, 50, 61, 66, 71):
        c.circle(50, y, 1.9, CREAM if wood != CREAM else INK)
    for y in (29, 42, 63):
        c.line(55, y, 58.5, y + 5, 1.5, BRASS)
        c.circle(58.5, y + 5, 1.7, BRASS)


def record(c: Canvas, v: int) -> None:
    c.turn = (-4, 3, -2)[v]
    c.circle(62, 50, 30, INK)
    for r in (26, 22.5, 19):
        c.arc(62, 50, r, 0, 360, 0.5, DARK)
    c.circle(62, 50, 10, MAIN)
    c.circle(62, 50, 1.6, CREAM)
    c.box(10, 18, 64, 64, CREAM, 1)
    if v == 0:
        c.box(12, 20, 60, 60, MAIN)
        c.circle(42, 52, 20, BRASS)
        for i in range(6):
            c.box(12, 54 + i * 4.6, 60, 1 + i * 0.55, MAIN)
    elif v == 1:
        c.box(12, 20, 60, 60, LIGHT)
        for i in range(6):
            r = 29 - i * 5
            c.arc(42, 80 - 15, r, 180, 360, 3.2, (MAIN, CREAM, DARK)[i % 3])
        c.box(12, 65, 60, 15, DARK)
    else:
        c.box(12, 20, 60, 60, DARK)
        for row in range(4):
            for column in range(4):
                x, y = 12 + column * 15, 20 + row * 15
                shape = (row * 3 + column * 5) % 4
                if shape == 0:
                    c.polygon([(x, y), (x + 15, y), (x, y + 15)], LIGHT)
                elif shape == 1:
                    c.circle(x + 7.5, y + 7.5, 6, BRASS)
                elif shape == 2:
                    c.polygon([(x + 15, y), (x + 15, y + 15), (x, y + 15)], MAIN)
                else:
                    c.box(x, y + 7.5, 15, 7.5, CREAM)


def sheet(c: Canvas, v: int) -> None:
    c.turn = -6
    c.box(28, 14, 52, 70, LIGHT, 1)
    c.turn = (3, 2, 5)[v]
    c.box(22, 14, 54, 72, CREAM, 1)
    if v == 2:
        c.box(22, 14, 54, 30, MAIN, 1)
        c.circle(49, 29, 9, BRASS)
        _note(c, 47, 33, 1.3, INK)
    else:
        c.box(34, 19, 30, 3, MAIN, 1)
        c.box(40, 24, 18, 1.4, LIGHT, 0.6)
    for system, y in enumerate((32, 47, 62, 76) if v != 2 else (50, 63, 76)):
        if y + 6 > 86:
            continue
        for i in range(5):
            c.line(26, y + i * 1.7, 72, y + i * 1.7, 0.35, INK)
        for i in range(6):
            height = math.sin(i * 1.9 + system * 2.3 + v) * 3
            _note(c, 30 + i * 7.4, y + 3.4 + height, 0.75, MAIN if (i + system) % 5 == 0 else INK)


def microphone(c: Canvas, v: int) -> None:
    if v == 1:
        c.line(50, 60, 50, 88, 3, INK)
        c.ellipse(50, 90, 18, 3.6, INK)
        c.box(33, 14, 34, 48, MAIN, 15)
        c.box(36, 17, 28, 42, BRASS, 13)
        for i in range(6):
            c.box(36, 22 + i * 6, 28, 2.4, DARK)
        c.box(33, 41, 34, 5, CREAM)
        return
    c.turn = (34, 0, -30)[v]
    c.polygon([(43, 40), (57, 40), (53.5, 90), (46.5, 90)], MAIN if v == 0 else DARK)
    c.box(48.4, 56, 3.2, 9, CREAM, 1.4)
    c.circle(50, 26, 15.5, BRASS)
    for i in range(-3, 4):
        half = math.sqrt(15 * 15 - (i * 4) ** 2)
        c.line(50 - half, 26 + i * 4, 50 + half, 26 + i * 4, 0.7, DARK)
        c.line(50 + i * 4, 26 - half, 50 + i * 4, 26 + half, 0.7, DARK)
    c.box(34, 24, 32, 4.4, CREAM, 2)
    c.box(41, 39, 18, 4, INK, 1.6)


def headphones(c: Canvas, v: int) -> None:
    c.arc(50, 52, 30, 180, 360, 5, DARK)
    c.arc(50, 52, 30, 215, 325, 7, MAIN)
    for x, inward in ((20, 1), (80, -1)):
        c.box(x - 3, 50, 6, 10, DARK, 2)
        c.box(x - 7 + inward * 7, 51, 9, 28, INK, 4)
        c.box(x - 7, 49, 13, 32, MAIN, 6)
        c.circle(x - 0.5, 65, (4, 0.1, 5)[v], BRASS)
        c.box(x - 4, 54, 2.2, 22, LIGHT, 1)


def speaker(c: Canvas, v: int) -> None:
    if v == 1:
        c.box(12, 26, 76, 54, MAIN, 3)
        c.box(15, 38, 70, 39, CREAM, 2)
        for i in range(17):
            c.box(17 + i * 4, 40, 2.2, 35, DARK if i % 2 else LIGHT)
        for i in range(6):
            c.circle(24 + i * 8, 32, 2.2, BRASS)
        c.box(72, 30, 10, 4, INK, 1)
        c.arc(50, 26, 12, 200, 340, 2.6, INK)
        return
    c.box(27, 10, 46, 80, MAIN, 3)
    c.box(30, 13, 40, 74, DARK, 2)
    for y, r in ((32, 11), (64, 17)) if v == 0 else ((26, 7), (60, 18)):
        c.circle(50, y, r, BRASS)
        c.circle(50, y, r * 0.88, INK)
        c.circle(50, y, r * 0.62, MAIN)
        c.circle(50, y, r * 0.3, CREAM)


def metronome(c: Canvas, v: int) -> None:
    c.polygon([(42, 14), (58, 14), (74, 84), (26, 84)], MAIN)
    c.polygon([(44.5, 20), (55.5, 20), (66, 66), (34, 66)], CREAM)
    for i in range(8):
        y = 26 + i * 5
        c.line(48, y, 52, y, 0.7, INK)
    c.box(23, 80, 54, 9, DARK, 2)
    c.box(33, 66, 34, 3, BRASS)
    c.circle(50, 75, 3, BRASS)
    tip = (66, 36, 58)[v]
    c.line(50, 68, tip, 18, 1.3, INK)
    x, y = 50 + (tip - 50) * 0.6, 68 - 50 * 0.6
    c.box(x - 3.6, y - 2.6, 7.2, 5.2, BRASS, 1)


def fork(c: Canvas, v: int) -> None:
    c.turn = (24, -20, 40)[v]
    metal = (BRASS, MAIN, BRASS)[v]
    c.arc(50, 50, 9, 0, 180, 4.6, metal)
    c.box(38.7, 12, 4.6, 39, metal, 1.2)
    c.box(56.7, 12, 4.6, 39, metal, 1.2)
    c.box(47.7, 58, 4.6, 24, metal)
    c.circle(50, 85, 4.4, metal)
    for side in (-1, 1):
        for r in (6, 10):
            start = -40 if side > 0 else 140
            c.arc(50 + side * 14, 22, r, start, start + 80, 1.4, MAIN if v != 1 else BRASS)


def picks(c: Canvas, v: int) -> None:
    for (x, y), angle, ink in zip(((36, 42), (66, 46), (50, 68)), (-18, 22, 4), ((MAIN, BRASS, DARK), (DARK, LIGHT, MAIN), (CREAM, MAIN, BRASS))[v]):
        cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        outline = [(-15, -10), (-8, -16), (8, -16), (15, -10), (10, 6), (2, 17), (-2, 17), (-10, 6)]
        c.blob([(x + px * cos - py * sin, y + px * sin + py * cos) for px, py in outline], ink)
        _note(c, x - 1, y - 1, 1.0, INK if ink != DARK else CREAM)


KINDS: dict[str, Callable[[Canvas, int], None]] = {
    f.__name__: f
    for f in (
        guitar, electric, violin, keys, drum, cymbal, trumpet, reed, record,
        sheet, microphone, headphones, speaker, metronome, fork, picks,
    )
}


def _body(c: Canvas, half: list[tuple[float, float]], end: float, ink: int) -> None:
    """A symmetrical outline from its right half, given as distance from the middle and height."""
    right = [(50 + x, y) for x, y in half]
    left = [(50 - x, y) for x, y in half if x]
    c.blob(right + left[::-1], ink)


def _neck(c: Canvas, top: float, bottom: float, width: float) -> None:
    c.polygon([(45.5, top + 1), (54.5, top + 1), (53.5, top + 12), (46.5, top + 12)], DARK)
    for i in range(3):
        c.circle(44.2, top + 3 + i * 3.4, 1.2, BRASS)
        c.circle(55.8, top + 3 + i * 3.4, 1.2, BRASS)
    c.box(50 - width / 2, top + 11, width, bottom - top - 11, INK)
    for i in range(9):
        y = top + 15 + i * 4.4
        c.box(50 - width / 2, y, width, 0.5, BRASS)


def _strings(c: Canvas, top: float, bottom: float, width: float, count: int = 6) -> None:
    for i in range(count):
        x = 50 - width / 2 + width * i / (count - 1)
        c.line(x, top + 4, x, bottom, 0.22, CREAM)


def _hoop(c: Canvas, y: float, ink: int) -> None:
    edge = [(50 + 34 * math.cos(math.pi * i / 30), y + 10.4 * math.sin(math.pi * i / 30)) for i in range(31)]
    c.polygon(edge + [(x, py - 3.4) for x, py in reversed(edge)], ink)


def _note(c: Canvas, x: float, y: float, scale: float, ink: int) -> None:
    c.ellipse(x, y, 2.3 * scale, 1.7 * scale, ink)
    c.line(x + 2 * scale, y, x + 2 * scale, y - 9 * scale, 0.6 * scale, ink)
    c.polygon([(x + 1.8 * scale, y - 9.2 * scale), (x + 5 * scale, y - 6 * scale), (x + 1.8 * scale, y - 7 * scale)], ink)
