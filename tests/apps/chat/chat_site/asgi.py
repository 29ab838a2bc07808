"""Django for pages, Channels for rooms, and for nobody from another site."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chat_site.settings")

pages = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.urls import path  # noqa: E402

from chat_site.consumers import Chat, SyncEcho  # noqa: E402

rooms = URLRouter([path("ws/<slug:room>/", Chat.as_asgi()), path("echo/", SyncEcho.as_asgi())])
application = ProtocolTypeRouter({"http": pages, "websocket": AllowedHostsOriginValidator(rooms)})
