"""From the cart to the doorstep: checkout, the orders of a customer, their invoices.

An order is seen by the customer who is logged in, and by the session that made it; to all others it does not exist.
"""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.db.models import F
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from .. import invoices
from ..cart import Bill, Cart
from ..forms import CheckoutForm
from ..live import stock
from ..models import Order, OrderLine, Product
from .live import newest

OWN = "orders"
"""Key of the session's own orders, a list of ids."""


class OutOfStock(Exception):
    """Somebody was faster."""


@require_http_methods(["GET", "HEAD", "POST"])
def checkout(request: HttpRequest) -> HttpResponse:
    cart = Cart(request.session)
    bill = Bill(list(cart))
    if not bill.lines:
        messages.info(request, "Your cart is empty: there is nothing to pay for yet.")
        return redirect("cart")
    form = CheckoutForm(request.POST or None, initial=_known(request))
    if request.method == "POST" and form.is_valid():
        try:
            order = _place(form, bill, request.user)
        except OutOfStock as error:
            messages.error(request, f"{error} has just been sold. Please look at your cart again.")
            return redirect("cart")
        cart.clear()
        request.session[OWN] = [*request.session.get(OWN, []), order.pk]
        messages.success(request, "Thank you! Your order is on its way to our packing table.")
        return redirect("order", order.pk)
    return render(request, "shop/checkout.html", {"form": form, "bill": bill}, status=400 if form.errors else 200)


@login_required
@require_safe
def orders(request: HttpRequest) -> HttpResponse:
    orders = list(request.user.orders.prefetch_related("lines")[:100])
    return render(request, "shop/orders.html", {"orders": orders, "newest": newest(orders)})


@require_safe
def order(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "shop/order.html", {"order": _visible(request, pk)})


@require_safe
def invoice(request: HttpRequest, pk: int) -> FileResponse:
    path = invoices.written(_visible(request, pk))
    return FileResponse(path.open("rb"), as_attachment=True, filename=path.name)


def _known(request: HttpRequest) -> dict[str, str]:
    user = request.user
    return {"name": user.get_full_name(), "email": user.email} if user.is_authenticated else {}


@transaction.atomic
def _place(form: CheckoutForm, bill: Bill, user) -> Order:
    for line in bill.lines:
        left = Product.objects.filter(pk=line.product.pk, stock__gte=line.quantity)
        if not left.update(stock=F("stock") - line.quantity):
            raise OutOfStock(line.product.name)
    order = form.save(commit=False)
    order.user = user if user.is_authenticated else None
    order.goods, order.shipping = bill.goods, bill.shipping
    order.save()
    OrderLine.objects.bulk_create(
        OrderLine(order=order, product=line.product, name=line.product.name, price=line.product.price, quantity=line.quantity)
        for line in bill.lines
    )
    stock.changed(line.product.pk for line in bill.lines)
    return order


def _visible(request: HttpRequest, pk: int) -> Order:
    found = get_object_or_404(Order.objects.prefetch_related("lines__product"), pk=pk)
    mine = request.user.is_authenticated and (request.user.is_staff or found.user_id == request.user.pk)
    if not mine and pk not in request.session.get(OWN, []):
        raise Http404("no such order")
    return found
