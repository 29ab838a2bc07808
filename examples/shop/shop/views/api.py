"""The shop for programs: JSON in, JSON out."""

import asyncio
import json
import time

from django.core.paginator import Paginator
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST, require_safe

from ..cart import MOST, Bill, Cart
from ..models import Category, Product
from .catalogue import PAGE

WAIT = 0.05
"""How long `wait` waits, in seconds."""


def ping(request: HttpRequest) -> JsonResponse:
    """A small answer without the database: what it costs to ask the shop anything at all."""
    return _pong(request)


async def ping_async(request: HttpRequest) -> JsonResponse:
    """The same from an async view."""
    return _pong(request)


async def wait(request: HttpRequest) -> JsonResponse:
    """Answers after 50 ms in which a thread has nothing to do."""
    await asyncio.sleep(WAIT)
    return JsonResponse({"waited_ms": WAIT * 1000})


def _pong(request: HttpRequest) -> JsonResponse:
    return JsonResponse(
        {
            "shop": "Bandstand Music",
            "status": "open",
            "version": 1,
            "currency": "EUR",
            "languages": ["en"],
            "opening_hours": {"from": "10:00", "to": "18:30"},
            "free_shipping_from": 100,
            "page_size": PAGE,
            "method": request.method,
            "path": request.path,
        }
    )


@require_safe
def products(request: HttpRequest) -> JsonResponse:
    paginator = Paginator(Product.objects.select_related("category"), PAGE)
    page = paginator.get_page(request.GET.get("page"))
    return JsonResponse(
        {
            "count": paginator.count,
            "page": page.number,
            "pages": paginator.num_pages,
            "results": [_summary(product) for product in page],
        }
    )


@require_safe
def product(request: HttpRequest, slug: str) -> JsonResponse:
    found = Product.objects.select_related("category").filter(slug=slug).first()
    if found is None:
        return JsonResponse({"error": f"no product {slug}"}, status=404)
    return JsonResponse(_summary(found) | {"description": found.description, "added": found.added})


# Other sites cannot send application/json with a customer's cookies without asking first (CORS), and no other
# type is accepted: the token is not needed here.
@csrf_exempt
@require_POST
def cart(request: HttpRequest) -> JsonResponse:
    """`{"product": slug, "quantity": 1, "action": "add" | "set"}` → the cart after it."""
    if request.content_type != "application/json":
        return JsonResponse({"error": "send application/json"}, status=415)
    try:
        wanted = json.loads(request.body)
        slug, quantity, action = wanted["product"], wanted.get("quantity", 1), wanted.get("action", "add")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return JsonResponse({"error": 'send {"product": slug, "quantity": number, "action": "add" or "set"}'}, status=400)
    if type(quantity) is not int or not 0 <= quantity <= MOST or action not in ("add", "set"):
        return JsonResponse({"error": f"quantity goes from 0 to {MOST}, action is add or set"}, status=400)
    found = Product.objects.filter(slug=slug).first() if isinstance(slug, str) else None
    if found is None:
        return JsonResponse({"error": f"no product {slug}"}, status=404)
    basket = Cart(request.session)
    (basket.add if action == "add" else basket.change)(found, quantity)
    bill = Bill(list(basket))
    lines = [{"product": line.product.slug, "name": line.product.name, "quantity": line.quantity, "total": line.total} for line in bill.lines]
    return JsonResponse({"count": len(basket), "lines": lines, "goods": bill.goods, "shipping": bill.shipping, "total": bill.total})


async def together(request: HttpRequest) -> JsonResponse:
    """An async view: two waits of 50 ms at the same time, then two queries."""
    start = time.perf_counter()
    await asyncio.gather(asyncio.sleep(0.05), asyncio.sleep(0.05))
    waited = time.perf_counter() - start
    return JsonResponse(
        {
            "view": "async",
            "waited_ms": round(waited * 1000, 1),
            "products": await Product.objects.acount(),
            "categories": [name async for name in Category.objects.values_list("name", flat=True)],
        }
    )


def _summary(product: Product) -> dict:
    return {
        "slug": product.slug,
        "name": product.name,
        "maker": product.maker,
        "category": product.category.slug,
        "price": product.price,
        "stock": product.stock,
        "picture": product.picture.url if product.picture else None,
        "url": product.get_absolute_url(),
    }
