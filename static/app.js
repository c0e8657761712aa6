/* What pages do beyond what HTML does: keep themselves fresh, tell times as
   people do, answer keys, copy, start a player. Every page works without it.

   [data-live] with an id is replaced when the same page, fetched anew, has it
   otherwise; then "refreshed" bubbles from it, for scripts that draw in there.
   While [data-running] is on the page that is looked for every two seconds,
   else when there are new events. */
"use strict";
(() => {
  const root = document.documentElement;
  const { base, hls } = document.currentScript.dataset;
  const PACE = 2000, SLOWEST = 30000; // ms
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const one = (selector, within = document) => within.querySelector(selector);

  // Theme: before anything is painted

  const wear = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  try {
    wear(localStorage.getItem("theme"));
  } catch { /* nothing may be kept */ }
  root.classList.add("scripts");

  function startTheme() {
    const button = one("#theme");
    const show = () => { button.textContent = `Theme: ${root.dataset.theme || "auto"}`; };
    button?.addEventListener("click", () => {
      wear({ dark: "light", light: "" }[root.dataset.theme] ?? "dark");
      show();
      try {
        localStorage.setItem("theme", root.dataset.theme || "");
      } catch { /* only for this page, then */ }
    });
    if (button) show();
  }

  // Times

  const ago = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
  const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function relative(seconds) {
    const [unit, size] = UNITS.find(([, s]) => Math.abs(seconds) >= s) || UNITS[3];
    return ago.format(Math.round(seconds / size), unit);
  }

  function tellTimes(within = document) {
    for (const time of all("time[datetime]:not([data-exact])", within)) {
      const when = new Date(time.dateTime);
      if (isNaN(when)) continue;
      time.textContent = relative((when - Date.now()) / 1000);
      time.title ||= exact.format(when);
    }
  }

  // Live parts

  const LIVE = "[data-live][id]";
  const asSent = new Map(); // id → HTML as the server sent it
  const plain = (part) => part.outerHTML.replace(/(name="csrf_token" value=)"[^"]*"/g, "$1");
  let newest = null, wait = PACE, timer = 0, busy = false, fresh = new Date();

  class Lost extends Error {}
  const LOST = {
    401: "You are no longer logged in: load the page again.",
    403: "You may no longer see this.",
    404: "What this page shows is no longer there.",
  };

  async function get(path, headers) {
    let answer;
    try {
      answer = await fetch(path, { headers, signal: AbortSignal.timeout(15000) });
    } catch {
      throw new Lost("The connection is lost.");
    }
    if (answer.status < 400) return answer;
    throw new Lost(LOST[answer.status] || "The service does not answer as it should.");
  }

  /* Whether anything has happened since the last look. */
  async function happened() {
    const headers = { Accept: "application/json" };
    if (newest !== null) headers["If-None-Match"] = `"json-${newest}"`;
    const query = newest === null ? "limit=1" : `after=${newest}&limit=1000`;
    const answer = await get(`${base}events.json?${query}`, headers);
    if (answer.status === 304) return false;
    const last = (await answer.json()).events.at(-1)?.id ?? newest ?? 0;
    const isNew = last !== newest;
    newest = last;
    return isNew;
  }

  async function refresh() {
    const answer = await get(location.href, { Accept: "text/html" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of all(LIVE)) {
      const next = page.getElementById(part.id);
      const sent = next && plain(next);
      if (!next || sent === asSent.get(part.id)) continue;
      if (all("video", part).some((video) => !video.paused)) continue;
      asSent.set(part.id, sent);
      const restore = remember(part);
      part.replaceWith(document.adoptNode(next));
      settle(next);
      restore(next);
      next.dispatchEvent(new CustomEvent("refreshed", { bubbles: true }));
    }
  }

  /* What a person did in a part; gives what does it again in the next one. */
  const FIELDS = "input[name]:not([type=hidden]), select[name], textarea[name]";
  const nameOf = (field) => `${field.name}=${field.type === "checkbox" ? field.value : ""}`;
  const nameOfRow = (row) => one("a[href]", row)?.getAttribute("href");
  const nameOfDetails = (details) => details.id || one("summary", details)?.textContent;

  function remember(part) {
    const ticked = new Set(all("input:checked", part).map(nameOf));
    const typed = new Map(all(FIELDS, part).filter((f) => f.value !== f.defaultValue).map((f) => [nameOf(f), f.value]));
    const open = new Map(all("details", part).map((d) => [nameOfDetails(d), d.open]));
    const scrolled = all(".scroll, pre", part).map((box) => [box.scrollLeft, box.scrollTop]);
    const find = part.contains(document.activeElement) && finder(document.activeElement, part);
    return (next) => {
      for (const field of all(FIELDS, next)) {
        const name = nameOf(field);
        if (field.type === "checkbox") field.checked = ticked.has(name);
        else if (typed.has(name)) field.value = typed.get(name);
      }
      for (const details of all("details", next)) details.open = open.get(nameOfDetails(details)) ?? details.open;
      all(".scroll, pre", next).forEach((box, n) => scrolled[n] && box.scrollTo(...scrolled[n]));
      if (find) focus(find(next));
      countTicked();
    };
  }

  function finder(active, part) {
    const same = (selector, name) => (next) => all(selector, next).find((each) => name(each) === name(active));
    if (active.matches("tr")) return same("tr", nameOfRow);
    if (active.matches("a[href]")) return same("a[href]", (link) => link.getAttribute("href"));
    if (active.name) return same(FIELDS, nameOf);
    const place = all(active.localName, part).indexOf(active);
    return (next) => all(active.localName, next)[place];
  }

  function focus(element) {
    if (element?.matches("tr")) element.tabIndex = -1;
    element?.focus({ preventScroll: true });
  }

  function tell(state, text) {
    const light = one("#live"), banner = one("#banner");
    light.hidden = false;
    light.className = `live ${state}`;
    light.textContent = state === "on" ? "live" : "not live";
    banner.hidden = !text;
    if (banner.textContent !== text) banner.textContent = text;
  }

  async function look() {
    if (busy || document.hidden) return;
    busy = true;
    clearTimeout(timer);
    try {
      if ((await happened()) || one("[data-running]")) await refresh();
      fresh = new Date();
      wait = PACE;
      tell("on", "");
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      newest = null; // so that what was missed is fetched
      wait = Math.min(wait * 2, SLOWEST);
      tell("lost", `${error.message} This is how it was at ${fresh.toLocaleTimeString()}; trying again.`);
    } finally {
      busy = false;
      timer = setTimeout(look, wait);
    }
  }

  function startLive() {
    for (const part of all(LIVE)) asSent.set(part.id, plain(part));
    if (!asSent.size || !one("#live") || !one("#banner")) return;
    timer = setTimeout(look, PACE);
    tell("on", "");
    document.addEventListener("visibilitychange", look); // a hidden page rests
    addEventListener("online", look);
  }

  // Keys

  const TYPED = "input:not([type=checkbox], [type=radio]), select, textarea";
  const currentRow = () => document.activeElement?.closest("tbody tr");
  let going = 0; // until when a letter goes to a page

  function step(by) {
    const rows = all("table.list tbody tr").filter(nameOfRow);
    const now = rows.indexOf(currentRow());
    const next = rows[now < 0 && by < 0 ? rows.length - 1 : now + by];
    focus(next);
    next?.scrollIntoView({ block: "nearest" });
    return next;
  }

  const KEYS = {
    "/": () => focus(one(".filter input:not([type=hidden])")) ?? true,
    j: () => step(1),
    k: () => step(-1),
    x: () => one("input[type=checkbox]", currentRow() || new DocumentFragment())?.click() ?? true,
    Enter: () => document.activeElement?.matches("tr") && (one("a[href]", currentRow()).click() ?? true),
    "?": () => one("#keys")?.showModal() ?? true,
    g: () => { going = Date.now() + 1500; },
  };

  function pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || one("dialog[open]")) return;
    if (event.target.matches?.(TYPED)) {
      if (event.key === "Escape") event.target.blur();
    } else if (Date.now() < going) {
      going = 0;
      one(`a[data-key="${CSS.escape(event.key)}"]`)?.click();
    } else if (Object.hasOwn(KEYS, event.key) && KEYS[event.key]()) event.preventDefault();
  }

  function startKeys() {
    document.addEventListener("keydown", pressed);
    one("#help")?.addEventListener("click", (event) => {
      event.preventDefault();
      one("#keys").showModal();
    });
  }

  // Ticking rows, copying

  const boxes = (table) => all("tbody input[type=checkbox]", table);

  function countTicked() {
    const count = all("table.list tbody input[type=checkbox]:checked").length;
    for (const place of all("[data-selected]")) place.textContent = count;
    for (const box of all("[data-select-all]")) {
      const mine = boxes(box.closest("table"));
      const on = mine.filter((each) => each.checked).length;
      box.checked = on > 0 && on === mine.length;
      box.indeterminate = on > 0 && on < mine.length;
    }
  }

  function ticked({ target }) {
    if (target.matches("[data-select-all]"))
      for (const box of boxes(target.closest("table"))) box.checked = target.checked;
    countTicked();
  }

  async function copy({ target }) {
    const button = target.closest?.("[data-copy]");
    if (!button || button.textContent === "Copied") return;
    const { copy: what } = button.dataset, label = button.textContent;
    const text = what.startsWith("#") ? one(what).textContent : what;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not possible here"; // without https
    }
    setTimeout(() => { button.textContent = label; }, 1500);
  }

  // Players

  let library;

  function load(src) {
    library ||= new Promise((onload, onerror) => {
      document.head.append(Object.assign(document.createElement("script"), { src, onload, onerror }));
    });
    return library;
  }

  function refuse(video) {
    const text = "This cannot be played here; the link gives the file.";
    video.replaceWith(Object.assign(document.createElement("p"), { className: "warn", textContent: text }));
  }

  async function play(video) {
    const source = video.dataset.hls;
    if (video.canPlayType("application/vnd.apple.mpegurl")) {
      video.addEventListener("error", () => refuse(video));
      video.src = source;
      return;
    }
    await load(hls).catch(() => {});
    if (!window.Hls?.isSupported()) return refuse(video);
    const player = new Hls({ enableWorker: false }); // a worker would come from a blob
    player.on(Hls.Events.ERROR, (_, { fatal }) => fatal && (player.destroy(), refuse(video)));
    player.loadSource(source);
    player.attachMedia(video);
  }

  // All of it

  /* What a page needs at first, and a part of it that was replaced. */
  function settle(within) {
    tellTimes(within);
    all("video[data-hls]", within).forEach(play);
    for (const box of all(".scroll, pre", within))
      if (box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight) box.tabIndex = 0;
  }

  document.addEventListener("DOMContentLoaded", () => {
    startTheme();
    startLive(); // before anything changes the HTML that was sent
    settle(document);
    startKeys();
    document.addEventListener("change", ticked);
    document.addEventListener("click", copy);
    countTicked();
    setInterval(() => tellTimes(), 10000);
  });
})();
