// The operations page: renews its board when the coordinator has news, says so in one sentence to
// whoever does not look, and says when it hears nothing any more.
"use strict";

(() => {
  const parts = ["now", "board"].map((id) => document.getElementById(id));
  const lost = document.getElementById("lost");
  const spoken = document.getElementById("spoken");
  const lang = document.body.dataset.lang;

  // Nothing new for this long, and the page says so: the coordinator tells something every second.
  const SILENCE_MAX = 15_000;
  // Whoever listens to the page is not told more often.
  const SPEAK_EVERY = 60_000;

  let heard = Date.now();
  let spokenAt = 0;
  const speak = () => {
    const now = document.getElementById("open");
    if (!now || Date.now() - spokenAt < SPEAK_EVERY) return;
    if (spoken.textContent !== now.dataset.spoken) {
      spoken.textContent = now.dataset.spoken;
      spokenAt = Date.now();
    }
  };

  const source = new EventSource("/live?lang=" + lang);
  source.addEventListener("board", (event) => {
    heard = Date.now();
    lost.hidden = true;
    // A selection or the focus inside would be lost: the page waits until it is left.
    const inside = parts.some((part) => part.contains(document.activeElement));
    const selected = !document.getSelection().isCollapsed;
    if (inside || selected) return;
    const fresh = new DOMParser().parseFromString(event.data, "text/html");
    for (const part of parts) part.replaceChildren(...fresh.getElementById(part.id).childNodes);
    speak();
    settle();
  });
  setInterval(() => {
    if (Date.now() - heard > SILENCE_MAX) lost.hidden = false;
  }, 1_000);

  // Buttons follow the state and what waits; what they say is the page's when it is loaded again.
  const shown = (part) => document.querySelector("#now " + part)?.textContent ?? "";
  const state = () => shown(".state") + shown("#waiting");
  const before = state();
  const settle = () => {
    if (state() !== before && !document.activeElement?.closest("form")) location.replace("/?lang=" + lang);
  };

  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "p" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      document.getElementById("pause-reason")?.focus();
      event.preventDefault();
    }
  });
})();
