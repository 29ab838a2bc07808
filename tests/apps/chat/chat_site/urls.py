"""The page of a room, which needs nothing else."""

from django.http import HttpResponse
from django.urls import path

PAGE = """<!doctype html>
<title>Room %(room)s</title>
<form><input name="text" autofocus> <button>Say</button></form>
<ul></ul>
<script>
  const socket = new WebSocket(`ws://${location.host}/ws/%(room)s/`);
  socket.onopen = () => document.body.dataset.open = "";
  socket.onmessage = (event) => {
    const { who, text } = JSON.parse(event.data);
    document.querySelector("ul").append(Object.assign(document.createElement("li"), { textContent: `${who}: ${text}` }));
  };
  document.forms[0].onsubmit = (event) => {
    event.preventDefault();
    socket.send(JSON.stringify({ text: event.target.text.value }));
    event.target.reset();
  };
</script>
"""


def room(request, room):
    return HttpResponse(PAGE % {"room": room})


urlpatterns = [path("room/<slug:room>/", room)]
