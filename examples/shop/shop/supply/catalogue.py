"""From the words to the goods: always the same products from the same seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from django.utils.text import slugify

from .drawings import PALETTES, VARIANTS
from .words import CLOSINGS, SHELVES, Shelf

SEED = 1857
NEWEST = date(2025, 6, 1)
"""The day the newest product came in; fixed, so that every installation is alike."""


@dataclass(frozen=True)
class Item:
    shelf: Shelf
    name: str
    slug: str
    maker: str
    description: str
    price: Decimal
    stock: int
    added: date
    kind: str
    variant: int
    palette: int


def items(count: int) -> list[Item]:
    """`count` products with different names, the shelves mixed as in a shop window."""
    chance = random.Random(SEED)
    chosen, slugs = [], set()
    for shelf in _shelves(count, chance):
        item = next(item for item in _attempts(shelf, len(chosen), chance) if item.slug not in slugs)
        slugs.add(item.slug)
        chosen.append(item)
    return chosen


def _shelves(count: int, chance: random.Random) -> list[Shelf]:
    order = [shelf for shelf in SHELVES for _ in range(shelf.share)]
    rounds = []
    while len(rounds) < count:
        rounds += chance.sample(order, len(order))
    return rounds[:count]


def _attempts(shelf: Shelf, number: int, chance: random.Random) -> Iterator[Item]:
    while True:
        kind, noun, low, high = chance.choice(shelf.goods)
        maker, word = chance.choice(shelf.makers), chance.choice(shelf.adjectives)
        name = f"{word} ({noun})" if shelf.slug == "records" else f"{word} {noun}"
        sentences = [chance.choice(shelf.sentences), f"{_origin(shelf, maker)}", chance.choice(CLOSINGS)]
        yield Item(
            shelf=shelf,
            name=name,
            slug=slugify(f"{name} {maker}"),
            maker=maker,
            description=" ".join(sentences),
            price=_price(low, high, chance),
            stock=0 if chance.random() < 0.04 else chance.randint(1, 40),
            added=NEWEST - timedelta(days=number // 2),
            kind=kind,
            variant=chance.randrange(VARIANTS),
            palette=chance.randrange(len(PALETTES)),
        )


def _origin(shelf: Shelf, maker: str) -> str:
    if shelf.slug == "records":
        return f"{maker} at their most generous."
    if shelf.slug == "sheet-music":
        return f"From the repertoire of {maker}."
    return f"Made by {maker}."


def _price(low: int, high: int, chance: random.Random) -> Decimal:
    """Mostly near the lower end; whole euros less ten cents, above a hundred a round nine."""
    price = int(low + (high - low) * chance.random() ** 2)
    return Decimal(price // 10 * 10 + 9) if price >= 100 else Decimal(price) + Decimal("0.90")
