// An axis of Elo: the frontier and the curves, the boxes that choose what they show, and what a mark says below them.
const NARROW = matchMedia("(max-width: 56rem)"); // the plots stand below each other
const NAMED = 8; // points that are named beside their marks
const SPAN = 100; // Elo that an axis shows at least

const placeOf = (figures) =>
  figures.helpful_elo && figures.harmless_elo && [figures.helpful_elo[0], figures.harmless_elo[0]];

const frontier = (svg, { axis, visible, tell }) => {
  const players = axis.players.filter((one) => visible(one) && placeOf(one.figures));
  const outlines = players.filter((one) => one.ellipse).map((one) => [one.name, ellipse(one.ellipse, axis.chi2)]);
  const trails = axis.lines
    .filter(visible)
    .map((one) => [one.name, one.points.map((at) => placeOf(at.figures)).filter(Boolean)]);
  const places = players.map((one) => placeOf(one.figures));
  const all = [...places, ...[...outlines, ...trails].flatMap(([, points]) => points)];
  if (!all.length) all.push([0, 0]);
  const [xs, ys] = [0, 1].map((k) => all.map((at) => at[k]));
  const plot = frame(svg, span(xs, 0.06, SPAN), span(ys, 0.06, SPAN), "Helpful Elo", "Harmless Elo");
  for (const [name, points] of outlines)
    draw(svg, "path", { d: path(plot, points) + "Z", style: `fill:${colour(name)};opacity:.16` });
  for (const [name, points] of trails)
    draw(svg, "path", { d: path(plot, points), style: `fill:none;stroke:${colour(name)};opacity:.45` });
  const dashed = "fill:none;stroke:var(--muted);stroke-dasharray:4 3";
  draw(svg, "path", { d: path(plot, undominated(places)), style: dashed });
  const placed = players.map((one) => {
    const label = data.names[one.name].label;
    const words = said(axis.metrics, label, one.figures, ["helpful_elo", "harmless_elo"]);
    const choose = (figure) => tell(one.name, label, one.figures, one, figure);
    return [label, point(plot, one.name, placeOf(one.figures), words, choose)];
  });
  if (placed.length <= NAMED) names(plot, placed);
};

const curve = (svg, { axis, visible, tell, select }) => {
  const name = select.value,
    metric = axis.metrics[name],
    times = metric.elo ? 1 : 100;
  const lines = axis.lines.filter(visible).map((one) => [one, one.points.filter((at) => at.figures[name])]);
  const scaled = (value) => times * value;
  const bounds = ([value, low, high]) => [scaled(low ?? value), scaled(high ?? value)];
  const values = lines.flatMap(([, points]) => points.flatMap((at) => bounds(at.figures[name])));
  const samples = lines.flatMap(([, points]) => points.map((at) => at.at));
  const range = span([0, ...values], 0.06, metric.elo ? SPAN : 5);
  const yName = metric.label + (times > 1 ? ", %" : "");
  const plot = frame(svg, [0, Math.max(1, ...samples) * 1.04], range, "RL samples", yName);
  for (const [one, points] of lines.filter(([, points]) => points.length)) {
    const [low, high] = [0, 1].map((end) => points.map((at) => [at.at, bounds(at.figures[name])[end]]));
    const middle = points.map((at) => [at.at, scaled(at.figures[name][0])]);
    const ribbon = `fill:${colour(one.name)};opacity:${0.2 / Math.sqrt(lines.length)}`;
    draw(svg, "path", { d: path(plot, [...low, ...high.reverse()]) + "Z", style: ribbon });
    draw(svg, "path", { d: path(plot, middle), style: `fill:none;stroke:${colour(one.name)};stroke-width:1.6` });
  }
  for (const [one, points] of lines) {
    const player = axis.players.find((other) => other.name === one.name);
    for (const at of points) {
      const title = `${data.names[one.name].label} after ${at.at.toLocaleString("en")} samples`;
      const words = said(axis.metrics, title, at.figures, [name]);
      const choose = (figure) => tell(one.name, title, at.figures, player, figure);
      point(plot, one.name, [at.at, scaled(at.figures[name][0])], words, choose);
    }
  }
};

const teller = (detail, metrics) => {
  const below = detail.parentElement;
  return (name, title, figures, player, near) => {
    (near && NARROW.matches ? near : below).append(detail); // where one column is, right below what was tapped
    const numbers = Object.entries(figures).map(([name, figure]) => {
      const more = make("small", {}, `${ends(figure, metrics[name])}, n = ${figure[3]}`);
      const value = make("dd", {}, shown(figure[0], metrics[name]), more);
      return make("div", {}, make("dt", {}, metrics[name].label), value);
    });
    detail.style.setProperty("--player", colour(name));
    detail.replaceChildren(make("h4", {}, key(name), title), make("dl", { class: "numbers" }, ...numbers));
    if (!player) return;
    if (data.runs.length > 1)
      detail.append(make("p", { class: "made" }, `In ${player.runs.map((k) => data.runs[k]).join(", ")}`));
    for (const [replicate, place] of player.made) detail.append(made(data.makers[place], `replicate ${replicate}: `));
  };
};

const plots = (root) => {
  const axis = data.axes[root.dataset.axis],
    form = root.querySelector("form"),
    select = root.querySelector("[data-metric]");
  const visible = (one) => {
    const runs = form.querySelector("[name=run]") ? checked(form, "run") : null;
    return checked(form, "player").has(one.name) && (!runs || one.runs.some((place) => runs.has(String(place))));
  };
  const tell = teller(root.querySelector(".detail"), axis.metrics);
  const drawn = (svg) => (svg.dataset.plot === "curve" ? curve : frontier)(svg, { axis, visible, tell, select });
  const redraw = () => root.querySelectorAll("[data-plot]").forEach(drawn);
  if (select) {
    const known = (name) => axis.lines.some((one) => one.points.some((at) => at.figures[name]));
    const options = Object.entries(axis.metrics).filter(([name]) => known(name));
    select.append(...options.map(([name, metric]) => make("option", { value: name }, metric.label)));
    select.addEventListener("change", () => drawn(root.querySelector("[data-plot=curve]")));
  }
  form.addEventListener("change", redraw);
  buttons(form, redraw);
  root.querySelector(".live").hidden = false;
  redraw();
  const last = axis.players.at(-1);
  if (last) tell(last.name, data.names[last.name].label, last.figures, last);
  root.querySelector(".static").hidden = true;
  let width = root.clientWidth;
  new ResizeObserver(() => {
    if (root.clientWidth === width) return;
    width = root.clientWidth;
    redraw();
  }).observe(root);
};
