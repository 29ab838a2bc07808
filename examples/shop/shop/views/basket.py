"""The cart page, and the form that changes the cart."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from ..cart import MOST, Bill, Cart
from ..forms import CartForm


@require_http_methods(["GET", "HEAD", "POST"])
def cart(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        return _change(request)
    return render(request, "shop/cart.html", {"bill": Bill(list(Cart(request.session))), "most": MOST})


def _change(request: HttpRequest) -> HttpResponse:
    form = CartForm(request.POST)
    if not form.is_valid():
        messages.error(request, f"That did not work. Quantities go from 0 to {MOST}.")
        return redirect("cart")
    product, quantity = form.cleaned_data["product"], form.cleaned_data["quantity"]
    basket = Cart(request.session)
    if form.cleaned_data["action"] == "add":
        basket.add(product, quantity)
        messages.success(request, f"{product.name} is in your cart.")
    else:
        basket.change(product, quantity)
        messages.success(request, f"{product.name}: {quantity or 'taken out'}.")
    return redirect("cart")
