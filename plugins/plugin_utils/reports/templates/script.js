// Copyright (c) 2026, kvmops.cluster contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
"use strict";
// The page is whole without this: it adds a filter and buttons that copy, and opens what a link or a printer asks for.
(() => {
  const guests = [...document.querySelectorAll("details.guest")];
  const rows = [...document.querySelectorAll(".row[data-name]")];
  const form = document.querySelector(".filter");

  function show() {
    const name = document.getElementById("name-filter").value.toLowerCase();
    const trouble = document.getElementById("trouble-filter").checked;
    let shown = 0;
    for (const guest of guests) {
      const fits = guest.dataset.name.toLowerCase().includes(name);
      guest.hidden = !fits || (trouble && !["bad", "open"].includes(guest.dataset.kind));
      shown += guest.hidden ? 0 : 1;
    }
    for (const row of rows) {
      row.hidden = !row.dataset.name.toLowerCase().includes(name);
    }
    document.getElementById("count").textContent = `${shown} of ${guests.length} shown`;
  }

  if (form) {
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", show);
    document.getElementById("all-open").addEventListener("click", () => {
      for (const guest of guests) {
        guest.open = !guest.hidden;
      }
    });
  }

  function openTarget() {
    const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
    if (target && target.matches("details")) {
      target.open = true;
      target.scrollIntoView();
    }
  }
  addEventListener("hashchange", openTarget);
  openTarget();

  addEventListener("beforeprint", () => {
    for (const guest of guests.length > 60 ? [] : guests) {
      guest.open = true;
    }
  });

  function select(element) {
    const range = document.createRange();
    range.selectNodeContents(element);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  }

  // One listener for all: a report may have thousands of these.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) {
      return;
    }
    const code = button.previousElementSibling;
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      select(code);
      button.textContent = "Selected";
    }
  });
  for (const code of document.querySelectorAll(".copyable")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    code.after(button);
  }
})();
