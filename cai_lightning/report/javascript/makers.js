// What made a text: the replies and the model by stage/key, the sampler, and the settings at a click.
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
