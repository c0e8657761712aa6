/* Follows the log of a task: what is added to it is fetched by ranges and shown
   at the end of what the server wrote. Without it the page shows the end of the
   log as it was. */
"use strict";
(() => {
  const PACE = 1000; // ms
  const MOST = 1 << 19; // characters that are kept
  const box = document.querySelector("pre[data-log]");
  const now = () => document.querySelector("[data-newest]");
  if (!box) return;
  let attempt = Number(box.dataset.attempt);
  let end = Number(box.dataset.end); // bytes that are shown
  let decoder = new TextDecoder();
  let busy = false;
  let whole = false; // nothing more will come, unless there is another attempt

  /* As the server writes them: a sign for what cannot be seen. */
  function visible(text) {
    const hidden = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;
    return text.replaceAll("\r\n", "\n").replace(hidden, (sign) => {
      const code = sign.charCodeAt(0);
      if (code < 32) return String.fromCharCode(0x2400 + code);
      return code === 127 ? "␡" : `⟨U+${code.toString(16).toUpperCase().padStart(4, "0")}⟩`;
    });
  }

  function show(bytes) {
    const follows = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
    box.append(visible(decoder.decode(bytes, { stream: true })));
    if (box.textContent.length > MOST) box.textContent = box.textContent.slice(-MOST / 2);
    if (follows) box.scrollTop = box.scrollHeight;
  }

  /* From the last byte that is known, so that there is always one to send. */
  async function fetchMore() {
    const headers = end ? { Range: `bytes=${end - 1}-` } : {};
    const answer = await fetch(`${box.dataset.log}?attempt=${attempt}`, { headers, cache: "no-store" });
    if (!answer.ok) return;
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const known = answer.status === 206 ? 1 : 0;
    if (!known && end) start();
    if (bytes.length > known) show(bytes.subarray(known));
    end += bytes.length - known;
  }

  function start() {
    box.textContent = "";
    end = 0;
    whole = false;
    decoder = new TextDecoder();
  }

  async function look() {
    const state = now();
    const newest = Number(state?.dataset.newest || 0);
    if (newest > attempt) {
      attempt = newest;
      start();
    }
    if (busy || whole || !attempt || document.hidden) return;
    busy = true;
    const going = state?.hasAttribute("data-running");
    try {
      await fetchMore();
      whole = !going; // its last lines came before its end was known
    } catch {
      // The page itself says that the connection is lost.
    } finally {
      busy = false;
    }
  }

  box.scrollTop = box.scrollHeight;
  setInterval(look, PACE);
})();
