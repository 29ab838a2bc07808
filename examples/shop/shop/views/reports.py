"""For the office: the catalogue as a CSV stream, and a report that takes its time."""

import csv
import math
import time
from collections.abc import Iterator
from decimal import Decimal

from django.db.models import Count, DecimalField, F, Sum
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from ..models import Category, OrderLine, Product

LONGEST = 10.0
"""The slow report never waits longer, in seconds."""

COLUMNS = ["slug", "name", "maker", "category", "price", "stock", "added"]


@require_safe
def export(request: HttpRequest) -> StreamingHttpResponse:
    """Every product, row by row: the file is never whole in memory."""
    response = StreamingHttpResponse(_rows(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="products.csv"'
    return response


@require_safe
def slow(request: HttpRequest) -> HttpResponse:
    """Sales by category, after `seconds` of honest waiting (default 2): a stand-in for the query nobody has tuned."""
    seconds = _seconds(request.GET.get("seconds", "2"))
    time.sleep(seconds)
    money = DecimalField(max_digits=12, decimal_places=2)
    sold = (
        OrderLine.objects.values(shelf=F("product__category__name"))
        .annotate(pieces=Sum("quantity"), turnover=Sum(F("price") * F("quantity"), output_field=money))
        .order_by("-turnover")
    )
    rows = list(sold)
    best = max((row["turnover"] for row in rows), default=Decimal(1))
    for row in rows:
        row["share"] = round(100 * row["turnover"] / best)
    shelves = Category.objects.annotate(titles=Count("products"), pieces=Coalesce(Sum("products__stock"), 0)).order_by("position")
    return render(request, "shop/report.html", {"seconds": seconds, "rows": rows, "shelves": shelves})


class _Line:
    """A file that hands back what is written to it, as `csv.writer` wants one."""

    def write(self, text: str) -> str:
        return text


def _rows() -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    products = Product.objects.order_by("id").values_list(*(name if name != "category" else "category__slug" for name in COLUMNS))
    for product in products.iterator(chunk_size=100):
        yield writer.writerow(product)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 2.0
    return min(max(seconds, 0.0), LONGEST) if math.isfinite(seconds) else 2.0
