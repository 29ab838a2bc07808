// Asks the server for the next change and loads the page again; after a change of style sheets only those.
// A hidden page does not ask: a browser has few connections to one host. It asks when it is seen again.
(() => {
  let since = "SINCE", asking = null;
  const pause = (time) => new Promise((done) => setTimeout(done, time));
  const styles = () => {
    for (const link of document.querySelectorAll('link[rel~="stylesheet"]')) {
      const url = new URL(link.href);
      if (url.origin !== location.origin) continue;
      url.searchParams.set("bandstand-dev", since);
      const next = link.cloneNode();
      next.href = url;
      next.onload = () => link.remove();
      link.after(next);
    }
  };
  const follow = async () => {
    if (asking) return;
    while (!document.hidden) {
      asking = new AbortController();
      try {
        const answer = await fetch("/-/dev/wait?since=" + since, { signal: asking.signal, cache: "no-store" });
        const told = await answer.json();
        if (told.reload) return location.reload();
        if (told.since !== since) { since = told.since; styles(); }
      } catch {
        if (!document.hidden) await pause(500); // the server is away: it is asked until it is back
      }
    }
    asking = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? asking?.abort() : follow()));
  addEventListener("pagehide", () => asking?.abort());
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  follow();
})();
