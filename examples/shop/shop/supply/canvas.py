"""A small drawing board: flat inks on a square, smoothed, and written as an indexed PNG.

Shapes are polygons on a grid of 100 × 100 units, y downwards, filled by scan lines at three times the final
resolution. Nine samples make one pixel; a pixel on an edge becomes a mix of its two commonest inks. Pixels are
numbers of inks or mixes, never colours: the same drawing takes other colours by writing another palette.
"""

import math
import struct
import zlib
from collections import Counter

SIZE = 480
"""Width and height of a picture, in pixels."""

SAMPLES = 3
SIDE = SIZE * SAMPLES

Point = tuple[float, float]


class Canvas:
    """The board. `turn` rotates what follows about the centre, in degrees clockwise."""

    def __init__(self, ground: int = 0) -> None:
        self.rows = [bytearray([ground]) * SIDE for _ in range(SIDE)]
        self.turn = 0.0
        self.shift: Point = (0.0, 0.0)
        self.only: int | None = None
        """When set, every shape is drawn in this ink: a shadow is a drawing made twice."""

    def polygon(self, points: list[Point], ink: int) -> None:
        """Fill a closed outline; where it crosses itself, inside and outside alternate."""
        points = [self._place(point) for point in points]
        crossings: dict[int, list[float]] = {}
        for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1]):
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            slope = (x1 - x0) / (y1 - y0) if y1 != y0 else 0.0
            for y in range(max(0, math.ceil(y0 - 0.5)), min(SIDE, math.ceil(y1 - 0.5))):
                crossings.setdefault(y, []).append(x0 + (y + 0.5 - y0) * slope)
        fill = bytes([ink if self.only is None else self.only]) * SIDE
        for y, xs in crossings.items():
            xs.sort()
            row = self.rows[y]
            for left, right in zip(xs[::2], xs[1::2]):
                start, end = max(0, round(left)), min(SIDE, round(right))
                if start < end:
                    row[start:end] = fill[: end - start]

    def ellipse(self, x: float, y: float, rx: float, ry: float, ink: int) -> None:
        steps = [2 * math.pi * i / 90 for i in range(90)]
        self.polygon([(x + rx * math.cos(a), y + ry * math.sin(a)) for a in steps], ink)

    def circle(self, x: float, y: float, r: float, ink: int) -> None:
        self.ellipse(x, y, r, r, ink)

    def box(self, x: float, y: float, width: float, height: float, ink: int, corner: float = 0) -> None:
        """A rectangle from its upper left corner, the corners rounded by `corner`."""
        if not corner:
            self.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], ink)
            return
        centres = [
            (x + width - corner, y + height - corner, 0),
            (x + corner, y + height - corner, 90),
            (x + corner, y + corner, 180),
            (x + width - corner, y + corner, 270),
        ]
        self.polygon(
            [
                (cx + corner * math.cos(math.radians(a)), cy + corner * math.sin(math.radians(a)))
                for cx, cy, start in centres
                for a in range(start, start + 91, 10)
            ],
            ink,
        )

    def line(self, x0: float, y0: float, x1: float, y1: float, width: float, ink: int) -> None:
        """A straight stroke with round ends."""
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        dx, dy = (y1 - y0) / length * width / 2, (x0 - x1) / length * width / 2
        self.polygon([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)], ink)
        if width > 1:
            self.circle(x0, y0, width / 2, ink)
            self.circle(x1, y1, width / 2, ink)

    def arc(self, x: float, y: float, r: float, start: float, end: float, width: float, ink: int) -> None:
        """A stroke along a circle, from angle `start` to `end` in degrees clockwise from the right."""
        angles = [math.radians(start + (end - start) * i / 48) for i in range(49)]
        outer = [(x + (r + width / 2) * math.cos(a), y + (r + width / 2) * math.sin(a)) for a in angles]
        inner = [(x + (r - width / 2) * math.cos(a), y + (r - width / 2) * math.sin(a)) for a in angles]
        self.polygon(outer + inner[::-1], ink)

    def blob(self, points: list[Point], ink: int) -> None:
        """A smooth closed outline through the points (Catmull–Rom)."""
        count, outline = len(points), []
        for i in range(count):
            a, b, c, d = (points[(i + k) % count] for k in (-1, 0, 1, 2))
            for step in range(12):
                t = step / 12
                outline.append(tuple(_spline(a[k], b[k], c[k], d[k], t) for k in (0, 1)))
        self.polygon(outline, ink)

    def _place(self, point: Point) -> Point:
        x, y = point[0] - 50, point[1] - 50
        if self.turn:
            cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
            x, y = x * cos - y * sin, x * sin + y * cos
        return (x + 50 + self.shift[0]) * SIDE / 100, (y + 50 + self.shift[1]) * SIDE / 100


def _spline(a: float, b: float, c: float, d: float, t: float) -> float:
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


class Picture:
    """A finished drawing without colours; `png` may be called for many palettes."""

    def __init__(self, canvas: Canvas) -> None:
        mixes = _Mixes()
        lines = []
        for y in range(0, SIDE, SAMPLES):
            columns = [row[x::SAMPLES] for row in canvas.rows[y : y + SAMPLES] for x in range(SAMPLES)]
            lines.append(b"\0" + bytes(map(mixes.__getitem__, zip(*columns))))
        self.mixes = mixes.entries
        self.pixels = zlib.compress(b"".join(lines), 9)

    def png(self, inks: list[tuple[int, int, int]]) -> bytes:
        """The file, with these colours for the inks of the drawing."""
        palette = bytearray()
        for first, second, share in self.mixes:
            palette += bytes(round(a + (b - a) * share / 4) for a, b in zip(inks[first], inks[second]))
        header = struct.pack(">IIBBBBB", SIZE, SIZE, 8, 3, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"PLTE", bytes(palette)), (b"IDAT", self.pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


class _Mixes(dict):
    """Nine samples → entry of the palette; with nine inks at most 9 + 2·36·2 entries, so a byte is enough."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, int, int]] = []
        self.known: dict[tuple[int, int, int], int] = {}

    def __missing__(self, samples: tuple[int, ...]) -> int:
        (first, many), *others = Counter(samples).most_common(2)
        second, few = others[0] if others else (first, 0)
        share = round(4 * few / (many + few))
        mix = (first, second, share) if share else (first, first, 0)
        if mix not in self.known:
            self.known[mix] = len(self.entries)
            self.entries.append(mix)
        self[samples] = self.known[mix]
        return self[samples]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
