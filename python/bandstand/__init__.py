"""Bandstand puts a Django project on the internet: one native program in front, your own Python behind it."""

__version__ = "0.1.0"
