"""The pages, one module for each part of the shop; `shop/urls.py` lists them all."""
