// The reading room: the list of prompts, and the open one with its replies side by side and its revisions.
const escaped = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const marked = (text, wanted) => {
  if (!wanted.length) return [text];
  const parts = text.split(new RegExp(`(${wanted.map(escaped).join("|")})`, "gi"));
  return parts.map((part, k) => (k % 2 ? make("mark", {}, part) : part));
};
const turn = (name, text, style, wanted) =>
  make("div", { class: `step ${style}` }, make("h4", {}, name), make("p", {}, ...marked(text, wanted)));

const chainOf = (form, wanted, chain) => {
  const block = make("div", { class: "chain" }),
    steps = rounds(form, chain);
  const first = chain.rounds.indexOf(steps[0]);
  const before = first ? chain.rounds[first - 1].text : chain.reply;
  block.append(turn(first ? `after round ${first}` : "reply", before, "reply", wanted));
  for (const one of steps) {
    const asked = data.principles[one.principle] ?? [];
    const words = `Round ${one.round} · ${one.principle}${asked.length ? ": " : ""}${asked.join(" → ")}`;
    block.append(make("p", { class: "principle" }, words));
    if (one.critique !== null) block.append(turn("critique", one.critique, "critique", wanted));
    block.append(turn("revision", one.text, "revision", wanted));
    if (one.cleaned.length) block.append(make("p", { class: "made" }, `cleaned: ${one.cleaned.join(", ")}`));
  }
  return make("div", {}, block, made(data.makers[chain.maker], "made by "));
};
const replyOf = (form, wanted, reply) => {
  const players = checked(form, "player"),
    one = data.makers[reply.maker];
  const called = one.players.filter((name) => players.has(name));
  const title = make("h4", {}, key(called[0]), called.map((name) => data.names[name].label).join(", "));
  const cut =
    reply.finish === "length" ? [make("p", { class: "made" }, "cut at the longest reply that is allowed")] : [];
  const text = make("p", {}, ...marked(reply.text, wanted));
  const look = { class: "answer", style: `--player:${colour(called[0])}` };
  return make("div", look, title, text, ...cut, made(one, ""));
};
const sideBySide = (form, one) => {
  const order = [...form.querySelectorAll("[name=player]")].map((box) => box.value);
  const rank = (reply) =>
    Math.min(...data.makers[reply.maker].players.map((name) => order.indexOf(name)).filter((k) => k >= 0));
  return replies(form, one).sort((a, b) => rank(a) - rank(b));
};
const opened = (form, wanted, one) => {
  if (!one) return [make("p", { class: "caption" }, "No transcript fits. Choose less, or search for other words.")];
  const parts = one.turns.slice(0, -1).map(([role, text]) => turn(role, text, "turn", wanted));
  parts.push(make("p", { class: "asked" }, ...marked(one.turns.at(-1)[1], wanted)));
  parts.push(make("p", { class: "made" }, `${one.kind.replaceAll("_", "-")} prompt ${one.id}`));
  const side = sideBySide(form, one).map((reply) => replyOf(form, wanted, reply));
  if (side.length) parts.push(make("h3", {}, "Replies side by side"), make("div", { class: "answers" }, ...side));
  const revised = chains(form, one).map((chain) => chainOf(form, wanted, chain));
  if (revised.length) parts.push(make("h3", {}, "Critique and revision"), ...revised);
  return parts;
};
const reading = (root) => {
  const form = root.querySelector("form"),
    list = root.querySelector("[data-prompts]"),
    open = root.querySelector("[data-open]");
  let current = null;
  const show = (one, wanted) => {
    current = one;
    open.replaceChildren(...opened(form, wanted, one));
  };
  const entry = (one, wanted) => {
    const radio = make("input", { type: "radio", name: "chosen-prompt", value: one.id });
    radio.checked = one === current;
    radio.addEventListener("change", () => show(one, wanted));
    const kind = make("span", { class: "kind" }, one.kind.replaceAll("_", "-"));
    return make("label", {}, radio, kind, ...marked(one.turns.at(-1)[1], wanted));
  };
  const redraw = () => {
    const wanted = choice(form, "search").split(/\s+/).filter(Boolean);
    const found = data.prompts.filter((one) => fits(form, wanted, one));
    root.querySelector("[data-count]").textContent = `${found.length} of ${data.prompts.length} prompts`;
    show(found.includes(current) ? current : (found[0] ?? null), wanted);
    list.replaceChildren(...found.map((one) => entry(one, wanted)));
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", redraw);
  buttons(form, redraw);
  root.hidden = false;
  redraw();
  root.previousElementSibling.hidden = true;
};
