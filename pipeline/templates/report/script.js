for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => key(a).localeCompare(key(b), undefined, { numeric: true });
      const value = (row) => Number(key(row).replace("inf", "Infinity"));
      const numbers = [...body.rows].every((row) => !Number.isNaN(value(row)));
      const rows = [...body.rows].sort(numbers ? (a, b) => value(a) - value(b) || 0 : order);
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}

// The words of a chart's marks, at the pointer, where a finger taps, and with the arrow keys.
// Without scripts a browser shows them as titles.
const note = document.createElement("div");
note.className = "note";
note.setAttribute("role", "status");
document.body.append(note);

function say(mark) {
  document.querySelector(".chart .on")?.classList.remove("on");
  note.textContent = mark?.dataset.words ?? "";
  if (!mark) return;
  mark.classList.add("on");
  const box = mark.getBoundingClientRect();
  const left = box.x + box.width / 2 - note.offsetWidth / 2;
  note.style.left = `${Math.max(4, Math.min(left, document.documentElement.clientWidth - note.offsetWidth - 4))}px`;
  note.style.top = `${box.y > note.offsetHeight + 12 ? box.y - note.offsetHeight - 8 : box.bottom + 8}px`;
}

for (const chart of document.querySelectorAll("svg.chart")) {
  const marks = [...chart.querySelectorAll("title")].map((title) => {
    const mark = title.parentElement;
    mark.dataset.words = title.textContent;
    title.remove();
    return mark;
  });
  if (!marks.length) continue;
  const nearest = ({ clientX, clientY, target }) => {
    if (target.dataset.words) return target;
    const far = marks.map((mark) => {
      const box = mark.getBoundingClientRect();
      return Math.hypot(box.x + box.width / 2 - clientX, box.y + box.height / 2 - clientY);
    });
    const least = Math.min(...far);
    return least < 24 ? marks[far.indexOf(least)] : undefined;
  };
  let place = -1;
  chart.tabIndex = 0;
  chart.addEventListener("pointermove", (event) => say(nearest(event)));
  chart.addEventListener("pointerdown", (event) => say(nearest(event)));
  chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && say());
  chart.addEventListener("blur", () => say());
  chart.addEventListener("keydown", ({ key }) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
    if (step) say(marks[(place = (place + step + marks.length) % marks.length)]);
    if (key === "Escape") say();
  });
}
addEventListener("scroll", () => say(), { passive: true });

// A link opens the part that it leads to.
function open_part() {
  const part = location.hash && document.getElementById(location.hash.slice(1))?.querySelector("details");
  if (part) part.open = true;
}
addEventListener("hashchange", open_part);
open_part();
