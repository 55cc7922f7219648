// The pieces of a plot: its frame and axes, lines, ellipses, marks that can be reached, names beside them.
const CHART = { ratio: 0.72, least: 300, most: 430, left: 52, right: 14, top: 12, bottom: 42 };
const LETTER = 6.6; // pixels of a letter of a name, or a little more

const span = (values, room, least) => {
  let low = Math.min(...values),
    high = Math.max(...values);
  const missing = Math.max(least - (high - low), 0) / 2;
  low -= missing;
  high += missing;
  return [low - room * (high - low), high + room * (high - low)];
};
const grid = ({ svg, x, y }, [left, right], [low, high], [across, down]) => {
  for (const [at, words] of steps(left, right, across)) {
    draw(svg, "line", { class: "grid", x1: x(at), x2: x(at), y1: y(low), y2: y(high) });
    draw(svg, "text", { x: x(at), y: y(low) + 18, "text-anchor": "middle" }, words);
  }
  for (const [at, words] of steps(low, high, down)) {
    draw(svg, "line", { class: "grid", x1: x(left), x2: x(right), y1: y(at), y2: y(at) });
    draw(svg, "text", { x: x(left) - 8, y: y(at) + 4, "text-anchor": "end" }, words);
  }
};
const frame = (svg, [left, right], [low, high], xName, yName) => {
  const width = Math.max(svg.parentElement.clientWidth, 240);
  const height = Math.min(Math.max(width * CHART.ratio, CHART.least), CHART.most);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const x = (value) => CHART.left + ((value - left) / (right - left)) * (width - CHART.left - CHART.right);
  const y = (value) => height - CHART.bottom - ((value - low) / (high - low)) * (height - CHART.bottom - CHART.top);
  grid({ svg, x, y }, [left, right], [low, high], [width / 90, height / 60]);
  draw(svg, "text", { x: x((left + right) / 2), y: height - 6, "text-anchor": "middle" }, xName);
  const turned = `translate(12 ${y((low + high) / 2)}) rotate(-90)`;
  draw(svg, "text", { x: 0, y: 0, "text-anchor": "middle", transform: turned }, yName);
  return { x, y, right: x(right), svg };
};
const path = (plot, points) =>
  points.map(([x, y], k) => `${k ? "L" : "M"}${plot.x(x).toFixed(1)} ${plot.y(y).toFixed(1)}`).join("");
const ellipse = ([mean, [[a, b], [, c]]], chi2) => {
  const first = Math.sqrt(Math.max(a, 0)),
    lean = first ? b / first : 0,
    second = Math.sqrt(Math.max(c - lean * lean, 0));
  const radius = Math.sqrt(chi2);
  return Array.from({ length: 49 }, (_, k) => {
    const turn = (k * Math.PI) / 24;
    return [
      mean[0] + radius * first * Math.cos(turn),
      mean[1] + radius * (lean * Math.cos(turn) + second * Math.sin(turn)),
    ];
  });
};
const undominated = (points) =>
  points
    .filter(([x, y]) => !points.some(([a, b]) => a >= x && b >= y && (a > x || b > y)))
    .sort((one, other) => one[0] - other[0]);

const point = (plot, name, at, words, choose) => {
  const [x, y] = [plot.x(at[0]), plot.y(at[1])],
    size = 11,
    shape = data.names[name].shape;
  const group = draw(plot.svg, "g", { class: "point", tabindex: "0", role: "button", "aria-label": words });
  draw(group, "circle", { class: "halo", cx: x, cy: y, r: 12 });
  const look = { style: `fill:${colour(name)};stroke:var(--paper)` };
  if (shape) {
    const place = (middle, part) => middle + size * (part / 100 - 0.5);
    const corners = shape.map(([across, down]) => `${place(x, across)},${place(y, down)}`);
    draw(group, "polygon", { ...look, points: corners.join(" ") });
  } else draw(group, "circle", { ...look, cx: x, cy: y, r: size / 2 });
  const chosen = () => {
    for (const other of plot.svg.closest(".axis").querySelectorAll(".chosen")) other.classList.remove("chosen");
    group.classList.add("chosen");
    choose(plot.svg.closest("figure"));
  };
  for (const event of ["mouseenter", "focus", "click"]) group.addEventListener(event, chosen);
  return [x, y];
};
// Each name goes to the first place around its mark where it covers nothing and stays inside, or is left out.
const names = (plot, placed) => {
  const taken = placed.map(([, [x, y]]) => [x - 8, x + 8, y - 7, y + 7]);
  for (const [words, [x, y]] of placed) {
    const wide = LETTER * words.length;
    const around = [
      [x + 12, y],
      [x - 12 - wide, y],
      [x - wide / 2, y - 17],
      [x - wide / 2, y + 17],
      [x + 12, y - 15],
      [x + 12, y + 15],
    ];
    const boxes = around.map(([left, middle]) => [left, left + wide, middle - 7, middle + 7]);
    const free = ([left, right, top, bottom]) =>
      left >= CHART.left &&
      right <= plot.right &&
      !taken.some((box) => left < box[1] && right > box[0] && top < box[3] && bottom > box[2]);
    const box = boxes.find(free);
    if (!box) continue;
    taken.push(box);
    draw(plot.svg, "text", { class: "name", x: box[0], y: box[2] + 11 }, words);
  }
};
