// Numbers as readers want them: signs, per cent, ends of intervals, the ticks of an axis.
const signed = (value) => (value > 0 ? "+" : value < 0 ? "\u2212" : "") + Math.abs(value);
const shown = (value, metric) =>
  value === null ? "–" : metric.elo ? signed(Math.round(value)) : (100 * value).toFixed(1) + " %";
const ends = ([, low, high], metric) =>
  low === null && high === null
    ? "no interval"
    : `${shown(low, metric)} … ${shown(high, metric)}`.replaceAll(" %", "");
const said = (metrics, title, figures, asked) =>
  [
    title,
    ...asked
      .filter((name) => figures[name])
      .map((name) => [metrics[name], figures[name]])
      .map(([metric, figure]) => `${metric.label} ${shown(figure[0], metric)} (${ends(figure, metric)})`),
  ].join(", ");
const tick = (value) => (value < 0 ? "\u2212" : "") + Number(Math.abs(value).toFixed(6)).toLocaleString("en");
const steps = (low, high, count) => {
  const rough = (high - low) / count,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9; k += 1) found.push([k * step, tick(k * step)]);
  return found;
};
