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
  let open = [];
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
    open = [...part.querySelectorAll("details[id][open]")].map((details) => details.id);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    open = [];
  });
  for (const failure of ["htmx:sendError", "htmx:responseError", "htmx:timeout"]) {
    document.addEventListener(failure, () => { document.getElementById("offline").hidden = false; });
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
