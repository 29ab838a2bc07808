"""TABLE of the shop's pages."""

from django.conf import settings
from django.urls import path

from .views import api, basket, catalogue, echo, live, orders, photos, reports

urlpatterns = [
    path("", catalogue.home, name="home"),
    path("products/", catalogue.products, name="products"),
    path("products/<slug:slug>/", catalogue.product, name="product"),
    path("products/<slug:slug>/photos/", photos.photos, name="photos"),
    path("categories/<slug:slug>/", catalogue.category, name="category"),
    path("search/", catalogue.search, name="search"),
    path("search/live/", live.search, name="live-search"),
    path("cart/", basket.cart, name="cart"),
    path("checkout/", orders.checkout, name="checkout"),
    path("orders/", orders.orders, name="orders"),
    path("orders/table/", live.table, name="table"),
    path("orders/feed/", live.feed, name="feed"),
    path("orders/<int:pk>/", orders.order, name="order"),
    path("orders/<int:pk>/invoice/", orders.invoice, name="invoice"),
    path("export/products.csv", reports.export, name="export"),
    path("reports/slow/", reports.slow, name="slow-report"),
    path("api/ping/", api.ping, name="api-ping"),
    path("api/ping/async/", api.ping_async, name="api-ping-async"),
    path("api/wait/", api.wait, name="api-wait"),
    path("api/products/", api.products, name="api-products"),
    path("api/products/<slug:slug>/", api.product, name="api-product"),
    path("api/cart/", api.cart, name="api-cart"),
    path("api/async/", api.together, name="api-async"),
]

if settings.TEST_VIEWS:
    urlpatterns.append(path("api/echo/", echo.echo, name="api-echo"))
