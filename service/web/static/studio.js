// Files in the studio's form: as data URIs, and what is too large for one by way of Runway's own storage.
"use strict";

// What an image is, its first bytes say, and not its name.
const SIGNATURES = [/^\xff\xd8\xff/, /^\x89PNG\r\n\x1a\n/, /^RIFF[^]{4}WEBP/];
const LONGEST_NAME = 255; // of Runway's, which reads the type from the ending
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

async function complaintAbout(file, { accept, dataset }) {
  if (file.size > Number(dataset.most)) {
    return `This file has ${megabytes(file.size)}; ${megabytes(Number(dataset.most))} is the most. Give its https:// address instead.`;
  }
  if (accept.split(",").some((kind) => kind.endsWith("/*") && file.type.startsWith(kind.slice(0, -1)))) return "";
  if (!accept.includes("image/")) return `${file.name} is not a file of this kind. Choose another file.`;
  const bytes = new Uint8Array(await file.slice(0, 12).arrayBuffer());
  const head = String.fromCharCode(...bytes);
  if (SIGNATURES.some((signature) => signature.test(head))) return "";
  return `${file.name} is not a JPEG, PNG or WebP image. Choose another file.`;
}

// The field of another model is a new one; the files and their notes are kept beside them, by the names of their fields.
function hiddenOf(form, name) {
  const found = form.elements[name];
  if (found) return found;
  const made = document.createElement("input");
  made.type = "hidden";
  made.name = name;
  form.querySelector("[data-files]").append(made);
  return made;
}
function say(form, name, words) {
  hiddenOf(form, `file.${name}`).dataset.note = words;
  showNotes(form);
}
function complain(input, words) {
  input.setCustomValidity(words);
  if (words) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
  say(document.getElementById("studio"), input.dataset.fileOf, words); // the input may be one that has gone
}
// `kind`: a beginning of a data URI. A price needs no file, only what kind of file there is.
function put(form, name, uri, kind) {
  hiddenOf(form, `file.${name}`).value = uri;
  hiddenOf(form, `has.${name}`).value = kind;
  form.dispatchEvent(new Event("changed", { bubbles: true }));
}
// What was uploaded stands in the field as its address.
function giveAddress(form, name, uri) {
  hiddenOf(form, `file.${name}`).dataset.uploaded = uri;
  if (form.elements[name]) form.elements[name].value = uri;
}
function takeAddress(form, name) {
  const { dataset } = hiddenOf(form, `file.${name}`);
  if (dataset.uploaded && form.elements[name]?.value === dataset.uploaded) form.elements[name].value = "";
  delete dataset.uploaded;
}

// What is being sent to Runway, by the names of the fields. Meanwhile the form cannot be sent.
const sending = new Map();
function showSending() {
  const button = document.getElementById("make");
  if (!button || "sending" in button.dataset === sending.size > 0) return; // htmx disables it as well, while it sends
  button.disabled = sending.size > 0;
  button.toggleAttribute("data-sending", sending.size > 0);
}
function stop(name) {
  sending.get(name)?.abort();
  sending.delete(name);
  showSending();
}

async function readFile(input) {
  const { form } = input;
  const [file] = input.files;
  const name = input.dataset.fileOf;
  const isChosen = () => input.files[0] === file; // and not another one meanwhile
  stop(name);
  complain(input, "");
  takeAddress(form, name);
  put(form, name, "", "");
  if (!file) return;
  say(form, name, `${file.name}, ${Math.ceil(file.size / 1000)} kB`);
  try {
    const words = await complaintAbout(file, input);
    const isLarge = file.size > Number(input.dataset.largest);
    const uri = words || isLarge ? "" : await dataUri(file);
    if (!isChosen()) return;
    if (words) complain(input, words);
    else if (isLarge) await upload(input, file);
    else put(form, name, uri, uri.slice(0, 40).split(",")[0]);
  } catch {
    if (isChosen()) complain(input, "This file cannot be read.");
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

async function upload(input, file) {
  const { form } = input;
  const name = input.dataset.fileOf;
  const stopping = new AbortController();
  sending.set(name, stopping);
  showSending();
  input.setCustomValidity(`${file.name} is still on its way to Runway.`);
  put(form, name, "", `data:${file.type}`);
  try {
    say(form, name, `Asking Runway for a place for ${file.name} …`);
    const place = await placeFor(file, stopping.signal);
    say(form, name, `Sending ${file.name} (${megabytes(file.size)}) to Runway's storage …`);
    await send(file, place, stopping.signal);
    input.setCustomValidity("");
    giveAddress(form, name, place.uri);
    const until = new Date(place.expires_at).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    say(form, name, `${file.name} was sent to Runway. The address above stands for it until ${until}.`);
  } catch (error) {
    if (stopping.signal.aborted) return;
    input.value = ""; // so that the same file can be chosen again
    complain(input, error.message);
  } finally {
    if (sending.get(name) === stopping) {
      stop(name);
      put(form, name, "", "");
    }
  }
}
async function placeFor(file, signal) {
  const headers = { ...JSON.parse(document.body.getAttribute("hx-headers")), "HX-Request": "true" };
  const body = new URLSearchParams({ filename: file.name.slice(-LONGEST_NAME) });
  const answer = await fetch("/ui/studio/upload", { method: "POST", headers, body, signal }).catch(() => {
    throw new Error("Taxiway does not answer. Choose the file again in a moment.");
  });
  if (answer.ok) return answer.json();
  const html = await answer.text();
  const notice = new DOMParser().parseFromString(html, "text/html").querySelector(".notice");
  if (notice && (answer.status === 401 || "csrf" in notice.dataset)) {
    showNotice(html);
    throw new Error("Your session had ended, so nothing was sent. Log in again, then choose the file again.");
  }
  throw new Error(notice?.textContent.trim() ?? `Taxiway answers ${answer.status}. Choose the file again in a moment.`);
}
// Whether Runway's storage lets other sites read its answers is not known, so none is read. What it refused, Runway
// refuses when the video is sent, which costs nothing.
async function send(file, place, signal) {
  const body = new FormData();
  for (const [name, value] of Object.entries(place.fields)) body.append(name, value);
  body.append("file", file, file.name);
  await fetch(place.upload_url, { method: "POST", mode: "no-cors", credentials: "omit", body, signal }).catch(() => {
    throw new Error(`${file.name} did not reach Runway's storage. Choose it again, or give its https:// address.`);
  });
}

function showNotes(form) {
  for (const note of form.querySelectorAll("[data-note-of]")) {
    const kept = form.elements[`file.${note.dataset.noteOf}`]?.dataset;
    if (kept?.note === undefined) continue;
    const field = form.elements[note.dataset.noteOf];
    if (kept.uploaded && !field.value) field.value = kept.uploaded; // the field is a new one
    if (note.textContent !== kept.note) note.textContent = kept.note;
    note.classList.toggle("complaint", form.querySelector(`[data-file-of="${note.dataset.noteOf}"][aria-invalid]`) !== null);
  }
}
document.addEventListener("htmx:afterSettle", (event) => {
  const form = event.target.closest("form");
  if (form) showNotes(form);
});
document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.path !== "/ui/studio/quote") return;
  for (const name of [...event.detail.formData.keys()]) if (name.startsWith("file.")) event.detail.formData.delete(name);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-file-of]")) void readFile(event.target);
});
// An address that is typed takes the place of a file that was sent to Runway, is being sent, or could not be.
document.addEventListener("input", (event) => {
  const { form, name } = event.target;
  const input = name && form?.querySelector(`[data-file-of="${CSS.escape(name)}"]`);
  const { uploaded } = (input && form.elements[`file.${name}`]?.dataset) ?? {};
  if (!input || !(uploaded || sending.has(name) || input.matches("[aria-invalid]"))) return;
  takeAddress(form, name);
  stop(name);
  input.value = "";
  complain(input, "");
  put(form, name, "", "");
});
// A refusal may be about what the price does not show yet, such as a consent.
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.xhr.status === 409 && event.target.id === "studio") event.target.dispatchEvent(new Event("changed", { bubbles: true }));
});
