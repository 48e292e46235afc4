for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.sort;
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a), y = key(b), dx = parseFloat(x), dy = parseFloat(y);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = isNaN(dx) || isNaN(dy) ? x.localeCompare(y) : dx - dy;
        return up ? order : -order;
      });
      body.append(...rows);
    });
  });
}
