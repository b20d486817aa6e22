// What HTML and htmx do not do by themselves. No state is kept here.
"use strict";

// A link that logs in carries the token behind `#`, which is sent to no server; it must not stay in the history.
function takeTokenFromAddress() {
  const found = /^#token=(.+)$/.exec(location.hash);
  if (!found) return false;
  history.replaceState(null, "", location.pathname + location.search);
  const form = document.getElementById("login");
  if (!form) return false;
  form.elements.token.value = decodeURIComponent(found[1]);
  form.requestSubmit();
  return true;
}

// Coming from another site, the browser held the session's cookie back (SameSite=Strict); from here it sends it.
async function goOnIfLoggedIn() {
  const form = document.getElementById("login");
  if (!form || form.querySelector("[role=alert]")) return;
  const answer = await fetch(form.dataset.next, { method: "HEAD", redirect: "manual" });
  if (answer.ok && !form.elements.token.value) location.replace(form.dataset.next);
}

// Parts with data-every="5" are fetched again every 5 s, while the page is visible.
const askedAt = new WeakMap();
function beat(all) {
  if (document.hidden || sessionEnded()) return;
  for (const part of document.querySelectorAll("[data-every]")) {
    const now = Date.now();
    if (!askedAt.has(part)) askedAt.set(part, now);
    if (all || now - askedAt.get(part) >= part.dataset.every * 1000) {
      askedAt.set(part, now);
      htmx.trigger(part, "beat");
    }
  }
}

function notify(kind, title, text) {
  const notice = document.createElement("div");
  notice.className = "notice";
  notice.dataset.kind = kind;
  notice.dataset.passing = "";
  const line = document.createElement("p");
  const strong = document.createElement("strong");
  strong.textContent = title;
  line.append(strong, " " + text);
  notice.append(line);
  document.getElementById("notice").replaceChildren(notice);
}

document.addEventListener("htmx:beforeSwap", (event) => {
  // Errors come as a notice of their own; everything else that is no success is not shown as if it were one.
  if (!event.detail.xhr.getResponseHeader("HX-Retarget")) return;
  // A token that is being typed stays.
  const asksAgain = event.detail.xhr.status === 401 && event.detail.pathInfo.requestPath !== "/login";
  event.detail.shouldSwap = !(asksAgain && sessionEnded());
});
// The session has ended: the login comes to this page, and what was typed stays. Then everything here goes on with the
// CSRF token of the new session.
function sessionEnded() {
  return document.querySelector("#notice [data-testid=session-ended]") !== null;
}
function takeSession() {
  const csrf = document.querySelector("#notice [data-csrf]")?.dataset.csrf;
  if (!csrf) return;
  document.querySelector("#notice [data-csrf]").removeAttribute("data-csrf");
  document.body.setAttribute("hx-headers", JSON.stringify({ "X-CSRF-Token": csrf }));
  document.querySelectorAll("input[name=csrf]").forEach((input) => { input.value = csrf; });
  document.dispatchEvent(new Event("session"));
  beat(true);
}
function takeNotice() {
  takeSession();
  document.getElementById("token-again")?.focus();
}
// A notice that a script was answered with, and not htmx.
function showNotice(html) {
  if (sessionEnded()) return; // a token that is being typed stays
  const notice = document.getElementById("notice");
  notice.innerHTML = html;
  htmx.process(notice);
  takeNotice();
}
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) document.querySelector("#notice [data-passing]")?.remove();
});
// What was open before a part was fetched again is open afterwards.
let open = [];
document.addEventListener("htmx:beforeSwap", (event) => {
  open = [...event.target.querySelectorAll("details[open][id]")].map((details) => details.id);
});
document.addEventListener("htmx:afterSettle", (event) => {
  for (const id of open) document.getElementById(id)?.setAttribute("open", "");
  showLimits();
  if (event.detail.target.id === "notice") takeNotice();
  if (event.detail.target.id === "main") document.getElementById("main").focus();
});
// Runway's limits, which come once, are shown in a table that is fetched again every few seconds.
function showLimits() {
  for (const cell of document.querySelectorAll("[data-limit]")) {
    const limit = document.querySelector(`[data-limit-of="${CSS.escape(cell.dataset.limit)}"]`);
    if (limit) cell.textContent = limit.textContent;
  }
}
document.addEventListener("htmx:sendError", () => {
  notify("bad", "Taxiway does not answer.", "You see the last answer; the page keeps trying.");
});
document.addEventListener("visibilitychange", () => beat(true));

// "5 min ago" goes on by itself, by the server's clock.
const UNITS = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
let clockIsAhead = 0; // milliseconds
function setClock(serverNow) {
  clockIsAhead = Date.now() - Number(serverNow);
}
function relative(moment) {
  const seconds = (Date.parse(moment) - Date.now() + clockIsAhead) / 1000;
  if (Math.abs(seconds) < 1.5) return "just now";
  const [size, unit] = UNITS.find(([size]) => Math.abs(seconds) >= size);
  const span = `${Math.round(Math.abs(seconds) / size)} ${unit}`;
  return seconds > 0 ? `in ${span}` : `${span} ago`;
}
function showTimes() {
  for (const time of document.querySelectorAll("time[data-relative]")) {
    const words = relative(time.dateTime);
    if (time.textContent !== words) time.textContent = words;
  }
}

// Copy buttons: of a text, or of the element whose id they name.
async function copy(button) {
  const label = button.firstChild;
  const words = label.textContent;
  const text = button.dataset.copy ?? document.getElementById(button.dataset.copyFrom).textContent;
  try {
    await navigator.clipboard.writeText(text);
    label.textContent = "Copied";
  } catch {
    label.textContent = "Not allowed here"; // without https
  }
  setTimeout(() => { label.textContent = words; }, 2000);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (button) void copy(button);
});
// The link may be pasted where the login is open already: only what is behind `#` changes then.
addEventListener("hashchange", takeTokenFromAddress);
document.addEventListener("DOMContentLoaded", () => {
  setClock(document.body.dataset.now);
  setInterval(beat, 500, false);
  setInterval(showTimes, 1000);
  if (!takeTokenFromAddress()) void goOnIfLoggedIn();
});
