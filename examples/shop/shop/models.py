"""What the shop keeps: goods on shelves, photos by customers, orders.

Prices are in euros with VAT. An order line copies name and price, so that an old order never changes.
"""

import secrets
from decimal import Decimal

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.urls import reverse
from django.utils import timezone


class Category(models.Model):
    name = models.CharField(max_length=60, unique=True)
    slug = models.SlugField(unique=True)
    tagline = models.CharField(max_length=120)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "name"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("category", args=[self.slug])


class Product(models.Model):
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="products")
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=140, unique=True)
    maker = models.CharField(max_length=80)
    description = models.TextField()
    price = models.DecimalField(max_digits=8, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    stock = models.PositiveIntegerField(default=0)
    picture = models.FileField(upload_to="products/", blank=True)
    added = models.DateField(default=timezone.localdate)

    class Meta:
        ordering = ["-added", "id"]
        indexes = [models.Index(fields=["-added", "id"], name="product_newest")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("product", args=[self.slug])

    @property
    def availability(self) -> str:
        return availability(self.stock)


def availability(stock: int) -> str:
    """What a customer is told about a stock; pages and the live ticker say the same."""
    if not stock:
        return "Sold out. The next ones are on the workbench."
    return f"Only {stock} left" if stock < 4 else f"In stock, {stock} pieces"


class StockChange(models.Model):
    """So much was left of a product after a change; the key is the version of the shop's stock (`live/stock.py`)."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="+")
    left = models.PositiveIntegerField()
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.left} × {self.product}"


class Photo(models.Model):
    """A picture of a product sent in by a customer."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="photos")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="photos")
    picture = models.FileField(upload_to="photos/%Y/")
    caption = models.CharField(max_length=140, blank=True)
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created"]

    def __str__(self) -> str:
        return self.caption or f"photo of {self.product}"


def new_reference() -> str:
    """Ten letters and digits that are easy to read out and hard to guess."""
    return "BM-" + "".join(secrets.choice("23456789ABCDEFGHJKMNPQRSTVWXYZ") for _ in range(10))


class Order(models.Model):
    class Country(models.TextChoices):
        AUSTRIA = "AT", "Austria"
        BELGIUM = "BE", "Belgium"
        FRANCE = "FR", "France"
        GERMANY = "DE", "Germany"
        IRELAND = "IE", "Ireland"
        ITALY = "IT", "Italy"
        NETHERLANDS = "NL", "Netherlands"
        SPAIN = "ES", "Spain"

    reference = models.CharField(max_length=20, unique=True, default=new_reference, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="orders")
    name = models.CharField(max_length=80)
    email = models.EmailField()
    address = models.CharField(max_length=120)
    postcode = models.CharField(max_length=10)
    city = models.CharField(max_length=60)
    country = models.CharField(max_length=2, choices=Country, default=Country.GERMANY)
    note = models.TextField(max_length=500, blank=True)
    goods = models.DecimalField(max_digits=9, decimal_places=2)
    shipping = models.DecimalField(max_digits=6, decimal_places=2)
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-created", "-id"]

    def __str__(self) -> str:
        return self.reference

    @property
    def total(self) -> Decimal:
        return self.goods + self.shipping


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=120)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    quantity = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.quantity} × {self.name}"

    @property
    def total(self) -> Decimal:
        return self.price * self.quantity
