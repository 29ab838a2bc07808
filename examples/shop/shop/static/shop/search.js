// The search box answers as one types; Enter without a choice goes to the search page, as it does without this file.
"use strict";

{
  const form = document.querySelector("form.find");
  const box = form.elements.q;
  const list = document.createElement("ul");
  const told = document.createElement("p");
  let timer, asked, chosen = -1;

  list.id = "found";
  list.className = "found";
  list.hidden = true;
  list.setAttribute("role", "listbox");
  list.setAttribute("aria-label", "Products");
  told.className = "unseen";
  told.setAttribute("role", "status");
  form.append(list, told);
  for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": list.id, "aria-expanded": "false", autocomplete: "off" })) {
    box.setAttribute(name, value);
  }

  function close() {
    list.hidden = true;
    chosen = -1;
    box.setAttribute("aria-expanded", "false");
    box.removeAttribute("aria-activedescendant");
  }

  function choose(index) {
    chosen = (index + list.children.length) % list.children.length;
    for (const [at, item] of [...list.children].entries()) item.setAttribute("aria-selected", String(at === chosen));
    box.setAttribute("aria-activedescendant", list.children[chosen].id);
    list.children[chosen].scrollIntoView({ block: "nearest" });
  }

  function option(product, at) {
    const item = document.createElement("li");
    item.id = `found-${at}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    const link = document.createElement("a");
    link.href = product.url;
    link.tabIndex = -1;
    const name = document.createElement("strong");
    name.textContent = product.name;
    const maker = document.createElement("small");
    maker.textContent = product.maker;
    const words = document.createElement("span");
    words.append(name, maker);
    const price = document.createElement("b");
    price.textContent = product.price;
    const picture = document.createElement(product.picture ? "img" : "i");
    if (product.picture) Object.assign(picture, { src: product.picture, alt: "", width: 44, height: 44 });
    link.append(picture, words, price);
    item.append(link);
    return item;
  }

  async function ask() {
    asked?.abort();
    const query = box.value.trim();
    if (!query) return close();
    asked = new AbortController();
    try {
      const answer = await fetch(`/search/live/?${new URLSearchParams({ q: query })}`, { signal: asked.signal });
      if (!answer.ok) return close();
      const { count, results } = await answer.json();
      list.replaceChildren(...results.map(option));
      chosen = -1;
      box.removeAttribute("aria-activedescendant");
      list.hidden = !results.length;
      box.setAttribute("aria-expanded", String(!list.hidden));
      told.textContent = count === 1 ? "1 product found" : `${count || "No"} products found`;
    } catch (error) {
      if (error.name !== "AbortError") close();
    }
  }

  box.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(ask, 150);
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      if (!list.hidden) event.preventDefault(); // the first Escape closes the list, the second empties the box
      return close();
    }
    if (list.hidden) return;
    if (event.key === "ArrowDown") choose(chosen + 1);
    else if (event.key === "ArrowUp") choose(chosen < 0 ? -1 : chosen - 1);
    else if (event.key === "Enter" && chosen >= 0) list.children[chosen].firstElementChild.click();
    else return;
    event.preventDefault();
  });
  form.addEventListener("submit", () => asked?.abort());
  form.addEventListener("focusout", (event) => form.contains(event.relatedTarget) || close());
  list.addEventListener("mousedown", (event) => event.preventDefault()); // the box keeps the focus until the link is followed
}
