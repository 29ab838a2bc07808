"""The cart: product ids and quantities in the session, looked up in the database only when shown.

The session holds `{"cart": {"<product id>": quantity}}` with 1 ≤ quantity ≤ MOST.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.http import HttpRequest

from .models import Product

KEY = "cart"
MOST = 20
"""The largest quantity of one product in a cart."""

SHIPPING = Decimal("5.90")
FREE_FROM = Decimal("100")


@dataclass(frozen=True)
class Line:
    product: Product
    quantity: int

    @property
    def total(self) -> Decimal:
        return self.product.price * self.quantity

    @property
    def short(self) -> bool:
        """More is wanted than there is."""
        return self.quantity > self.product.stock


class Cart:
    def __init__(self, session) -> None:
        self.session = session
        self.items: dict[str, int] = session.get(KEY, {})

    def add(self, product: Product, quantity: int = 1) -> None:
        self.change(product, self.items.get(str(product.pk), 0) + quantity)

    def change(self, product: Product, quantity: int) -> None:
        """Set the quantity; zero takes the product out."""
        if quantity > 0:
            self.items[str(product.pk)] = min(quantity, MOST)
        else:
            self.items.pop(str(product.pk), None)
        self.session[KEY] = self.items

    def clear(self) -> None:
        self.items = {}
        self.session.pop(KEY, None)

    def __len__(self) -> int:
        return sum(self.items.values())

    def __iter__(self) -> Iterator[Line]:
        """The lines in the order they were added; products that are gone are left out."""
        products = Product.objects.select_related("category").in_bulk([int(pk) for pk in self.items])
        for pk, quantity in self.items.items():
            if product := products.get(int(pk)):
                yield Line(product, quantity)


@dataclass(frozen=True)
class Bill:
    """The lines of a cart and what they cost together."""

    lines: list[Line]

    @property
    def goods(self) -> Decimal:
        return sum((line.total for line in self.lines), Decimal(0))

    @property
    def shipping(self) -> Decimal:
        return SHIPPING if 0 < self.goods < FREE_FROM else Decimal(0)

    @property
    def total(self) -> Decimal:
        return self.goods + self.shipping

    @property
    def to_free_shipping(self) -> Decimal:
        return max(FREE_FROM - self.goods, Decimal(0))


def context(request: HttpRequest) -> dict[str, int]:
    """For every template: how many things are in the cart. No query without a session cookie."""
    return {"cart_count": len(Cart(request.session))}
