// Copyright (c) 2026, kvmops.cluster contributors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// What is wrong with a page of the site, to the eye; a list of sentences. Only the text of the page is looked at: the
// lists beside it wait outside of a narrow window.
(() => {
  const faults = [];
  const width = document.documentElement.clientWidth;
  if (document.scrollingElement.scrollWidth > width) {
    faults.push(`the page is ${document.scrollingElement.scrollWidth} wide, the window ${width}`);
  }

  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const light = (colour) => {
    const [red, green, blue] = channels(colour).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  // A thin veil over the ground does not count.
  const behind = (element) => {
    const colour = element ? getComputedStyle(element).backgroundColor : "rgb(255, 255, 255)";
    return !element || (channels(colour)[3] ?? 1) > 0.5 ? colour : behind(element.parentElement);
  };
  const told = new Set();
  const walker = document.createTreeWalker(document.querySelector("article"), NodeFilter.SHOW_TEXT);
  for (let piece = walker.nextNode(); piece; piece = walker.nextNode()) {
    const parent = piece.parentElement;
    if (!piece.textContent.trim() || parent.closest("script, .headerlink, .copybtn") || !parent.checkVisibility()) {
      continue;
    }
    const text = piece.textContent.trim().slice(0, 40);
    const range = document.createRange();
    range.selectNodeContents(piece);
    for (const box of range.getClientRects()) {
      const scrolls = parent.closest("pre, .table-wrapper");
      if (box.width > 1 && !(scrolls && getComputedStyle(scrolls).overflowX === "auto") && box.right > width + 1) {
        faults.push(`beyond the edge: ${text}`);
      }
    }
    const pair = `${getComputedStyle(parent).color} on ${behind(parent)}`;
    const [high, low] = [light(getComputedStyle(parent).color), light(behind(parent))].sort((one, other) => other - one);
    if (!told.has(pair) && (high + 0.05) / (low + 0.05) < 4.5) {
      faults.push(`hard to read: ${pair} (${text})`);
    }
    told.add(pair);
  }
  return faults.slice(0, 20);
})();
