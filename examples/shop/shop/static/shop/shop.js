// The shop works without this file. With it, the cart fills without leaving the page and quantities save themselves.
"use strict";

function toast(text, kind) {
  document.querySelector(".toast")?.remove();
  const note = document.createElement("p");
  note.className = `toast message ${kind}`;
  note.setAttribute("role", "status");
  note.textContent = text;
  document.body.append(note);
  setTimeout(() => note.remove(), 4000);
}

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-add]");
  if (!form) return;
  event.preventDefault();
  const wanted = { product: form.dataset.add, quantity: Number(form.elements.quantity.value), action: "add" };
  try {
    const answer = await fetch("/api/cart/", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(wanted),
    });
    const cart = await answer.json();
    if (!answer.ok) throw new Error(cart.error);
    const badge = document.querySelector("[data-cart-count]");
    badge.textContent = cart.count;
    badge.hidden = cart.count === 0;
    toast("It is in your cart.", "success");
  } catch {
    form.submit();
  }
});

for (const form of document.querySelectorAll("form[data-autosubmit]")) {
  form.classList.add("automatic");
  form.addEventListener("change", () => form.reportValidity() && form.submit());
}
