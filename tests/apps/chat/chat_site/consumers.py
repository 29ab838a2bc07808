"""One room: what one says, all hear. The process is told with it, so that a test sees whether the layer crosses processes."""

import json
import os

from channels.generic.websocket import AsyncJsonWebsocketConsumer, WebsocketConsumer


class Chat(AsyncJsonWebsocketConsumer):
    async def connect(self):
        self.room = self.scope["url_route"]["kwargs"]["room"]
        await self.channel_layer.group_add(self.room, self.channel_name)
        await self.accept()
        await self.send_json({"who": "room", "text": f"welcome to {self.room}", "pid": os.getpid()})

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.room, self.channel_name)
        await self.channel_layer.group_send(self.room, {"type": "said", "who": "room", "text": f"somebody left with {code}"})

    async def receive_json(self, content):
        await self.channel_layer.group_send(self.room, {"type": "said", "who": str(os.getpid()), "text": content["text"]})

    async def said(self, event):
        await self.send_json({"who": event["who"], "text": event["text"], "pid": os.getpid()})


class SyncEcho(WebsocketConsumer):
    """A consumer without async: Channels runs it in a thread."""

    def receive(self, text_data=None, bytes_data=None):
        if text_data == "leave":
            self.close(4002, "as you wish")
        else:
            self.send(json.dumps({"echo": text_data}))
