// Live parts, and images as files. No state is kept here.
"use strict";

// An element with data-live="address" has parts, by id, that the server sends again when they have changed.
function follow(element) {
  let source = null;
  let ended = false;
  let seen = element.dataset.seen;
  const open = () => {
    if (source || ended) return;
    const address = element.dataset.live;
    source = new EventSource(address + (address.includes("?") ? "&" : "?") + "seen=" + encodeURIComponent(seen));
    source.addEventListener("parts", (event) => {
      seen = event.lastEventId;
      for (const [id, html] of Object.entries(JSON.parse(event.data))) replace(id, html);
    });
    source.addEventListener("end", () => { ended = true; close(); });
    // A browser gives up when it is refused once, as while the database is away.
    source.addEventListener("error", () => {
      if (source?.readyState !== EventSource.CLOSED) return;
      close();
      setTimeout(() => document.hidden || open(), 5000);
    });
  };
  const close = () => {
    source?.close();
    source = null;
  };
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  window.addEventListener("pageshow", open);
  if (!document.hidden) open();
}

// You can finish what you are doing: the focus stays, and a form that was touched is left alone.
function replace(id, html) {
  const part = document.getElementById(id);
  if (!part) return;
  const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
  const opened = [...part.querySelectorAll("details")].map((one) => one.open);
  part.innerHTML = html;
  part.querySelectorAll("details").forEach((one, number) => { one.open = opened[number] ?? false; });
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  htmx.process(part);
}

// An image from the disk goes into the form as a data URI.
function readImage(input) {
  const form = input.form;
  const [file] = input.files;
  const hidden = form.elements.image_data;
  const complain = (words) => {
    input.setCustomValidity(words);
    form.dataset.note = words || (file ? `${file.name}, ${Math.ceil(file.size / 1000)} kB` : "");
    showNote(form);
  };
  hidden.value = "";
  complain("");
  if (!file) return tellChange(form);
  const limit = Number(input.dataset.largest);
  if (file.size > limit) return complain(`This file has ${(file.size / 1e6).toFixed(1)} MB; ${(limit / 1e6).toFixed(1)} MB is the most. Give its https:// address instead.`);
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    hidden.value = reader.result;
    tellChange(form);
  });
  reader.addEventListener("error", () => complain("This file cannot be read."));
  reader.readAsDataURL(file);
}

// The field of another model is a new one; the file is kept beside it.
function showNote(form) {
  const note = form.querySelector("#image-note");
  if (note && form.dataset.note !== undefined) note.textContent = form.dataset.note;
}
document.addEventListener("htmx:afterSettle", (event) => {
  const form = event.target.closest("form");
  if (form) showNote(form);
});

function tellChange(form) {
  form.elements.image_has_file.value = form.elements.image_data.value ? form.elements.image_data.value.slice(0, 40).split(",")[0] : "";
  form.dispatchEvent(new Event("changed", { bubbles: true }));
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-image-file]")) readImage(event.target);
});
document.addEventListener("DOMContentLoaded", () => document.querySelectorAll("[data-live]").forEach(follow));
