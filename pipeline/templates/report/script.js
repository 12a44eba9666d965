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

// The pictures stay where plotly.js cannot start: in an old browser, or without scripts.
async function unpackPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (one) => one.charCodeAt(0));
  const text = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(text).text();
  document.head.append(script);
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const touch = matchMedia("(pointer: coarse)");
const plots = [...document.querySelectorAll(".plot")].map((element) => {
  const data = element.querySelector("script");
  const themes = JSON.parse(data.textContent);
  data.remove();
  return { element, themes };
});

function draw({ element, themes }) {
  const { data, layout } = themes[dark.matches ? "dark" : "light"];
  // A finger that drags over a plot scrolls the page.
  if (touch.matches) layout.dragmode = false;
  element.parentElement.classList.add("drawn");
  return Plotly.react(element, data, layout, {
    responsive: true,
    displaylogo: false,
    // On a phone there is no room for them. Named one by one: none may send data away.
    displayModeBar: touch.matches ? false : "hover",
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  });
}

async function drawAll() {
  for (const plot of plots) {
    await draw(plot);
    await new Promise((resume) => setTimeout(resume)); // the page answers in between
  }
  document.documentElement.dataset.plots = dark.matches ? "dark" : "light";
}

if (plots.length && "DecompressionStream" in window) {
  unpackPlotly().then(drawAll).then(() => dark.addEventListener("change", drawAll));
}
