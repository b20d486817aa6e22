// Live parts and the selection. No state is kept here.
"use strict";

// The server says something at least every 10 s, and a stream that has ended comes again within a second or two.
const SILENCE_MS = 25000;
const ANSWER_MS = 8000;
const AGAIN_MS = 4000;
const RETRY_MS = 5000;

// An element with data-live="address" has parts, by id, that the server sends again when they have changed.
function follow(element) {
  const liveness = document.querySelector("[data-live-state]");
  let source = null;
  let seen = element.dataset.seen;
  let heardAt = Date.now();
  let expectedBy = heardAt + ANSWER_MS;
  const heard = (event) => {
    heardAt = Date.now();
    expectedBy = heardAt + SILENCE_MS;
    liveness.replaceChildren();
    if (/^\d+$/.test(event.data)) setClock(event.data);
  };
  const open = () => {
    if (source) return;
    const address = element.dataset.live;
    source = new EventSource(address + (address.includes("?") ? "&" : "?") + "seen=" + encodeURIComponent(seen));
    source.addEventListener("begin", heard);
    source.addEventListener("beat", heard);
    source.addEventListener("parts", (event) => {
      heard(event);
      seen = event.lastEventId;
      for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html);
    });
    // A browser gives up when it is refused once, as while the database is away, or when the session has ended.
    source.addEventListener("error", () => {
      expectedBy = Math.min(expectedBy, Date.now() + AGAIN_MS);
      if (source?.readyState !== EventSource.CLOSED) return;
      close();
      htmx.ajax("GET", location.pathname + location.search, { source: element, target: "#notice", swap: "none" });
      setTimeout(() => document.hidden || open(), RETRY_MS);
    });
  };
  const close = () => {
    source?.close();
    source = null;
  };
  const comeBack = () => {
    close();
    expectedBy = Date.now() + ANSWER_MS;
    open();
  };
  // A live page that hears nothing says so.
  setInterval(() => {
    if (document.hidden || Date.now() < expectedBy) return;
    showStale(liveness, heardAt);
    if (source?.readyState !== EventSource.CLOSED && Date.now() > expectedBy + ANSWER_MS) comeBack();
  }, 500);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : comeBack()));
  document.addEventListener("session", comeBack);
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  if (!document.hidden) open();
}

function showStale(liveness, heardAt) {
  if (liveness.firstChild) return;
  const time = document.createElement("time");
  time.dataset.relative = "";
  time.dateTime = new Date(heardAt - clockIsAhead).toISOString();
  time.title = time.dateTime.slice(0, 19).replace("T", " ") + " UTC";
  time.textContent = relative(time.dateTime);
  const strong = document.createElement("strong");
  strong.textContent = "Not live.";
  liveness.append(strong, " Taxiway does not answer: you see what was there ", time, ". This page keeps trying.");
}

// You can finish what you are doing: the focus, what is selected and what was typed stay.
function replace(id, html) {
  const part = document.getElementById(id);
  if (!part) return;
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const opened = [...part.querySelectorAll("details")].map((one) => one.open);
  const typed = new Map([...fieldsOf(part)].filter(isTouched).map((field) => [keyOf(field), field]));
  part.innerHTML = html;
  part.querySelectorAll("details").forEach((one, number) => { one.open = opened[number] ?? false; });
  for (const field of fieldsOf(part)) {
    const before = typed.get(keyOf(field));
    if (!before) continue;
    if (field.type === "checkbox") field.checked = before.checked;
    else field.value = before.value;
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  htmx.process(part);
  showTimes();
  showSelected();
}
const fieldsOf = (part) => part.querySelectorAll("input:not([type=hidden]), select, textarea");
const keyOf = (field) => (field.type === "checkbox" ? `${field.name} ${field.value}` : field.name);
const isTouched = (field) => (field.type === "checkbox" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue);

// The selection: rows, all rows of the page, or all that match.
function showSelected() {
  const form = document.getElementById("selection");
  if (!form) return;
  const rows = [...document.querySelectorAll("[data-select]")];
  const count = rows.filter((row) => row.checked).length;
  const all = form.elements.all.checked;
  rows.forEach((row) => { row.disabled = all; });
  form.querySelector("[data-select-page]").checked = rows.length > 0 && count === rows.length;
  form.querySelector("[data-selected]").textContent = all ? "" : count ? `${count} selected` : "";
  form.classList.toggle("is-used", all || count > 0);
}
function clearSelection() {
  document.querySelectorAll("[data-select], #selection [type=checkbox]").forEach((box) => { box.checked = false; });
  showSelected();
}
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-select-page]")) {
    document.querySelectorAll("[data-select]").forEach((row) => { row.checked = event.target.checked; });
  }
  if (event.target.form?.id !== "selection") return;
  document.getElementById("bulk").replaceChildren(); // what was counted was another selection
  showSelected();
});
document.addEventListener("click", (event) => {
  const id = event.target.closest("[data-clear]")?.dataset.clear;
  if (id) document.getElementById(id).replaceChildren();
});
document.addEventListener("htmx:afterSettle", () => {
  if (document.querySelector("#bulk [data-left='0']")) clearSelection();
});

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-live]").forEach(follow);
  showSelected();
});
