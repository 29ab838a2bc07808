"""TABLE of the shop's WebSockets; `config/asgi.py` serves them."""

from django.urls import path

from .live.ticker import StockTicker

websockets = [path("live/stock/", StockTicker.as_asgi())]
