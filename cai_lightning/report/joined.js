// The moving parts of a joined report. Reads the data beside it, fetches nothing, and writes text as text only.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("joined-data").textContent);
  const CHART = { ratio: 0.72, least: 300, most: 430, left: 52, right: 14, top: 12, bottom: 42 };
  const NARROW = matchMedia("(max-width: 56rem)"); // the plots stand below each other
  const NAMED = 8; // points that are named beside their marks
  const SPAN = 100; // Elo that an axis shows at least
  const LETTER = 6.6; // pixels of a letter of a name, or a little more

  // ---- elements ----
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const draw = (parent, tag, attributes = {}, text = "") => {
    const element = document.createElementNS(parent.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text;
    parent.append(element);
    return element;
  };
  const colour = (name) => `var(--${data.names[name].colour})`;
  const key = (name) => {
    const shape = data.names[name].shape;
    const outline = shape ? `polygon(${shape.map(([x, y]) => `${x}% ${y}%`).join(",")})` : "circle()";
    return make("i", { class: "key", style: `--player:${colour(name)};clip-path:${outline}` });
  };
  const checked = (form, name) => new Set([...form.querySelectorAll(`[name=${name}]:checked`)].map((box) => box.value));
  const buttons = (form, changed) =>
    form.addEventListener("click", (event) => {
      const every = event.target.matches("[data-all]");
      if (!every && !event.target.matches("[data-none]")) return;
      for (const box of event.target.closest("fieldset").querySelectorAll("input")) box.checked = every;
      changed();
    });

  // ---- numbers for readers ----
  const signed = (value) => (value > 0 ? "+" : value < 0 ? "\u2212" : "") + Math.abs(value);
  const shown = (value, metric) =>
    value === null ? "–" : metric.elo ? signed(Math.round(value)) : (100 * value).toFixed(1) + " %";
  const ends = ([, low, high], metric) =>
    low === null && high === null
      ? "no interval"
      : `${shown(low, metric)} … ${shown(high, metric)}`.replaceAll(" %", "");
  const tick = (value) => (value < 0 ? "\u2212" : "") + Number(Math.abs(value).toFixed(6)).toLocaleString("en");
  const steps = (low, high, count) => {
    const rough = (high - low) / count,
      power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high + 1e-9; k += 1) found.push([k * step, tick(k * step)]);
    return found;
  };

  // ---- what made a text ----
  const sampler = (one) => {
    const words = [`seed ${one.seed ?? "–"}`];
    for (const [name, value] of Object.entries(one.sampler))
      words.push(`${name.replaceAll("_", " ")} ${JSON.stringify(value)}`);
    return words.join(" · ");
  };
  const made = (one, before) => {
    const line = make("div", { class: "made" }, before, make("code", {}, one.name));
    if (one.model) line.append(" by ", make("code", {}, one.model));
    line.append(` · ${sampler(one)}`);
    if (data.runs.length > 1) line.append(` · ${one.runs.map((place) => data.runs[place]).join(", ")}`);
    if (one.constitution) line.append(` · constitution ${one.constitution}`);
    const rows = [...Object.entries(one.from).map(([place, name]) => `from ${place}: ${name}`)];
    rows.push(...Object.entries(one.settings).map(([place, value]) => `${place} = ${value}`));
    if (rows.length) {
      const list = make("ul", {}, ...rows.map((row) => make("li", {}, row)));
      line.append(make("details", {}, make("summary", {}, `settings of ${one.model}`), list));
    }
    return line;
  };

  // ---- plots ----
  const span = (values, room, least) => {
    let low = Math.min(...values),
      high = Math.max(...values);
    const missing = Math.max(least - (high - low), 0) / 2;
    low -= missing;
    high += missing;
    return [low - room * (high - low), high + room * (high - low)];
  };
  const frame = (svg, [left, right], [low, high], xName, yName) => {
    const width = Math.max(svg.parentElement.clientWidth, 240);
    const height = Math.min(Math.max(width * CHART.ratio, CHART.least), CHART.most);
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const x = (value) => CHART.left + ((value - left) / (right - left)) * (width - CHART.left - CHART.right);
    const y = (value) => height - CHART.bottom - ((value - low) / (high - low)) * (height - CHART.bottom - CHART.top);
    for (const [at, words] of steps(left, right, width / 90)) {
      draw(svg, "line", { class: "grid", x1: x(at), x2: x(at), y1: y(low), y2: y(high) });
      draw(svg, "text", { x: x(at), y: y(low) + 18, "text-anchor": "middle" }, words);
    }
    for (const [at, words] of steps(low, high, height / 60)) {
      draw(svg, "line", { class: "grid", x1: x(left), x2: x(right), y1: y(at), y2: y(at) });
      draw(svg, "text", { x: x(left) - 8, y: y(at) + 4, "text-anchor": "end" }, words);
    }
    draw(svg, "text", { x: x((left + right) / 2), y: height - 6, "text-anchor": "middle" }, xName);
    draw(
      svg,
      "text",
      { x: 0, y: 0, "text-anchor": "middle", transform: `translate(12 ${y((low + high) / 2)}) rotate(-90)` },
      yName,
    );
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
  const point = (plot, name, at, words, choose) => {
    const [x, y] = [plot.x(at[0]), plot.y(at[1])],
      size = 11,
      shape = data.names[name].shape;
    const group = draw(plot.svg, "g", { class: "point", tabindex: "0", role: "button", "aria-label": words });
    draw(group, "circle", { class: "halo", cx: x, cy: y, r: 12 });
    const look = { style: `fill:${colour(name)};stroke:var(--paper)` };
    if (shape) {
      const corners = shape.map(
        ([across, down]) => `${x + size * (across / 100 - 0.5)},${y + size * (down / 100 - 0.5)}`,
      );
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
  const undominated = (points) =>
    points
      .filter(([x, y]) => !points.some(([a, b]) => a >= x && b >= y && (a > x || b > y)))
      .sort((one, other) => one[0] - other[0]);

  const plots = (root) => {
    const axis = data.axes[root.dataset.axis],
      form = root.querySelector("form"),
      detail = root.querySelector(".detail");
    const select = root.querySelector("[data-metric]"),
      metrics = axis.metrics;
    const visible = (one) => {
      const runs = form.querySelector("[name=run]") ? checked(form, "run") : null;
      return checked(form, "player").has(one.name) && (!runs || one.runs.some((place) => runs.has(String(place))));
    };
    const below = detail.parentElement;
    const tell = (name, title, figures, player, figure) => {
      (figure && NARROW.matches ? figure : below).append(detail); // where one column is, right below what was tapped
      const numbers = Object.entries(figures).map(([metric, figure]) =>
        make(
          "div",
          {},
          make("dt", {}, metrics[metric].label),
          make(
            "dd",
            {},
            shown(figure[0], metrics[metric]),
            make("small", {}, `${ends(figure, metrics[metric])}, n = ${figure[3]}`),
          ),
        ),
      );
      detail.style.setProperty("--player", colour(name));
      detail.replaceChildren(make("h4", {}, key(name), title), make("dl", { class: "numbers" }, ...numbers));
      if (!player) return;
      if (data.runs.length > 1)
        detail.append(make("p", { class: "made" }, `In ${player.runs.map((k) => data.runs[k]).join(", ")}`));
      for (const [replicate, place] of player.made) detail.append(made(data.makers[place], `replicate ${replicate}: `));
    };
    const words = (title, figures, asked) =>
      [
        title,
        ...asked
          .filter((metric) => figures[metric])
          .map(
            (metric) =>
              `${metrics[metric].label} ${shown(figures[metric][0], metrics[metric])} (${ends(figures[metric], metrics[metric])})`,
          ),
      ].join(", ");
    const place = (figures) =>
      figures.helpful_elo && figures.harmless_elo && [figures.helpful_elo[0], figures.harmless_elo[0]];

    const frontier = (svg) => {
      const players = axis.players.filter((one) => visible(one) && place(one.figures));
      const outlines = players.filter((one) => one.ellipse).map((one) => [one.name, ellipse(one.ellipse, axis.chi2)]);
      const trails = axis.lines
        .filter(visible)
        .map((one) => [one.name, one.points.map((at) => place(at.figures)).filter(Boolean)]);
      const all = [
        ...players.map((one) => place(one.figures)),
        ...[...outlines, ...trails].flatMap(([, points]) => points),
      ];
      if (!all.length) all.push([0, 0]);
      const plot = frame(
        svg,
        span(
          all.map(([x]) => x),
          0.06,
          SPAN,
        ),
        span(
          all.map(([, y]) => y),
          0.06,
          SPAN,
        ),
        "Helpful Elo",
        "Harmless Elo",
      );
      for (const [name, points] of outlines)
        draw(svg, "path", { d: path(plot, points) + "Z", style: `fill:${colour(name)};opacity:.16` });
      for (const [name, points] of trails)
        draw(svg, "path", { d: path(plot, points), style: `fill:none;stroke:${colour(name)};opacity:.45` });
      const front = undominated(players.map((one) => place(one.figures)));
      draw(svg, "path", { d: path(plot, front), style: "fill:none;stroke:var(--muted);stroke-dasharray:4 3" });
      const placed = players.map((one) => [
        data.names[one.name].label,
        point(
          plot,
          one.name,
          place(one.figures),
          words(data.names[one.name].label, one.figures, ["helpful_elo", "harmless_elo"]),
          (figure) => tell(one.name, data.names[one.name].label, one.figures, one, figure),
        ),
      ]);
      if (placed.length <= NAMED) names(plot, placed);
    };
    const curve = (svg) => {
      const metric = select.value,
        times = metrics[metric].elo ? 1 : 100;
      const lines = axis.lines.filter(visible).map((one) => [one, one.points.filter((at) => at.figures[metric])]);
      const scaled = (value) => times * value;
      const bounds = ([value, low, high]) => [scaled(low ?? value), scaled(high ?? value)];
      const values = lines.flatMap(([, points]) => points.flatMap((at) => bounds(at.figures[metric])));
      const samples = lines.flatMap(([, points]) => points.map((at) => at.at));
      const range = metrics[metric].elo ? span([0, ...values], 0.06, SPAN) : span([0, ...values], 0.06, 5);
      const plot = frame(
        svg,
        [0, Math.max(1, ...samples) * 1.04],
        range,
        "RL samples",
        metrics[metric].label + (times > 1 ? ", %" : ""),
      );
      for (const [one, points] of lines) {
        const low = points.map((at) => [at.at, bounds(at.figures[metric])[0]]),
          high = points.map((at) => [at.at, bounds(at.figures[metric])[1]]);
        if (!points.length) continue;
        draw(svg, "path", {
          d: path(plot, [...low, ...high.reverse()]) + "Z",
          style: `fill:${colour(one.name)};opacity:${0.2 / Math.sqrt(lines.length)}`,
        });
        draw(svg, "path", {
          d: path(
            plot,
            points.map((at) => [at.at, scaled(at.figures[metric][0])]),
          ),
          style: `fill:none;stroke:${colour(one.name)};stroke-width:1.6`,
        });
      }
      for (const [one, points] of lines) {
        const { label } = data.names[one.name],
          player = axis.players.find((other) => other.name === one.name);
        for (const at of points) {
          const title = `${label} after ${at.at.toLocaleString("en")} samples`;
          point(plot, one.name, [at.at, scaled(at.figures[metric][0])], words(title, at.figures, [metric]), (figure) =>
            tell(one.name, title, at.figures, player, figure),
          );
        }
      }
    };
    if (select) {
      const known = Object.keys(metrics).filter((metric) =>
        axis.lines.some((one) => one.points.some((at) => at.figures[metric])),
      );
      select.append(...known.map((metric) => make("option", { value: metric }, metrics[metric].label)));
      select.addEventListener("change", () => curve(root.querySelector("[data-plot=curve]")));
    }
    const redraw = () => {
      for (const svg of root.querySelectorAll("[data-plot]")) (svg.dataset.plot === "curve" ? curve : frontier)(svg);
    };
    form.addEventListener("change", redraw);
    buttons(form, redraw);
    root.querySelector(".live").hidden = false;
    redraw();
    const last = axis.players.at(-1);
    if (last) tell(last.name, data.names[last.name].label, last.figures, last);
    root.querySelector(".static").hidden = true;
    let width = root.clientWidth;
    new ResizeObserver(() => {
      if (root.clientWidth !== width) {
        width = root.clientWidth;
        redraw();
      }
    }).observe(root);
  };

  // ---- transcripts ----
  const reading = (root) => {
    const form = root.querySelector("form"),
      list = root.querySelector("[data-prompts]"),
      open = root.querySelector("[data-open]");
    const choice = (name) => form.elements[name]?.value ?? "";
    const boxes = form.querySelector("[name=player]");
    let wanted = [],
      current = null;
    const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    const marked = (text) => {
      if (!wanted.length) return [text];
      const parts = text.split(new RegExp(`(${wanted.map(escaped).join("|")})`, "gi"));
      return parts.map((part, k) => (k % 2 ? make("mark", {}, part) : part));
    };
    const ofRun = (entry) => choice("run") === "" || data.makers[entry.maker].runs.includes(Number(choice("run")));
    const rounds = (chain) =>
      chain.rounds.filter(
        (step) =>
          (choice("round") === "" || step.round === Number(choice("round"))) &&
          (choice("principle") === "" || step.principle === choice("principle")),
      );
    const chains = (one) => one.chains.filter((chain) => ofRun(chain) && rounds(chain).length);
    const replies = (one) => {
      const players = boxes ? checked(form, "player") : new Set();
      return one.replies.filter(
        (reply) => ofRun(reply) && data.makers[reply.maker].players.some((name) => players.has(name)),
      );
    };
    const haystack = (one) =>
      [
        one.id,
        ...one.turns.map(([, text]) => text),
        ...replies(one).map((reply) => reply.text),
        ...chains(one).flatMap((chain) => [
          chain.reply,
          ...rounds(chain).flatMap((step) => [step.critique ?? "", step.text]),
        ]),
      ]
        .join("\n")
        .toLowerCase();
    const fits = (one) => {
      if (choice("kind") !== "" && one.kind !== choice("kind")) return false;
      const revised = chains(one).length > 0;
      if ((choice("principle") !== "" || choice("round") !== "") && !revised) return false;
      if (!revised && !replies(one).length) return false;
      const text = wanted.length ? haystack(one) : "";
      return wanted.every((word) => text.includes(word.toLowerCase()));
    };
    const step = (name, text, style) =>
      make("div", { class: `step ${style}` }, make("h4", {}, name), make("p", {}, ...marked(text)));
    const chainOf = (chain) => {
      const block = make("div", { class: "chain" }),
        steps = rounds(chain);
      const first = chain.rounds.indexOf(steps[0]);
      block.append(
        step(first ? `after round ${first}` : "reply", first ? chain.rounds[first - 1].text : chain.reply, "reply"),
      );
      for (const one of steps) {
        const asked = data.principles[one.principle] ?? [];
        block.append(
          make(
            "p",
            { class: "principle" },
            `Round ${one.round} · ${one.principle}${asked.length ? ": " : ""}${asked.join(" → ")}`,
          ),
        );
        if (one.critique !== null) block.append(step("critique", one.critique, "critique"));
        block.append(step("revision", one.text, "revision"));
        if (one.cleaned.length) block.append(make("p", { class: "made" }, `cleaned: ${one.cleaned.join(", ")}`));
      }
      return make("div", {}, block, made(data.makers[chain.maker], "made by "));
    };
    const replyOf = (reply) => {
      const players = checked(form, "player"),
        one = data.makers[reply.maker];
      const called = one.players.filter((name) => players.has(name));
      const title = make("h4", {}, key(called[0]), called.map((name) => data.names[name].label).join(", "));
      const cut =
        reply.finish === "length" ? [make("p", { class: "made" }, "cut at the longest reply that is allowed")] : [];
      return make(
        "div",
        { class: "answer", style: `--player:${colour(called[0])}` },
        title,
        make("p", {}, ...marked(reply.text)),
        ...cut,
        made(one, ""),
      );
    };
    const order = [...form.querySelectorAll("[name=player]")].map((box) => box.value);
    const rank = (reply) =>
      Math.min(...data.makers[reply.maker].players.map((name) => order.indexOf(name)).filter((k) => k >= 0));
    const show = (one) => {
      current = one;
      open.replaceChildren();
      if (!one) {
        open.append(make("p", { class: "caption" }, "No transcript fits. Choose less, or search for other words."));
        return;
      }
      for (const [role, text] of one.turns.slice(0, -1)) open.append(step(role, text, "turn"));
      open.append(
        make("p", { class: "asked" }, ...marked(one.turns.at(-1)[1])),
        make("p", { class: "made" }, `${one.kind.replaceAll("_", "-")} prompt ${one.id}`),
      );
      const side = replies(one).sort((a, b) => rank(a) - rank(b));
      if (side.length)
        open.append(make("h3", {}, "Replies side by side"), make("div", { class: "answers" }, ...side.map(replyOf)));
      const revised = chains(one);
      if (revised.length) open.append(make("h3", {}, "Critique and revision"), ...revised.map(chainOf));
    };
    const redraw = () => {
      wanted = choice("search").split(/\s+/).filter(Boolean);
      const found = data.prompts.filter(fits);
      root.querySelector("[data-count]").textContent = `${found.length} of ${data.prompts.length} prompts`;
      const next = found.includes(current) ? current : (found[0] ?? null);
      list.replaceChildren(
        ...found.map((one) => {
          const radio = make("input", { type: "radio", name: "chosen-prompt", value: one.id });
          radio.checked = one === next;
          radio.addEventListener("change", () => show(one));
          return make(
            "label",
            {},
            radio,
            make("span", { class: "kind" }, one.kind.replaceAll("_", "-")),
            ...marked(one.turns.at(-1)[1]),
          );
        }),
      );
      show(next);
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("input", redraw);
    buttons(form, redraw);
    root.hidden = false;
    redraw();
    root.previousElementSibling.hidden = true;
  };

  for (const root of document.querySelectorAll("[data-axis]")) plots(root);
  for (const root of document.querySelectorAll(".reading")) reading(root);
})();
