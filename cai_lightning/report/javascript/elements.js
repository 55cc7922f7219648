// What every part uses: the data beside the script, elements, marks, boxes. Text is written as text only.
const data = JSON.parse(document.getElementById("joined-data").textContent);

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
