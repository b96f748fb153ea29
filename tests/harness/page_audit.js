// Copyright (c) 2026, kvmops.cluster contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// What is wrong with a page, to the eye and to those who do not see it; a list of sentences. Texts are compared by
// the boxes that they are drawn in.
(() => {
  const faults = [];
  // What is not in the window has no boxes otherwise.
  for (const element of document.querySelectorAll(".guest, .row, .host")) {
    element.style.contentVisibility = "visible";
  }
  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth > width) {
    faults.push(`the page is ${document.scrollingElement.scrollWidth} wide, the window ${width}`);
  }

  const boxes = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let piece = walker.nextNode(); piece; piece = walker.nextNode()) {
    const parent = piece.parentElement;
    if (!piece.textContent.trim() || parent.closest("script, style, title, desc, .skip") || !parent.checkVisibility()) {
      continue;
    }
    const range = document.createRange();
    range.selectNodeContents(piece);
    // What is scrolled out of a part of the page is not over what comes after that part.
    const part = parent.closest(".tall")?.getBoundingClientRect();
    for (const box of range.getClientRects()) {
      const isOut = part && (box.top < part.top || box.bottom > part.bottom);
      if (box.width > 1 && box.height > 1 && !isOut) {
        boxes.push({ parent, box, text: piece.textContent.trim().slice(0, 40) });
      }
    }
  }
  boxes.sort((one, other) => one.box.top - other.box.top);
  for (let first = 0; first < boxes.length && faults.length < 20; first += 1) {
    const one = boxes[first];
    if (!one.parent.closest(".scroll") && (one.box.right > width + 1 || one.box.left < -1)) {
      faults.push(`beyond the edge: ${one.text}`);
    }
    for (let second = first + 1; second < boxes.length && boxes[second].box.top < one.box.bottom; second += 1) {
      const other = boxes[second];
      const sideways = Math.min(one.box.right, other.box.right) - Math.max(one.box.left, other.box.left);
      const down = Math.min(one.box.bottom, other.box.bottom) - Math.max(one.box.top, other.box.top);
      // Lines of text share a little of their leading; what is scrolled below the axis that stays is meant to be.
      const apart = one.parent.closest(".axis") !== other.parent.closest(".axis");
      if (one.parent !== other.parent && !apart && sideways > 1.5 && down > 6) {
        faults.push(`over each other: ${one.text} / ${other.text}`);
      }
    }
  }

  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  if (new Set(ids).size !== ids.length) {
    faults.push("an id is there twice");
  }
  for (const element of document.querySelectorAll("[aria-labelledby]")) {
    for (const id of element.getAttribute("aria-labelledby").split(" ")) {
      if (!document.getElementById(id)) {
        faults.push(`nothing is called ${id}`);
      }
    }
  }
  for (const drawing of document.querySelectorAll("svg")) {
    if (!drawing.closest("[aria-hidden]") && !drawing.hasAttribute("aria-label") && !drawing.querySelector("title")) {
      faults.push("a drawing has no name");
    }
  }
  for (const link of document.querySelectorAll("a[href^='#']")) {
    if (!document.getElementById(link.getAttribute("href").slice(1))) {
      faults.push(`a link leads nowhere: ${link.textContent}`);
    }
  }

  // Contrast of each kind of text with what is behind it, as WCAG 2 has it.
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => {
    const [red, green, blue] = channels(colour).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const grounds = new Map();
  const behind = (element) => {
    if (!element) {
      return "rgb(255, 255, 255)";
    }
    if (!grounds.has(element)) {
      const colour = getComputedStyle(element).backgroundColor;
      grounds.set(element, (channels(colour)[3] ?? 1) > 0 ? colour : behind(element.parentElement));
    }
    return grounds.get(element);
  };
  const told = new Set();
  for (const { parent, text } of boxes) {
    const inDrawing = parent instanceof SVGElement;
    const ink = getComputedStyle(parent)[inDrawing ? "fill" : "color"];
    const ground = behind(inDrawing ? parent.closest("svg").parentElement : parent);
    const pair = `${ink} on ${ground}`;
    const [high, low] = [light(ink), light(ground)].sort((one, other) => other - one);
    if (!told.has(pair) && (high + 0.05) / (low + 0.05) < 4.5) {
      faults.push(`hard to read: ${pair} (${text})`);
    }
    told.add(pair);
  }
  return faults;
})();
