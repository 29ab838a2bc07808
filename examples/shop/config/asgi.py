"""The shop as an ASGI application: `config.asgi:application`. Pages by Django, WebSockets by Channels, from our own pages alone."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

pages = get_asgi_application()

# Only now: consumers import models, and models want Django set up.
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from shop.routing import websockets  # noqa: E402

application = ProtocolTypeRouter({"http": pages, "websocket": AllowedHostsOriginValidator(URLRouter(websockets))})
