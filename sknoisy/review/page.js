"use strict";
// The review of labels: what is shown, what was decided, and its export. Rows are known by their
// place on the page, classes by their number.

const page = JSON.parse(document.getElementById("page-data").textContent);
const { classes, rows } = page;
const STORE = `sknoisy-review-${page.id}`;
const COLUMNS = [
  "row", "index", "given", "suggested", "decision", "label",
  "origin", "stratum", "stratum_size", "dataset",
];
const CHOICES = "1234567890abcdefghijklmnopqrstvwxyz"; // without u, which undoes
const FEW_CLASSES = 20; // that are seen at a glance
const SCALE = 8; // pixels on the screen of one of a small image, see also page.css

let labels = new Map(); // of a place: the class that was decided
let past = []; // [place, its class before or null], the newest last
let shown = []; // places that the filters leave
let current = 0;
let isKept = true; // whether the browser stores decisions

const byId = (id) => document.getElementById(id);

function element(name, text, className) {
  const made = document.createElement(name);
  made.textContent = text; // never HTML: what rows hold is anybody's
  if (className) made.className = className;
  return made;
}

function say(text) {
  byId("status").textContent = text;
}

// Decisions: made, taken back, stored.

function decisionOf(row, label) {
  if (label === row.given) return "kept";
  return label === row.suggested ? "accepted" : "corrected";
}

function decide(label) {
  past.push([current, labels.get(current) ?? null]);
  labels.set(current, label);
  const open = nextOpen();
  filter();
  go(open ?? current);
  byId("row").focus({ preventScroll: true }); // the next key is for the next row
  if (labels.size === rows.length) say(`All ${rows.length} labels are reviewed: export them.`);
  else if (open === null) say("All labels of this selection are reviewed.");
}

function undo() {
  if (!past.length) return say("There is nothing to undo.");
  const [place, before] = past.pop();
  if (before === null) labels.delete(place);
  else labels.set(place, before);
  filter();
  go(place);
}

function store() {
  try {
    localStorage.setItem(STORE, JSON.stringify({ labels: [...labels], past, current }));
    isKept = true;
  } catch {
    isKept = false; // storage is full, or forbidden
  }
}

function restore() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORE));
    if (!stored) return;
    labels = new Map(stored.labels);
    past = stored.past;
    current = stored.current;
  } catch {
    isKept = false;
  }
}

// Which row comes next.

function filter() {
  const given = byId("class-filter").value;
  const wanted = byId("decision-filter").value;
  shown = [...rows.keys()].filter((place) => {
    const row = rows[place];
    if (given !== "all" && row.given !== Number(given)) return false;
    if (wanted === "all") return true;
    if (!labels.has(place)) return wanted === "open";
    return wanted === (labels.get(place) === row.given ? "kept" : "changed");
  });
}

function refilter() {
  filter();
  go(shown.includes(current) ? current : (shown[0] ?? current));
  say(`${shown.length} labels are shown.`);
}

function nextOpen() {
  const open = shown.filter((place) => !labels.has(place));
  return open.find((place) => place > current) ?? open[0] ?? null;
}

function move(step) {
  const next =
    step > 0
      ? shown.find((place) => place > current)
      : shown.findLast((place) => place < current);
  if (next === undefined) return say(step > 0 ? "This is the last one." : "This is the first one.");
  go(next);
}

function go(place) {
  current = place;
  store();
  show();
}

// What is seen.

function show() {
  const row = rows[current];
  const position = shown.indexOf(current);
  byId("place").textContent =
    position < 0 ? `Label ${current + 1}` : `Label ${position + 1} of ${shown.length}`;
  byId("facts").textContent = factsOf(row);
  showImage(row);
  showText(row);
  showCells(row);
  showDecision(row);
  showProgress();
  if (byId("row").getBoundingClientRect().top < 0) window.scrollTo(0, 0);
  say(summaryOf(row, labels.get(current)));
}

function summaryOf(row, label) {
  const decision =
    label === undefined ? "not reviewed yet" : `${decisionOf(row, label)}: ${classes[label]}`;
  return `Given ${classes[row.given]}, suggested ${classes[row.suggested]}; ${decision}.`;
}

function factsOf(row) {
  const origin = row.stratum ? `${row.origin}, ${row.stratum}` : row.origin;
  const index = row.index === "" ? "" : `index ${row.index} · `;
  return `${index}row ${row.row} · ${origin} · label quality ${row.quality.toFixed(2)}`;
}

function showImage(row) {
  const image = byId("image");
  image.hidden = !row.image;
  if (!row.image) return;
  image.src = row.image;
  image.alt = `Row ${row.row}`;
  image.onload = () => {
    image.style.width = `${Math.max(image.naturalWidth * SCALE, 200)}px`;
  };
}

function showText(row) {
  const text = byId("text");
  text.hidden = row.text === undefined;
  byId("unfold").hidden = true;
  if (text.hidden) return;
  text.textContent = row.text;
  text.classList.add("folded");
  if (text.scrollHeight > text.clientHeight + 1) {
    byId("unfold").hidden = false;
    byId("unfold").textContent = "Show all";
  } else {
    text.classList.remove("folded");
  }
}

function unfold() {
  const isFolded = byId("text").classList.toggle("folded");
  byId("unfold").textContent = isFolded ? "Show all" : "Show less";
}

function showCells(row) {
  const table = byId("cells");
  table.hidden = !row.cells;
  if (!row.cells) return;
  const lines = page.columns.map((name, k) => {
    const line = document.createElement("tr");
    const head = element("th", name);
    head.scope = "row";
    line.append(head, element("td", row.cells[k]));
    return line;
  });
  table.tBodies[0].replaceChildren(...lines);
}

function showDecision(row) {
  const label = labels.get(current);
  byId("keep").querySelector("b").textContent = classes[row.given];
  byId("accept").querySelector("b").textContent = classes[row.suggested];
  byId("keep").setAttribute("aria-pressed", label === row.given);
  byId("accept").setAttribute("aria-pressed", label === row.suggested);
  const probable = new Map(row.probable);
  for (const button of byId("classes").children) {
    const k = Number(button.value);
    button.setAttribute("aria-pressed", label === k);
    const percent = Math.round(100 * (probable.get(k) ?? 0));
    button.querySelector(".share").textContent = percent ? `${percent} %` : "";
  }
}

function showProgress() {
  const changed = [...labels].filter(([place, label]) => label !== rows[place].given).length;
  byId("progress").value = labels.size;
  const where = isKept ? "" : " · not stored by this browser: export before you leave";
  byId("count").textContent =
    `${labels.size} of ${rows.length} reviewed, ${changed} changed${where}`;
}

// Classes: a button each, and keys for the first of them.

// A class of one character is chosen by it: no key is the name of another class.
function keysOf() {
  const names = classes.map((name) => name.toLowerCase());
  const others = [...CHOICES].filter((key) => !names.includes(key));
  const isKey = (name) =>
    CHOICES.includes(name) && name.length === 1 && names.indexOf(name) === names.lastIndexOf(name);
  return names.map((name) => (isKey(name) ? name : others.shift()));
}

const keys = keysOf();

function addClasses() {
  const counts = new Map();
  for (const row of rows) counts.set(row.given, (counts.get(row.given) ?? 0) + 1);
  byId("class-filter").append(new Option("all", "all"));
  classes.forEach((name, k) => {
    if (counts.has(k)) byId("class-filter").append(new Option(`${name} (${counts.get(k)})`, k));
    const button = document.createElement("button");
    button.type = "button";
    button.value = k;
    if (keys[k]) button.append(element("kbd", keys[k].toUpperCase()));
    button.append(element("span", name, "name"), element("span", "", "share"));
    button.addEventListener("click", () => decide(k));
    byId("classes").append(button);
  });
  byId("finder").hidden = classes.length <= FEW_CLASSES;
}

function find() {
  const wanted = byId("find").value.toLowerCase();
  for (const button of byId("classes").children) {
    button.hidden = !classes[button.value].toLowerCase().includes(wanted);
  }
}

function leaveFinder() {
  byId("find").value = "";
  find();
  byId("find").blur();
}

function chooseFound() {
  const found = [...byId("classes").children].find((button) => !button.hidden);
  if (!found) return say("No class has this in its name.");
  leaveFinder();
  decide(Number(found.value));
}

// Export.

function records() {
  return [...labels.keys()].sort((a, b) => a - b).map((place) => {
    const row = rows[place];
    const label = labels.get(place);
    return {
      row: row.row,
      index: row.index,
      given: classes[row.given],
      suggested: classes[row.suggested],
      decision: decisionOf(row, label),
      label: classes[label],
      origin: row.origin,
      stratum: row.stratum,
      stratum_size: row.stratum_size,
      dataset: page.dataset,
    };
  });
}

function csvField(value) {
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function exportCsv() {
  const lines = [COLUMNS, ...records().map((record) => COLUMNS.map((name) => record[name]))];
  const text = lines.map((line) => line.map(csvField).join(",") + "\r\n").join("");
  download("corrections.csv", "text/csv", "\ufeff" + text); // spreadsheets know UTF-8 by the mark
}

function exportJson() {
  download("corrections.json", "application/json", JSON.stringify(records(), null, 1));
}

function download(name, type, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  say(`${labels.size} decisions are exported to ${name}.`);
}

// Keys and clicks.

function actionOf(key) {
  const row = rows[current];
  const action = {
    Enter: () => decide(row.suggested),
    " ": () => decide(row.given),
    ArrowLeft: () => move(-1),
    ArrowRight: () => move(1),
    u: undo,
    "/": () => byId("finder").hidden || byId("find").focus(),
  }[key.length === 1 ? key.toLowerCase() : key];
  const k = keys.indexOf(key.toLowerCase());
  return action ?? (k >= 0 && k < classes.length ? () => decide(k) : undefined);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target;
  if (target.matches("input, select")) {
    if (target.id === "find" && event.key === "Escape") leaveFinder();
    if (target.id === "find" && event.key === "Enter") chooseFound();
    return;
  }
  if (target.matches("button") && [" ", "Enter"].includes(event.key)) return; // they press it
  const action = actionOf(event.key);
  if (!action || (event.repeat && !event.key.startsWith("Arrow"))) return; // a held key decides once
  event.preventDefault();
  action();
}

function listen() {
  const clicks = {
    keep: () => decide(rows[current].given),
    accept: () => decide(rows[current].suggested),
    previous: () => move(-1),
    next: () => move(1),
    undo,
    unfold,
    "export-csv": exportCsv,
    "export-json": exportJson,
  };
  for (const [id, action] of Object.entries(clicks)) byId(id).addEventListener("click", action);
  byId("class-filter").addEventListener("change", refilter);
  byId("decision-filter").addEventListener("change", refilter);
  byId("find").addEventListener("input", find);
  document.addEventListener("keydown", onKey);
  window.addEventListener("storage", (event) => {
    if (event.key === STORE) start(); // another tab has this page
  });
}

function start() {
  restore();
  filter();
  show();
}

addClasses();
listen();
start();
