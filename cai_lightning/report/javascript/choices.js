// Which prompts, replies and rounds the reader asked for: a form's choices, and the words that are searched.
const choice = (form, name) => form.elements[name]?.value ?? "";
const ofRun = (form, entry) =>
  choice(form, "run") === "" || data.makers[entry.maker].runs.includes(Number(choice(form, "run")));
const rounds = (form, chain) =>
  chain.rounds.filter(
    (step) =>
      (choice(form, "round") === "" || step.round === Number(choice(form, "round"))) &&
      (choice(form, "principle") === "" || step.principle === choice(form, "principle")),
  );
const chains = (form, one) => one.chains.filter((chain) => ofRun(form, chain) && rounds(form, chain).length);
const replies = (form, one) => {
  const players = checked(form, "player");
  return one.replies.filter(
    (reply) => ofRun(form, reply) && data.makers[reply.maker].players.some((name) => players.has(name)),
  );
};
const haystack = (form, one) => {
  const revised = chains(form, one).flatMap((chain) => [
    chain.reply,
    ...rounds(form, chain).flatMap((step) => [step.critique ?? "", step.text]),
  ]);
  const asked = one.turns.map(([, text]) => text);
  return [one.id, ...asked, ...replies(form, one).map((reply) => reply.text), ...revised].join("\n").toLowerCase();
};
const fits = (form, wanted, one) => {
  if (choice(form, "kind") !== "" && one.kind !== choice(form, "kind")) return false;
  const revised = chains(form, one).length > 0;
  if ((choice(form, "principle") !== "" || choice(form, "round") !== "") && !revised) return false;
  if (!revised && !replies(form, one).length) return false;
  const text = wanted.length ? haystack(form, one) : "";
  return wanted.every((word) => text.includes(word.toLowerCase()));
};
