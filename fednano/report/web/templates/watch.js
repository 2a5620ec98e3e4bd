// Asks for what is new each second and shows it. Without this script the page reloads itself.
(() => {
  const PERIOD_MS = 1000;
  const main = document.querySelector("main");
  const live = document.getElementById("live");
  const link = document.getElementById("link");
  let version = main.dataset.version;

  // What the reader has chosen stays as it is when the page's contents are replaced.
  const kept = () => ({
    axis: live.querySelector('input[name="axis"]:checked')?.id,
    scrolled: [...live.querySelectorAll(".scroll[id]")].map((part) => {
      const end = part.scrollWidth - part.clientWidth;
      return [part.id, part.scrollLeft, end > 0 && part.scrollLeft >= end - 4];
    }),
    focused: document.activeElement?.getAttribute?.("href") ?? null,
  });
  const restore = (state) => {
    const axis = state.axis && document.getElementById(state.axis);
    if (axis) axis.checked = true;
    for (const [id, left, atEnd] of state.scrolled) {
      const part = document.getElementById(id);
      if (part) part.scrollLeft = atEnd ? part.scrollWidth : left;
    }
    if (state.focused) live.querySelector(`a[href="${CSS.escape(state.focused)}"]`)?.focus({ preventScroll: true });
  };
  const show = (answer) => {
    const state = kept();
    const parsed = new DOMParser().parseFromString(answer.html, "text/html");
    live.replaceChildren(...parsed.body.childNodes);
    document.title = answer.title;
    version = answer.version;
    main.dataset.version = version;
    restore(state);
  };
  const tell = (text) => {
    if (link.textContent !== text) link.textContent = text;
    link.classList.toggle("lost", text !== "");
  };
  for (const part of live.querySelectorAll("#scroll-timeline, #scroll-map")) part.scrollLeft = part.scrollWidth;
  const ask = async () => {
    if (!document.hidden) {
      try {
        const reply = await fetch(`${main.dataset.from}?seen=${encodeURIComponent(version)}`, { cache: "no-store" });
        if (reply.status === 200) show(await reply.json());
        tell(reply.ok ? "" : "this run is no longer there");
      } catch {
        tell("no longer watching: the command has ended");
      }
    }
    setTimeout(ask, PERIOD_MS);
  };
  setTimeout(ask, PERIOD_MS);
})();
