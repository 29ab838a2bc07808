"""What `manage.py fill` puts on the shelves: names, prices, and pictures drawn in pure Python."""
