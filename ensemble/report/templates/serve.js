"use strict";
const SHOWN = 10;
const TRIES = 4;
const give = document.getElementById("give");
const said = document.getElementById("said");
const wrong = document.getElementById("wrong");
const answers = document.getElementById("answers");
const template = document.getElementById("answer");
let turn = 0;

document.getElementById("host").textContent = location.host;

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function head(text, scope) {
  const made = element("th", text);
  made.scope = scope;
  return made;
}

function percent(share) {
  const value = 100 * share;
  return (value > 99.9 && value < 100 ? ">99.9" : value > 0 && value < 0.1 ? "<0.1" : value.toFixed(1)) + " %";
}

function complain(text) {
  wrong.append(element("p", text));
}

function pause(seconds) {
  return new Promise((done) => setTimeout(done, 1000 * seconds));
}

// a busy service says when to come again
async function post(path, file) {
  for (let tried = 1; ; tried++) {
    const form = new FormData();
    form.append("images", file);
    let response;
    try {
      response = await fetch(path, { method: "POST", body: form });
    } catch (error) {
      throw new Error("the service does not answer; is it still running?");
    }
    if (response.status === 503 && tried < TRIES) {
      await pause(Number(response.headers.get("Retry-After")) || 2);
      continue;
    }
    const found = await response.json().catch(() => ({}));
    if (!response.ok) throw new Error(found.error || "the service answers " + response.status);
    return found;
  }
}

function row(name, share, first) {
  const made = element("tr", undefined, first ? "first" : "");
  const bar = element("span", undefined, "meter");
  const fill = element("span");
  fill.style.width = 100 * share + "%";
  bar.append(fill);
  const cell = element("td");
  cell.setAttribute("aria-hidden", "true");
  cell.append(bar);
  made.append(head(name, "row"), element("td", percent(share)), cell);
  return made;
}

function showShares(card, one) {
  const order = Object.entries(one.probabilities).sort((a, b) => b[1] - a[1]);
  const rows = order.map(([name, share], i) => row(name, share, i === 0));
  const rest = card.querySelector(".rest");
  card.querySelector(".shares tbody").append(...rows.slice(0, SHOWN));
  rest.hidden = rows.length <= SHOWN;
  rest.querySelector("summary").textContent = "The other " + (rows.length - SHOWN) + " classes";
  rest.querySelector("tbody").append(...rows.slice(SHOWN));
}

function showUnsure(card, one) {
  const fill = (name, text) => (card.querySelector("." + name + " .value").textContent = text);
  const empty = "none: those images are mostly surer of their true class than this one is of any";
  fill("set", one.set === null ? "–" : one.set.join(", ") || empty);
  fill("entropy", one.entropy.toFixed(3) + " nats");
  fill("disagreement", one.disagreement === null ? "– (one member)" : one.disagreement.toFixed(3) + " nats");
}

function memberRow(name, one, classes, kind) {
  const made = element("tr", undefined, kind);
  made.append(head(name, "row"), element("td", one.label));
  made.append(...classes.map((name) => element("td", percent(one.probabilities[name]))));
  return made;
}

function showMembers(card, one) {
  const table = card.querySelector(".members");
  const order = Object.entries(one.probabilities).sort((a, b) => b[1] - a[1]).map(([name]) => name);
  const top = element("tr");
  top.append(...["member", "says", ...order].map((name) => head(name, "col")));
  table.tHead.append(top);
  table.tBodies[0].append(
    ...(one.members.length > 1 ? [memberRow("together", one, order, "whole")] : []),
    ...one.members.map((each) => memberRow(each.member, each, order)),
  );
}

async function showMaps(card, file, asked) {
  const place = card.querySelector(".maps");
  const state = card.querySelector(".maps-said");
  const mine = (card.turn = (card.turn || 0) + 1);
  state.textContent = "Drawing …";
  try {
    const found = await post("explain?class=" + encodeURIComponent(asked), file);
    if (mine !== card.turn) return;
    place.replaceChildren(...found.maps.map(mapFigure));
    state.textContent = "Red is what speaks for “" + found.class + "”, blue is what does not.";
  } catch (error) {
    if (mine === card.turn) state.textContent = "Not drawn: " + error.message;
  }
}

function mapFigure(one) {
  const made = element("figure");
  if (one.picture) {
    const image = element("img");
    image.src = one.picture;
    image.alt = "The image as " + one.member + " sees it, under where it looks";
    made.append(image);
  }
  made.append(element("figcaption", one.picture ? one.member : one.member + ": " + one.why));
  return made;
}

function showAsk(card, file, one) {
  const select = card.querySelector("select");
  for (const name of Object.keys(one.probabilities)) select.append(new Option(name, name));
  select.value = one.label;
  select.addEventListener("change", () => showMaps(card, file, select.value));
  return showMaps(card, file, one.label);
}

function show(file, one) {
  const card = template.content.cloneNode(true).querySelector("section");
  const image = card.querySelector(".given");
  image.src = URL.createObjectURL(file);
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  image.addEventListener("error", () => image.remove(), { once: true });
  image.alt = "The image that was given";
  card.querySelector(".name").textContent = file.name;
  card.querySelector(".label").textContent = one.label + " " + percent(one.probability);
  card.setAttribute("aria-label", file.name + ": " + one.label);
  showShares(card, one);
  showUnsure(card, one);
  showMembers(card, one);
  answers.append(card);
  return card;
}

async function answer(file, mine) {
  said.textContent = "Looking at " + file.name + " …";
  if (file.size > Number(give.dataset.bytes)) throw new Error("larger than " + give.dataset.bytes / 1e6 + " MB");
  const found = await post("predict", file);
  if (mine !== turn) return;
  const one = found.predictions[0];
  const card = show(file, one);
  said.textContent = file.name + ": " + one.label + ", " + percent(one.probability);
  if (give.dataset.maps) await showAsk(card, file, one);
}

async function take(files) {
  const mine = ++turn;
  const most = Number(give.dataset.files);
  answers.replaceChildren();
  wrong.replaceChildren();
  said.textContent = "";
  if (files.length > most) complain(files.length + " images are too many; the first " + most + " are looked at.");
  answers.setAttribute("aria-busy", "true");
  for (const file of files.slice(0, most)) {
    try {
      await answer(file, mine);
    } catch (error) {
      if (mine === turn) complain(file.name + ": " + error.message);
      if (mine === turn) said.textContent = "";
    }
    if (mine !== turn) return;
  }
  answers.removeAttribute("aria-busy");
}

for (const id of ["files", "camera"]) {
  const input = document.getElementById(id);
  input.addEventListener("change", () => {
    const files = [...input.files];
    // so that the same file may be chosen again
    input.value = "";
    if (files.length) take(files);
  });
}

document.addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) take(files);
  else complain("Nothing that was pasted is an image.");
});

document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  const files = [...event.dataTransfer.files];
  if (files.length) take(files);
  else complain("Nothing that was dropped is a file.");
});
