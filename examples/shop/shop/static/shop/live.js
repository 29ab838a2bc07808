// Pages that stay true while they are open: stock by WebSocket, new orders by server-sent events. Without either, a page stays
// as it was loaded.
"use strict";

const REST = "live-rest"; // set for this tab when the server takes no WebSockets: it is not asked again on every page

function stockTicker() {
  const places = document.querySelectorAll("[data-stock]");
  if (!places.length || !("WebSocket" in window) || sessionStorage.getItem(REST)) return;
  const products = [...new Set([...places].map((place) => Number(place.dataset.stock)))].slice(0, 100);
  let opened = false;
  let pause = 1000;

  function connect() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live/stock/`);
    socket.addEventListener("open", () => {
      opened = true;
      pause = 1000;
      document.documentElement.dataset.live = "stock";
      socket.send(JSON.stringify({ watch: products }));
    });
    socket.addEventListener("message", (event) => {
      for (const [product, told] of Object.entries(JSON.parse(event.data).stock)) {
        for (const place of document.querySelectorAll(`[data-stock="${product}"]`)) show(place, told);
      }
    });
    socket.addEventListener("close", () => {
      delete document.documentElement.dataset.live;
      if (!opened) return sessionStorage.setItem(REST, "1");
      setTimeout(connect, pause * (0.5 + Math.random()));
      pause = Math.min(pause * 2, 30000);
    });
  }

  connect();
}

function show(place, { left, text }) {
  if (place.tagName === "FORM") {
    place.hidden = left === 0;
    return;
  }
  const words = place.classList.contains("tag") ? (left ? `${left} left` : "sold out") : text;
  const label = place.querySelector("span") ?? place;
  if (label.textContent === words) return;
  label.textContent = words;
  place.classList.toggle("out", left === 0);
  place.classList.remove("news");
  void place.offsetWidth; // so that the animation begins anew
  place.classList.add("news");
}

function orderFeed() {
  const list = document.querySelector("[data-feed]");
  if (!list || !("EventSource" in window)) return;
  const row = document.getElementById("order-row").content;
  const source = new EventSource(`${list.dataset.feed}after=${list.dataset.after || 0}`);
  source.addEventListener("open", () => (list.dataset.open = ""));
  source.addEventListener("error", () => delete list.dataset.open);
  source.addEventListener("order", (event) => {
    const order = JSON.parse(event.data);
    const item = row.cloneNode(true).firstElementChild;
    for (const place of item.querySelectorAll("[data-is]")) place.textContent = order[place.dataset.is];
    for (const link of item.querySelectorAll("[data-to]")) link.href = order[link.dataset.to];
    item.classList.add("news");
    list.prepend(item);
    list.hidden = false;
    document.querySelector("[data-no-orders]")?.remove();
  });
}

stockTicker();
orderFeed();
