"""Photos by customers: everybody looks, whoever is logged in may add one."""

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods

from ..forms import PhotoForm
from ..models import Photo, Product


@require_http_methods(["GET", "HEAD", "POST"])
def photos(request: HttpRequest, slug: str) -> HttpResponse:
    product = get_object_or_404(Product.objects.select_related("category"), slug=slug)
    if request.method != "POST":
        form = PhotoForm()
    elif not request.user.is_authenticated:
        return redirect_to_login(request.path)
    else:
        form = PhotoForm(request.POST, request.FILES, instance=Photo(product=product, user=request.user))
        if form.is_valid():
            form.save()
            messages.success(request, "Thank you, your photo is up.")
            return redirect("photos", product.slug)
    context = {"product": product, "photos": product.photos.select_related("user"), "form": form}
    return render(request, "shop/photos.html", context, status=400 if form.errors else 200)
