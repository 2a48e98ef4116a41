"use strict";
// Sorts, filters and shows where values come from. It adds to a page that is whole without it, and
// writes text only: nothing that a record says is ever read as markup.
(() => {
  const NUMBER = /^[+\-\u2212]?\d[\d,]*(\.\d+)?/;
  const EMPTY = new Set(["", "-", "\u2014"]);
  const MAX_SOURCES = 20;
  const find = (selector, root = document) => [...root.querySelectorAll(selector)];
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };
  const textOf = (cell) => cell.textContent.trim();

  // ---- tables: rows of each block in the order of the paper, and the heading over each column
  const tables = find("main table").map((table) => {
    const heads = []; // [row of headings][column]
    [...table.tHead.rows].forEach((row, y) => {
      heads[y] ??= [];
      for (const head of row.cells) {
        let x = 0;
        while (heads[y][x]) x += 1;
        for (let dy = 0; dy < head.rowSpan; dy += 1)
          for (let dx = 0; dx < head.colSpan; dx += 1) (heads[y + dy] ??= [])[x + dx] = head;
      }
    });
    const blocks = [...table.tBodies].map((body) => {
      const title = find("tr.block", body)[0];
      return { body, title, rows: [...body.rows].filter((row) => row !== title) };
    });
    return { table, heads, blocks, part: table.closest("section") };
  });

  // ---- sort: within blocks; numbers largest first, empty cells last, a third click undoes it
  const STATES = [null, "descending", "ascending"]; // of numbers; words begin at A
  const words = new Intl.Collator("en", { numeric: true });
  const numberOf = (text) =>
    Number(NUMBER.exec(text)[0].replace("\u2212", "-").replaceAll(",", ""));

  function sort({ heads, blocks }, head, column) {
    const textIn = (row) => row.cells[column].dataset.sort ?? textOf(row.cells[column]);
    const texts = new Map(blocks.flatMap(({ rows }) => rows.map((row) => [row, textIn(row)])));
    const filled = [...texts].filter(([, text]) => !EMPTY.has(text));
    const numeric = filled.every(([, text]) => NUMBER.test(text));
    const keys = new Map(numeric ? filled.map(([row, text]) => [row, numberOf(text)]) : filled);
    const place = STATES.indexOf(head.getAttribute("aria-sort"));
    const state = STATES[(place + (numeric ? 1 : 2)) % 3];
    for (const other of heads.at(-1)) other.removeAttribute("aria-sort");
    if (state) head.setAttribute("aria-sort", state);
    const sign = state === "ascending" ? 1 : -1;
    const compare = (a, b) => {
      if (!keys.has(a) || !keys.has(b)) return keys.has(b) - keys.has(a);
      const [one, two] = [keys.get(a), keys.get(b)];
      return sign * (numeric ? one - two : words.compare(one, two));
    };
    for (const { body, rows } of blocks)
      body.append(...(state ? [...rows].sort(compare) : rows));
  }

  for (const entry of tables)
    entry.heads.at(-1).forEach((head, column) => {
      const button = make("button", { type: "button" }, ...head.childNodes);
      button.addEventListener("click", () => sort(entry, head, column));
      head.append(button);
    });

  // ---- filter: rows that have every word, in themselves or in the title of their block
  const filter = document.getElementById("filter");
  const matches = document.getElementById("matches");
  const texts = new Map();
  const wordsOf = (block, row) => {
    if (!texts.has(row)) {
      const cells = [...row.cells, ...(block.title ? block.title.cells : [])];
      texts.set(row, cells.map(textOf).join(" ").toLowerCase());
    }
    return texts.get(row);
  };

  function applyFilter() {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    let all = 0;
    for (const { blocks, part } of tables) {
      let here = 0;
      for (const block of blocks) {
        let inBlock = 0;
        for (const row of block.rows) {
          const text = words.length ? wordsOf(block, row) : "";
          row.hidden = !words.every((word) => text.includes(word));
          inBlock += !row.hidden;
        }
        if (block.title) block.title.hidden = !inBlock;
        here += inBlock;
        all += block.rows.length;
      }
      part.hidden = !here;
      shown += here;
    }
    matches.value = words.length ? `${shown} of ${all} rows` : "";
  }
  filter.addEventListener("input", applyFilter);

  // ---- provenance: on hover and on focus while it lasts, on a click until it is closed
  const box = make("aside", { id: "provenance", hidden: true, tabIndex: -1 });
  box.setAttribute("role", "dialog");
  box.setAttribute("aria-label", "Where this value comes from");
  document.body.append(box);
  const LINK = "td[data-sources] a";
  let shownCell = null;
  let pinned = false;
  let timer = 0;

  function nameOf(cell) {
    const { heads } = tables.find(({ table }) => table.contains(cell));
    const row = find("th, td.name", cell.parentElement).map(textOf);
    const column = new Set(heads.map((line) => line[cell.cellIndex]).map(textOf));
    return [row, [...column]].map((words) => words.filter(Boolean).join(" ")).join(" \u2013 ");
  }

  function fill(cell) {
    const sources = cell.dataset.sources.split(" ");
    const close = make("button", { type: "button", className: "close", ariaLabel: "Close" }, "\u00d7");
    close.addEventListener("click", hide);
    box.replaceChildren(make("h4", {}, `${nameOf(cell)}: ${textOf(cell)}`), close);
    sources.slice(0, MAX_SOURCES).forEach((id, place) => {
      const source = document.getElementById(id);
      const link = make("a", { href: `#${id}` }, textOf(find("summary", source)[0]));
      const count = sources.length > 1 ? `${place + 1} of ${sources.length}: ` : "";
      box.append(make("p", {}, count, link), find("dl", source)[0].cloneNode(true));
    });
    const more = sources.length - MAX_SOURCES;
    if (more > 0) box.append(make("p", {}, `and ${more} more runs; What ran has them all`));
  }

  function show(cell, pin) {
    clearTimeout(timer);
    pinned = pin;
    if (cell !== shownCell) {
      shownCell?.classList.remove("shown");
      cell.classList.add("shown");
      shownCell = cell;
      fill(cell);
    }
    box.hidden = false;
    box.classList.toggle("pinned", pinned);
    const at = cell.getBoundingClientRect();
    const below = at.bottom + 4 + box.offsetHeight < innerHeight || at.top < box.offsetHeight;
    const top = below ? at.bottom + 4 : at.top - 4 - box.offsetHeight;
    const width = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(at.left, width - box.offsetWidth - 8));
    box.style.setProperty("--left", `${left + scrollX}px`);
    box.style.setProperty("--top", `${top + scrollY}px`);
    box.scrollTop = 0;
    const covered = at.bottom + 8 + box.offsetHeight - innerHeight; // by the sheet of a phone
    if (pinned && covered > 0 && getComputedStyle(box).position === "fixed") scrollBy(0, covered);
  }

  function hide() {
    clearTimeout(timer);
    shownCell?.classList.remove("shown");
    shownCell = null;
    pinned = false;
    box.hidden = true;
  }
  const later = (work, milliseconds) => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };

  for (const cell of find("td[data-sources]")) cell.removeAttribute("title"); // the box says it
  document.addEventListener("pointerover", ({ target, pointerType }) => {
    if (pinned || pointerType !== "mouse") return;
    const cell = target.closest("td[data-sources]");
    if (cell) later(() => show(cell, false), 120);
    else if (box.contains(target)) clearTimeout(timer);
    else if (shownCell) later(hide, 250);
  });
  document.addEventListener("focusin", ({ target }) => {
    if (target.matches(LINK) && target.matches(":focus-visible") && !pinned)
      show(target.closest("td"), false);
    else if (!pinned && !box.contains(target)) hide();
  });
  document.addEventListener("click", (event) => {
    const cell = event.target.closest("td[data-sources]");
    if (cell) {
      event.preventDefault();
      const again = pinned && cell === shownCell;
      if (again) hide();
      else show(cell, true);
      if (!again && event.detail === 0) box.focus(); // from the keyboard
    } else if (!box.contains(event.target)) hide();
  });
  document.addEventListener("keydown", ({ key }) => {
    if (key !== "Escape" || box.hidden) return;
    const link = find("a", shownCell)[0];
    const inside = box.contains(document.activeElement);
    hide();
    if (inside) link?.focus();
    hide(); // the focus has shown it again
  });

  // ---- links within the page: what they lead to is opened, and not left hidden by the filter
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    hide();
    if (target.closest("[hidden]")) {
      filter.value = "";
      applyFilter();
    }
    const source = target.matches("tr") ? find("details", target)[0] : target;
    if (source.matches("details.source")) source.open = true;
    target.scrollIntoView();
  }
  addEventListener("hashchange", reveal);

  document.getElementById("bar").hidden = false;
  for (const text of find(".scripted")) text.hidden = false;
  if (matchMedia("(max-width: 46rem)").matches) find(".contents")[0].open = false;
  reveal();
})();
