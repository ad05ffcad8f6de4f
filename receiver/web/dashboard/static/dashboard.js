// What pages need beyond forms and links. Everything works without it, except live refresh and the clipboard.
"use strict";
(() => {
  const root = document.documentElement;

  // Light or dark: the choice is kept in a cookie, so that the server draws the next page in it at once.
  document.getElementById("theme")?.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
    document.dispatchEvent(new CustomEvent("theme-changed"));
  });

  // Live parts are asked for only while somebody can see them.
  const last = new Map();
  let restore = () => {};
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (event.target.matches("[data-live]") && document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const part = event.detail.target;
    if (!part?.matches?.("[data-live]")) return;
    document.getElementById("offline").hidden = true;
    const text = event.detail.serverResponse;
    if (last.get(part.id) === text || busy(part)) event.detail.shouldSwap = false;
    else last.set(part.id, text);
    restore = event.detail.shouldSwap ? kept(part) : () => {};
  });
  document.addEventListener("htmx:afterSwap", () => {
    restore();
    restore = () => {};
  });
  for (const failure of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.addEventListener(failure, () => { document.getElementById("offline").hidden = false; });
  }

  // What a part that comes anew would lose: what is open or shut, how far it is scrolled, and where the keyboard is.
  function kept(part) {
    const opened = [...part.querySelectorAll("details[id]")].map((details) => [details.id, details.open]);
    const scrolled = [...part.querySelectorAll(".scroll, .timeline, pre")]
      .filter((element) => element.scrollLeft || element.scrollTop)
      .map((element) => [path(element), element.scrollLeft, element.scrollTop]);
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const place = focused && path(focused);
    return () => {
      for (const [id, open] of opened) document.getElementById(id)?.toggleAttribute("open", open);
      for (const [where, left, top] of scrolled) at(where)?.scrollTo({ left, top, behavior: "instant" });
      if (place) at(place)?.focus({ preventScroll: true });
    };
  }

  // An element in a part that comes anew: the nearest id, and which of those alike below it. Links are alike that
  // lead to the same place, so that a link is found again when a row has come above it.
  function path(element) {
    const root = element.parentElement.closest("[id]");
    const href = element.getAttribute("href");
    const alike = href === null ? element.localName : `${element.localName}[href="${CSS.escape(href)}"]`;
    return [root.id, alike, [...root.querySelectorAll(alike)].indexOf(element)];
  }
  function at([id, alike, number]) {
    return document.getElementById(id)?.querySelectorAll(alike)[number];
  }

  // Whoever is writing or marking a text inside of a live part is not disturbed.
  function busy(part) {
    const marked = getSelection();
    return part.contains(document.activeElement?.closest("input:not([type=checkbox]), textarea, select"))
      || (marked && !marked.isCollapsed && part.contains(marked.anchorNode));
  }

  // A mark of the timeline opens the step that it leads to.
  document.addEventListener("click", (event) => {
    const mark = event.target.closest('a[href^="#step-"]');
    if (mark) document.querySelector(`${mark.getAttribute("href")} > details`)?.setAttribute("open", "");
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = button.parentElement.querySelector("pre, code");
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch { // without https browsers have no clipboard for pages: the text is marked, and copied as by hand
      getSelection().selectAllChildren(text);
      document.execCommand("copy");
    }
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });

  // A button that was pressed is not pressed twice; coming back to the page frees it.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post" || event.defaultPrevented) return;
    const question = event.submitter?.dataset.ask;
    if (question && !confirm(question)) { event.preventDefault(); return; }
    for (const button of event.target.querySelectorAll("button:not([type=button])")) {
      setTimeout(() => { button.setAttribute("aria-busy", "true"); button.disabled = true; });
    }
  });
  addEventListener("pageshow", () => {
    for (const button of document.querySelectorAll("button[aria-busy]")) {
      button.removeAttribute("aria-busy");
      button.disabled = false;
    }
  });
})();
