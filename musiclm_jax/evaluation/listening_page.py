# SPDX-License-Identifier: Apache-2.0
"""The page of a listening test: one file, audio inside, votes by download.

The script has two halves. The first holds the votes and knows no page, so that it
runs in any JavaScript engine; the second shows them. Votes are -2 to 2, from the
first clip much better to the second much better.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

VOTING = """
const CHOICES = [-2, -1, 0, 1, 2];

function newSession(page, count) {
  return {page, count, place: 0, votes: {}, heard: [false, false]};
}

function isOver(session) { return session.place >= session.count; }

function hear(session, side) { session.heard[side] = true; }

// Both clips must have been played; a vote leads on to the next pair.
function vote(session, preference) {
  if (isOver(session) || !CHOICES.includes(preference)) return false;
  if (!session.heard.every(Boolean)) return false;
  session.votes[session.place] = preference;
  go(session, session.place + 1);
  return true;
}

function go(session, place) {
  session.place = Math.max(0, Math.min(place, session.count));
  session.heard = [false, false];
}

function result(session) {
  const votes = Object.entries(session.votes).map(
    ([pair, preference]) => ({pair: Number(pair), preference}));
  return {page: session.page, votes};
}
"""

_SHOWING = """
const DATA = JSON.parse(document.getElementById('data').textContent);
const session = newSession(DATA.page, DATA.pairs.length);
const find = (id) => document.getElementById(id);
const players = [find('clip0'), find('clip1')];
const buttons = [...document.querySelectorAll('#choices button')];

function show() {
  const over = isOver(session);
  find('trial').hidden = over;
  find('over').hidden = !over;
  find('progress').max = session.count;
  find('progress').value = Object.keys(session.votes).length;
  find('count').textContent =
    `${Math.min(session.place + 1, session.count)} of ${session.count}`;
  players.forEach((player) => player.pause());
  if (!over) {
    const pair = DATA.pairs[session.place];
    find('prompt').textContent = pair.prompt;
    players.forEach((player, side) => { player.src = pair.clips[side]; });
  }
  enable();
}

function enable() {
  buttons.forEach((button, n) => {
    button.disabled = !session.heard.every(Boolean);
    button.setAttribute(
      'aria-pressed', session.votes[session.place] === CHOICES[n]);
  });
}

function choose(preference) { if (vote(session, preference)) show(); }

function play(side) {
  players[1 - side].pause();
  players[side].currentTime = 0;
  players[side].play();
}

function save() {
  const text = JSON.stringify(result(session), null, 2);
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], {type: 'application/json'}));
  link.download = `votes_${session.page}.json`;
  link.click();
}

players.forEach((player, side) => player.addEventListener('play', () => {
  players[1 - side].pause();
  hear(session, side);
  enable();
}));
buttons.forEach((button, n) =>
  button.addEventListener('click', () => choose(CHOICES[n])));
find('back').addEventListener('click', () => { go(session, session.place - 1);
  show(); });
find('save').addEventListener('click', save);
document.addEventListener('keydown', (event) => {
  const keys = {ArrowLeft: () => play(0), ArrowRight: () => play(1),
    Backspace: () => find('back').click(), s: save};
  CHOICES.forEach((preference, n) => {
    keys[String(n + 1)] = () => choose(preference); });
  if (event.key in keys && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    keys[event.key]();
  }
});
show();
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Which clip fits the text?</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 44rem;
  margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
blockquote { font-size: 1.3rem; margin: 1.5rem 0; min-height: 3em; }
audio, progress { width: 100%; }
#choices { display: flex; gap: .4rem; margin: 1.5rem 0; }
#choices button { flex: 1; padding: .8rem .2rem; font-size: .95rem; }
[aria-pressed=true] { outline: 3px solid #36c; }
</style>
</head>
<body>
<h1>Which clip fits the text better?</h1>
<p>Listen to both, then choose. Judge how well the music fits the text, not how
good it sounds. Keys: ← and → play the first and the second clip, 1 to 5 choose,
Backspace goes back, s saves.</p>
<progress id="progress" value="0"></progress> <span id="count"></span>
<main id="trial">
<blockquote id="prompt"></blockquote>
<p>First <audio id="clip0" controls></audio></p>
<p>Second <audio id="clip1" controls></audio></p>
<div id="choices">
<button>1<br>First, clearly</button>
<button>2<br>First, slightly</button>
<button>3<br>No difference</button>
<button>4<br>Second, slightly</button>
<button>5<br>Second, clearly</button>
</div>
</main>
<p id="over" hidden>That was the last pair. Save your votes and send the file.</p>
<button id="back">Back</button> <button id="save">Save votes</button>
<script type="application/json" id="data">@DATA@</script>
<script>@SCRIPT@</script>
</body>
</html>
"""


def render(*, page: str, pairs: Sequence[Mapping[str, Any]]) -> str:
  """The page as HTML.

  Args:
    page: What its votes are marked by.
    pairs: A `prompt` and the data URLs of two `clips`, in the order they come.
  """
  # A prompt must not be able to end the element that it stands in.
  data = json.dumps({'page': page, 'pairs': list(pairs)}).replace(
    '<', '\\u003c'
  )
  return _PAGE.replace('@SCRIPT@', VOTING + _SHOWING).replace('@DATA@', data)
