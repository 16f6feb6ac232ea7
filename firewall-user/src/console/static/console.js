// Shows drops as they happen. Without it the page is complete, and does not change.
// Texts of records become texts of the page, never markup.
"use strict";

const live = document.getElementById("live");
if (live) {
  follow(live);
}

function follow(live) {
  const rows = document.getElementById("rows");
  const template = document.getElementById("row");
  const summary = document.getElementById("summary");
  const state = document.getElementById("live-state");
  const button = document.getElementById("pause");
  const limit = Number(live.dataset.rows);

  let stream = null;
  let isPaused = false;
  // The last record that this page has; the link of the stream begins after those of the page.
  let last = "";
  let [shown, skipped, lost] = [0, 0, 0];
  let announced = 0;

  // The summary is read aloud: at most every five seconds.
  function announce() {
    if (announced) {
      return;
    }
    announced = setTimeout(() => {
      announced = 0;
      const parts = [`${shown} new record${shown === 1 ? "" : "s"} since this page was opened`];
      if (skipped) {
        parts.push(`${skipped} more were too many to show`);
      }
      if (lost) {
        parts.push(`${lost} packets lost`);
      }
      summary.textContent = `${parts.join("; ")}.`;
    }, shown + skipped + lost > 1 ? 5000 : 0);
  }

  function add(row) {
    const element = template.content.firstElementChild.cloneNode(true);
    element.dataset.id = row.id;
    element.classList.add("new");
    for (const cell of element.querySelectorAll("[data-field]")) {
      cell.textContent = row[cell.dataset.field];
    }
    element.querySelector("[data-field=verdict]").classList.add(row.verdict);
    element.querySelector("a").setAttribute("href", row.explain);
    rows.prepend(element);
    requestAnimationFrame(() => requestAnimationFrame(() => element.classList.remove("new")));
    // What is read by keyboard stays.
    let oldest = rows.lastElementChild;
    while (rows.childElementCount > limit && !oldest.contains(document.activeElement)) {
      oldest.remove();
      oldest = rows.lastElementChild;
    }
  }

  function open() {
    if (stream || isPaused || document.hidden) {
      return;
    }
    const url = new URL(live.dataset.stream, document.baseURI);
    if (last) {
      url.searchParams.set("after", last);
    }
    stream = new EventSource(url);
    state.textContent = "connecting";
    stream.addEventListener("open", () => { state.textContent = "live"; });
    stream.addEventListener("error", () => { state.textContent = "connection lost, trying again"; });
    stream.addEventListener("record", (event) => {
      add(JSON.parse(event.data).row);
      last = event.lastEventId;
      shown += 1;
      announce();
    });
    stream.addEventListener("skipped", (event) => {
      skipped += JSON.parse(event.data).skipped;
      announce();
    });
    stream.addEventListener("account", (event) => {
      const account = JSON.parse(event.data);
      if (account.lost) {
        lost += account.lost;
        announce();
      }
    });
  }

  function close(text) {
    if (stream) {
      stream.close();
      stream = null;
    }
    state.textContent = text;
  }

  button.addEventListener("click", () => {
    isPaused = !isPaused;
    button.setAttribute("aria-pressed", String(isPaused));
    if (isPaused) {
      close("paused");
    } else {
      open();
    }
  });
  // A page that nobody sees costs nothing; what came meanwhile is sent when it is seen again.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      close("paused while hidden");
    } else {
      open();
    }
  });
  // A browser has few connections to a server: one page leaves its own free for the next.
  window.addEventListener("pagehide", () => close("closed"));
  window.addEventListener("pageshow", open);

  live.hidden = false;
  open();
}
