'use strict';
// Every run is in the page, step by step; this shows one of them, marks a step, and says what each entry holds there.
const data = JSON.parse(document.getElementById('runs').textContent);
const articles = [...document.querySelectorAll('article[data-run]')];
const chooser = document.getElementById('chooser');
const at = articles.map(article => steps(article).findIndex(row => row.classList.contains('offending')));
let shown = 0;

function steps(article) { return [...article.querySelectorAll('tr[data-step]:not(.end)')]; }
function count(number) { return data.runs[number].steps.length; }
function say(entry) { return entry === undefined ? '' : data.strings[entry]; }

// What every entry says at a step, and which of them that step changed.
function entries(number, step) {
  const run = data.runs[number], lines = run.names.map(name => ({name, entry: undefined, kept: [], changed: false}));
  for (let i = 0; i <= step; i++) {
    for (const [line, entry, kept] of run.steps[i]) Object.assign(lines[line], {entry, kept, changed: i === step && i > 0});
  }
  return lines;
}

function cell(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function row(line) {
  const made = document.createElement('tr');
  made.className = line.changed ? 'changed' : '';
  const name = cell('th', line.name);
  name.scope = 'row';
  made.append(name, cell('td', say(line.entry)), cell('td', line.kept.map(say).join('; ')));
  return made;
}

function show(number, step) {
  const article = articles[number], rows = steps(article);
  at[number] = Math.max(0, Math.min(step, count(number) - 1));
  rows.forEach((each, i) => {
    each.classList.toggle('now', i === at[number]);
    each.classList.toggle('later', i > at[number]);
    if (i === at[number]) each.setAttribute('aria-current', 'step'); else each.removeAttribute('aria-current');
  });
  const head = document.createElement('tr');
  head.append(cell('th', 'entry'), cell('th', 'says'), cell('th', 'TLBs may keep'));
  article.querySelector('.entries tbody').replaceChildren(head, ...entries(number, at[number]).map(row));
  article.querySelector('.where').textContent = 'step ' + at[number] + ' of ' + (count(number) - 1);
  article.querySelector('[data-go=first]').disabled = article.querySelector('[data-go=back]').disabled = at[number] === 0;
  article.querySelector('[data-go=last]').disabled = article.querySelector('[data-go=on]').disabled = at[number] === count(number) - 1;
  const lanes = article.querySelector('.lanes'), now = rows[at[number]];
  lanes.scrollTop = now.offsetTop - lanes.clientHeight / 2;
}

function go(where) {
  const step = {first: 0, back: at[shown] - 1, on: at[shown] + 1, last: count(shown) - 1}[where];
  show(shown, step);
}

function choose(number) {
  shown = number;
  articles.forEach((article, i) => { article.hidden = i !== number; });
  chooser.value = String(number);
  show(number, at[number] < 0 ? count(number) - 1 : at[number]);
}

function follow() {
  const found = /^#run-(\d+)$/.exec(location.hash);
  if (found && articles[+found[1]]) { choose(+found[1]); articles[shown].scrollIntoView(); }
}

const KEYS = {ArrowLeft: 'back', ArrowRight: 'on', Home: 'first', End: 'last'};
if (articles.length) {
  document.addEventListener('keydown', event => {
    if (!KEYS[event.key] || event.target.tagName === 'SELECT' || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    go(KEYS[event.key]);
  });
  articles.forEach((article, number) => {
    article.querySelectorAll('[data-go]').forEach(button => button.addEventListener('click', () => go(button.dataset.go)));
    steps(article).forEach((each, step) => each.addEventListener('click', () => show(number, step)));
  });
  chooser.addEventListener('change', () => choose(+chooser.value));
  addEventListener('hashchange', follow);
  articles.forEach((_, number) => show(number, at[number] < 0 ? count(number) - 1 : at[number]));
  choose(0);
  follow();
}
