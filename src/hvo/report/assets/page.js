'use strict';
// Tables sort by their headings and filter by words; a map of the vmemmap says what is in a chosen part. Nothing is fetched.
const LEAST = 6; // rows; fewer need no filter
const make = (name, properties, ...children) => {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
};

function enhance(table) {
  const body = table.tBodies[0], rows = [...body.rows], heads = [...table.tHead.rows[0].cells];
  const words = rows.map(row => row.textContent.toLowerCase());
  const numbers = column => rows.every(row => row.cells[column].dataset.key !== undefined || row.cells[column].textContent === '');
  const key = (row, column, numeric) => {
    const cell = row.cells[column], number = cell.dataset.key;
    return numeric ? (number === undefined ? -Infinity : +number) : cell.textContent;
  };
  const sort = column => {
    const numeric = numbers(column), before = heads[column].getAttribute('aria-sort');
    const first = numeric ? 'descending' : 'ascending', other = numeric ? 'ascending' : 'descending';
    const order = before === first ? other : first, sign = order === 'ascending' ? 1 : -1;
    const compare = numeric ? (a, b) => a - b || 0 : new Intl.Collator('en', {numeric: true}).compare;
    const keyed = rows.map((row, at) => [key(row, column, numeric), at, row]);
    keyed.sort((a, b) => sign * compare(a[0], b[0]) || a[1] - b[1]);
    heads.forEach(head => head.removeAttribute('aria-sort'));
    heads[column].setAttribute('aria-sort', order);
    body.append(...keyed.map(entry => entry[2]));
  };
  if (rows.length > 1) {
    heads.forEach((head, column) => {
      if (!head.textContent) return;
      const button = make('button', {type: 'button', textContent: head.textContent});
      button.addEventListener('click', () => sort(column));
      head.replaceChildren(button);
    });
  }
  const shown = make('output'), input = make('input', {type: 'search', autocomplete: 'off'});
  let within = null;
  const filter = () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    rows.forEach((row, at) => {
      const place = within && row.cells[2].dataset.key;
      row.hidden = !wanted.every(word => words[at].includes(word)) || Boolean(within && (+place < within[0] || +place >= within[1]));
      count += !row.hidden;
    });
    shown.textContent = count === rows.length ? `${count} rows` : `${count} of ${rows.length}`;
    return count;
  };
  input.addEventListener('input', filter);
  if (rows.length >= LEAST) {
    const box = make('div', {className: 'filter'}, make('label', {}, 'Filter ', input), shown);
    table.parentElement.before(box);
    filter();
  }
  return {limit: range => { within = range; return filter(); }};
}

const tables = new Map([...document.querySelectorAll('table.data')].map(table => [table, enhance(table)]));

let parsed = null;
const results = () => parsed ??= JSON.parse(document.getElementById('results').textContent);
const hex = number => '0x' + number.toString(16);
const NAMES = {outside: 'outside HugeTLB pages', own: 'frames of their own', shared: 'shared', findings: 'findings', unmapped: 'not mapped'};

function explore(map) {
  const section = map.closest('section'), about = section.querySelector('.about'), help = [...about.childNodes];
  const cells = [...map.querySelectorAll('i')], page = +map.dataset.page, places = tables.get(section.querySelector('table[data-places]'));
  let chosen = -1;
  const describe = at => {
    const data = results()[+section.dataset.result].cells, start = data.start[at], end = start + data.frames;
    const shares = Object.keys(NAMES).filter(name => data[name][at] > 0).map(name => `${+(data[name][at] * 100).toPrecision(3)} % ${NAMES[name]}`);
    const found = places ? places.limit([start, end]) : 0;
    const list = places ? `, ${found} in the list of findings, which shows only these` : '';
    about.replaceChildren(make('p', {}, `Frames ${hex(start)} to ${hex(end - 1)}, physical address ${hex(start * page)}: ${shares.join(', ')}${list}`));
  };
  const choose = at => {
    cells[chosen]?.classList.remove('chosen');
    chosen = at === chosen ? -1 : at;
    if (chosen < 0) {
      about.replaceChildren(...help);
      places?.limit(null);
      return;
    }
    cells[chosen].classList.add('chosen');
    describe(chosen);
  };
  map.addEventListener('click', event => { if (event.target.localName === 'i') choose(cells.indexOf(event.target)); });
  map.addEventListener('keydown', event => {
    const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: 64, ArrowUp: -64}[event.key];
    if (event.key === 'Escape' && chosen >= 0) choose(chosen);
    if (step === undefined) return;
    event.preventDefault();
    const next = chosen < 0 ? 0 : Math.min(Math.max(chosen + step, 0), cells.length - 1);
    if (next !== chosen) choose(next);
  });
}
document.querySelectorAll('.map').forEach(explore);

// A link to something folded away opens it; print shows all of it, and folds it again.
const openTarget = () => {
  const target = location.hash && document.getElementById(location.hash.slice(1));
  if (target?.localName === 'details') target.open = true;
};
addEventListener('hashchange', openTarget);
openTarget();
let folded = [];
addEventListener('beforeprint', () => {
  folded = [...document.querySelectorAll('details:not([open])')];
  folded.forEach(details => { details.open = true; });
});
addEventListener('afterprint', () => folded.forEach(details => { details.open = false; }));
