// Live parts, the selection, and files in forms. No state is kept here.
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

// A file from the disk goes into the form as a data URI. What an image is, its first bytes say, and not its name.
const SIGNATURES = [/^\xff\xd8\xff/, /^\x89PNG\r\n\x1a\n/, /^RIFF[^]{4}WEBP/];
async function complaintAbout(file, accepted) {
  if (accepted.split(",").some((kind) => kind.endsWith("/*") && file.type.startsWith(kind.slice(0, -1)))) return "";
  if (!accepted.includes("image/")) return `${file.name} is not a file of this kind. Choose another file.`;
  const bytes = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  const head = String.fromCharCode(...bytes);
  if (SIGNATURES.some((signature) => signature.test(head))) return "";
  return `${file.name} is not a JPEG, PNG or WebP image. Choose another file.`;
}
// The field of another model is a new one; the files are kept beside them, by the names of their fields.
function hiddenOf(form, name) {
  const found = form.elements[name];
  if (found) return found;
  const made = document.createElement("input");
  made.type = "hidden";
  made.name = name;
  form.querySelector("[data-files]").append(made);
  return made;
}
async function readFile(input) {
  const form = input.form;
  const [file] = input.files;
  const name = input.dataset.fileOf;
  const hidden = hiddenOf(form, `file.${name}`);
  const complain = (words) => {
    input.setCustomValidity(words);
    if (words) input.setAttribute("aria-invalid", "true");
    else input.removeAttribute("aria-invalid");
    hidden.dataset.note = words || (file ? `${file.name}, ${Math.ceil(file.size / 1000)} kB` : "");
    showNotes(form);
  };
  const put = (uri) => {
    hidden.value = uri;
    hiddenOf(form, `has.${name}`).value = uri.slice(0, 40).split(",")[0];
    form.dispatchEvent(new Event("changed", { bubbles: true }));
  };
  complain("");
  put("");
  if (!file) return;
  const limit = Number(input.dataset.largest);
  if (file.size > limit) {
    complain(`This file has ${(file.size / 1e6).toFixed(1)} MB; ${(limit / 1e6).toFixed(1)} MB is the most. Give its https:// address instead.`);
    return;
  }
  try {
    const words = await complaintAbout(file, input.accept);
    const uri = words ? "" : await dataUri(file);
    if (input.files[0] !== file) return; // another one was chosen meanwhile
    if (words) complain(words);
    else put(uri);
  } catch {
    complain("This file cannot be read.");
  }
}
function dataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(file);
  });
}

function showNotes(form) {
  for (const note of form.querySelectorAll("[data-note-of]")) {
    const words = form.elements[`file.${note.dataset.noteOf}`]?.dataset.note;
    if (words === undefined) continue;
    note.textContent = words;
    note.classList.toggle("complaint", form.querySelector(`[data-file-of="${note.dataset.noteOf}"]:invalid`) !== null);
  }
}
document.addEventListener("htmx:afterSettle", (event) => {
  const form = event.target.closest("form");
  if (form) showNotes(form);
});
// A price needs no file, only what kind of file there is.
document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.path !== "/ui/studio/quote") return;
  for (const name of [...event.detail.formData.keys()]) if (name.startsWith("file.")) event.detail.formData.delete(name);
});

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-file-of]")) void readFile(event.target);
});
// A refusal may be about what the price does not show yet, such as a consent.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.xhr.status === 409 && event.target.id === "studio") event.target.dispatchEvent(new Event("changed", { bubbles: true }));
});
document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-live]").forEach(follow);
  showSelected();
});
