"""`manage.py fill`: puts the goods on the shelves. May be run again at any time; nothing is doubled."""

import os
import random
from collections import Counter
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from shop.cart import FREE_FROM, SHIPPING
from shop.models import Category, Order, OrderLine, Product
from shop.supply import catalogue, drawings
from shop.supply.words import CUSTOMERS, SHELVES

ORDERS = 24
FIELDS = ["category", "name", "maker", "description", "price", "stock", "picture", "added"]


class Command(BaseCommand):
    help = "Fill the shop with products, pictures, two users and some orders."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--products", type=int, default=500, help="how many (default 500, at most 2000)")

    def handle(self, *args, products: int, verbosity: int, **options) -> None:
        items = catalogue.items(min(max(products, 0), 2000))
        pictures = _draw(items)
        with transaction.atomic():
            shelved = _shelve(items)
            demo, _ = _user("demo"), _user("admin", is_staff=True, is_superuser=True)
            _sell(shelved, demo)
        if verbosity:
            self.stdout.write(f"{len(shelved)} products in {len(SHELVES)} categories, {pictures} new pictures, {ORDERS} orders")
            self.stdout.write("log in as demo / demo, behind the counter (/admin/) as admin / admin")


def _draw(items: list[catalogue.Item]) -> int:
    """Write the pictures that are missing; returns how many those were."""
    folder = Path(settings.MEDIA_ROOT) / "products"
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for item in items:
        path = folder / f"{item.slug}.png"
        if path.exists():
            continue
        draft = path.with_suffix(".draft")
        draft.write_bytes(drawings.picture(item.kind, item.variant).png(drawings.inks(item.palette)))
        os.replace(draft, path)
        written += 1
    return written


def _shelve(items: list[catalogue.Item]) -> list[Product]:
    shelves = {
        shelf.slug: Category.objects.update_or_create(
            slug=shelf.slug, defaults={"name": shelf.name, "tagline": shelf.tagline, "position": position}
        )[0]
        for position, shelf in enumerate(SHELVES)
    }
    Product.objects.bulk_create(
        [
            Product(
                category=shelves[item.shelf.slug],
                name=item.name,
                slug=item.slug,
                maker=item.maker,
                description=item.description,
                price=item.price,
                stock=item.stock,
                picture=f"products/{item.slug}.png",
                added=item.added,
            )
            for item in items
        ],
        update_conflicts=True,
        unique_fields=["slug"],
        update_fields=FIELDS,
    )
    found = {product.slug: product for product in Product.objects.all()}
    return [found[item.slug] for item in items]


def _user(name: str, **rights: bool):
    users = get_user_model().objects
    user = users.filter(username=name).first()
    return user or users.create_user(name, f"{name}@example.com", name, **rights)


def _sell(products: list[Product], demo) -> None:
    """Orders of the last months; a third of them by `demo`. Those that are there already stay as they are."""
    chance = random.Random(catalogue.SEED)
    for number in range(ORDERS if products else 0):
        chosen = Counter({product: chance.randint(1, 2) for product in chance.sample(products, min(len(products), chance.randint(1, 4)))})
        name, address, postcode, city, country = CUSTOMERS[number % len(CUSTOMERS)]
        goods = sum((product.price * quantity for product, quantity in chosen.items()), Decimal(0))
        order, new = Order.objects.get_or_create(
            reference=f"BM-DEMO{number + 1:03}",
            defaults={
                "user": demo if number % 3 == 0 else None,
                "name": name,
                "email": f"{name.split()[0].lower()}@example.com",
                "address": address,
                "postcode": postcode,
                "city": city,
                "country": country,
                "goods": goods,
                "shipping": SHIPPING if goods < FREE_FROM else Decimal(0),
                "created": datetime(2025, 6, 2, 10, tzinfo=timezone.utc) - timedelta(days=4 * number, minutes=37 * number),
            },
        )
        if new:
            OrderLine.objects.bulk_create(
                OrderLine(order=order, product=product, name=product.name, price=product.price, quantity=quantity)
                for product, quantity in chosen.items()
            )
