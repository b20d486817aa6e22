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

// Parts with data-every="5" are asked for anew every 5 s, while somebody can see them.
const askedAt = new WeakMap();
function beat(all) {
  if (document.hidden) return;
  for (const part of document.querySelectorAll("[data-every]")) {
    const now = Date.now();
    if (!askedAt.has(part)) askedAt.set(part, now);
    if (all || now - askedAt.get(part) >= part.dataset.every * 1000) {
      askedAt.set(part, now);
      htmx.trigger(part, "beat");
    }
  }
}

function tell(kind, title, text) {
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
  if (event.detail.xhr.getResponseHeader("HX-Retarget")) event.detail.shouldSwap = true;
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) document.querySelector("#notice [data-passing]")?.remove();
});
document.addEventListener("htmx:sendError", () => {
  tell("bad", "Taxiway does not answer.", "What you see is as it was; trying again.");
});
document.addEventListener("visibilitychange", () => beat(true));
document.addEventListener("DOMContentLoaded", () => {
  setInterval(beat, 500, false);
  if (!takeTokenFromAddress()) void goOnIfLoggedIn();
});
