"""Stock that changes while a page is open: `stock.py` writes changes down, `ticker.py` tells them over WebSocket."""
