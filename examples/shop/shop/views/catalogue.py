"""Looking around: the front page, the shelves, the search and one product."""

from django.core.paginator import Paginator
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils.http import urlencode

from ..models import Category, Product

PAGE = 20
"""Products on a page."""


def home(request: HttpRequest) -> HttpResponse:
    return render(
        request,
        "shop/home.html",
        {
            "categories": Category.objects.annotate(count=Count("products")).order_by("position"),
            "newest": Product.objects.all()[:10],
        },
    )


def products(request: HttpRequest) -> HttpResponse:
    return _shelf(request, Product.objects.all(), {"title": "Everything in the shop"})


def category(request: HttpRequest, slug: str) -> HttpResponse:
    chosen = get_object_or_404(Category, slug=slug)
    return _shelf(request, chosen.products.all(), {"title": chosen.name, "tagline": chosen.tagline, "chosen": chosen})


def search(request: HttpRequest) -> HttpResponse:
    """Products in which every word occurs, in the name, the maker or the description."""
    query = asked(request)
    title = f"Search for “{query}”" if query else "Search"
    return _shelf(request, matching(query), {"title": title, "query": query, "searching": True})


def product(request: HttpRequest, slug: str) -> HttpResponse:
    shown = get_object_or_404(Product.objects.select_related("category"), slug=slug)
    similar = shown.category.products.exclude(pk=shown.pk)
    return render(
        request,
        "shop/product.html",
        {"product": shown, "photos": shown.photos.select_related("user")[:8], "similar": similar[:5]},
    )


def asked(request: HttpRequest) -> str:
    """What is searched for, at most 80 characters."""
    return request.GET.get("q", "").replace("\0", "").strip()[:80]


def matching(query: str) -> QuerySet[Product]:
    found = Product.objects.all() if query else Product.objects.none()
    for word in query.split():
        found = found.filter(Q(name__icontains=word) | Q(maker__icontains=word) | Q(description__icontains=word))
    return found


def _shelf(request: HttpRequest, found: QuerySet[Product], context: dict) -> HttpResponse:
    paginator = Paginator(found, PAGE)
    page = paginator.get_page(request.GET.get("page"))
    # Each name the template asks for is here: a missing one costs more than a present one.
    context = {"chosen": None, "searching": False, "query": "", "tagline": ""} | context
    context |= {
        "page": page,
        "keep": urlencode({"q": context["query"]}) + "&" if context["query"] else "",
        "pages": paginator.get_elided_page_range(page.number, on_each_side=1, on_ends=1),
        "categories": Category.objects.all(),
    }
    return render(request, "shop/products.html", context)
