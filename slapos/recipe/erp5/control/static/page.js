// SPDX-License-Identifier: GPL-2.0-or-later
// The control page without it works too: it takes the token out of the address, and keeps the overview up to date.
"use strict";

function logIn(form) {
  const token = /^#([0-9a-f]{32})$/.exec(location.hash);
  if (!token) return;
  // First of all: neither the history nor a bookmark is to keep it.
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token[1];
  form.submit();
}

// A part that somebody works in is left alone, and one that says the same is not read out again.
function replaceParts(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const part of fresh.querySelectorAll("[id^=part-]")) {
    const old = document.getElementById(part.id);
    for (const details of part.querySelectorAll("details[id]")) {
      const before = document.getElementById(details.id);
      details.open = Boolean(before && before.open);
    }
    if (!old || old.isEqualNode(part) || old.contains(document.activeElement)) continue;
    old.className = part.className;
    old.replaceChildren(...part.childNodes);
  }
  const state = document.getElementById("part-state");
  const name = state.querySelector("h1").textContent;
  document.title = (state.classList.contains("bad") ? "Needs attention: " : "Well: ") + name;
}

async function refresh(url) {
  const silence = document.getElementById("silence");
  try {
    const answer = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(8000) });
    if (answer.status === 401) return location.reload();
    if (!answer.ok) throw new Error(answer.status);
    replaceParts(await answer.text());
    silence.hidden = true;
  } catch (error) {
    silence.hidden = false;
  }
  setTimeout(refresh, 2000, url);
}

const form = document.getElementById("login");
if (form) {
  logIn(form);
  // Who pastes the link while this form is open stays on the same page.
  addEventListener("hashchange", () => logIn(form));
}
if (document.body.dataset.live) setTimeout(refresh, 2000, document.body.dataset.live);
