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
    const places = focused ? nearest(part, focused).map(path) : [];
    return () => {
      for (const [id, open] of opened) document.getElementById(id)?.toggleAttribute("open", open);
      for (const [where, left, top] of scrolled) at(where)?.scrollTo({ left, top, behavior: "instant" });
      const found = places.map(at).find((element) => element && seen(element));
      found?.focus({ preventScroll: true });
      if (focused && !found) document.getElementById("main").focus({ preventScroll: true });
    };
  }

  // What the keyboard is at, then what comes after it and before it: one of them is there when it has gone.
  function nearest(part, focused) {
    const all = [...part.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex]")]
      .filter(seen);
    const here = all.indexOf(focused);
    return [focused, ...all.slice(here + 1, here + 4), ...all.slice(Math.max(here - 3, 0), here).reverse()];
  }

  function seen(element) { // and not in what is shut; older browsers cannot tell
    return element.checkVisibility?.() ?? true;
  }

  // An element in a part that comes anew: its id, or the nearest and which of those alike below it. Links are alike that
  // lead to the same place, so that a link is found again when a row has come above it; buttons that do the same.
  function path(element) {
    if (element.id) return [element.id];
    const root = element.parentElement.closest("[id]");
    const href = element.getAttribute("href");
    const action = element.form?.getAttribute("action");
    const same = href ? `[href="${CSS.escape(href)}"]` : element.hasAttribute("data-copy") ? "[data-copy]" : "";
    const alike = `${action ? `form[action="${CSS.escape(action)}"] ` : ""}${element.localName}${same}`;
    return [root.id, alike, [...root.querySelectorAll(alike)].indexOf(element)];
  }
  function at([id, alike, number]) {
    const root = document.getElementById(id);
    return alike ? root?.querySelectorAll(alike)[number] : root;
  }

  // Whoever is writing, marking a text or sending a form inside of a live part is not disturbed.
  function busy(part) {
    const marked = getSelection();
    return part.contains(document.activeElement?.closest("input:not([type=checkbox]), textarea, select"))
      || part.querySelector("button[aria-busy]")
      || (marked && !marked.isCollapsed && part.contains(marked.anchorNode));
  }

  // A mark of the timeline opens the step that it leads to.
  document.addEventListener("click", (event) => {
    const mark = event.target.closest('a[href^="#step-"]');
    if (mark) document.querySelector(mark.getAttribute("href"))?.closest("details").setAttribute("open", "");
  });

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const text = button.parentElement.querySelector("pre, code");
    try {
      await navigator.clipboard.writeText(text.textContent);
    } catch { // without https browsers have no clipboard for pages: the text is marked, and copied as by hand
      getSelection().selectAllChildren(text);
      if (document.execCommand("copy")) getSelection().removeAllRanges(); // nothing comes anew where a text is marked
    }
    const label = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1500);
  });

  // A button that was pressed is not pressed twice; coming back to the page frees it, and so does stopping it.
  document.addEventListener("submit", (event) => {
    if (event.target.method !== "post" || event.defaultPrevented) return;
    const question = event.submitter?.dataset.ask;
    if (question && !confirm(question)) { event.preventDefault(); return; }
    for (const button of event.target.querySelectorAll("button:not([type=button])")) {
      setTimeout(() => { button.setAttribute("aria-busy", "true"); button.disabled = true; });
    }
  });
  function free() {
    for (const button of document.querySelectorAll("button[aria-busy]")) {
      button.removeAttribute("aria-busy");
      button.disabled = false;
    }
  }
  addEventListener("pageshow", free);
  window.navigation?.addEventListener("navigateerror", free); // older browsers do not tell
})();
